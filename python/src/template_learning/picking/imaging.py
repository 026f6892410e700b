"""MATCH: how a tomogram was taken, and what a search gives back, whichever program searched."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from template_learning.errors import BadInput
from template_learning.files import existing
from template_learning.settings import MatchSettings
from template_learning.simulation.acquisition import tilt_angles


@dataclass(frozen=True)
class Imaging:
    """How a tilt series was taken, as far as the template's contrast transfer and missing wedge need it.

    ``defocus_um`` is negative for underfocus, None for no contrast transfer at all; ``ctf_corrected`` says that phases were
    flipped in the tomogram.
    """

    angles_deg: tuple[float, ...]
    defocus_um: float | None
    phase_shift_deg: float
    voltage_kv: float
    spherical_aberration_mm: float
    ctf_corrected: bool

    @classmethod
    def of_simulation(cls, sidecar: Path) -> "Imaging":
        """That of a simulated tilt series, from its sidecar; BadInput where that lacks something."""
        try:
            facts = json.loads(existing(sidecar).read_text(encoding="utf-8"))
            return cls(
                angles_deg=tuple(float(angle) for angle in facts["angles_deg"]),
                defocus_um=float(facts["row"]["defocus_um"]),
                phase_shift_deg=float(facts["row"]["phase_shift_deg"]),
                voltage_kv=float(facts["settings"]["voltage_kv"]),
                spherical_aberration_mm=float(facts["settings"]["spherical_aberration_mm"]),
                ctf_corrected=False,
            )
        except (KeyError, TypeError, ValueError):
            raise BadInput(f"{sidecar}: angles_deg, row and settings of a simulated tilt series were expected") from None

    @classmethod
    def of_settings(cls, settings: MatchSettings) -> "Imaging":
        """That of the user's tomograms."""
        return cls(
            angles_deg=tuple(tilt_angles(settings.tilt_range_deg, settings.tilt_step_deg).tolist()),
            defocus_um=settings.defocus_um,
            phase_shift_deg=settings.phase_shift_deg,
            voltage_kv=settings.voltage_kv,
            spherical_aberration_mm=settings.spherical_aberration_mm,
            ctf_corrected=settings.ctf_corrected,
        )


@dataclass(frozen=True, eq=False)
class Search:
    """The score of each voxel [z, y, x], the highest over orientations, and what made it."""

    scores: NDArray[np.float32]
    command: str
    program: str
    program_version: str
