"""Template matching (pytme, or pytom-match-pick on GPUs) on Parakeet's nucleosomes, at falling dose.

One template searches the tomograms of ``scenes.make_low_dose_tomograms``, with their exact contrast transfer and wedge;
its picks are scored by ``scenes.score``.
"""

import argparse
from pathlib import Path
from typing import Literal

import numpy as np
from harness import BUILD, SHARED, Figure, report
from scenes import DOSES, MATCH_VOXELS, VOXEL, make_library, make_low_dose_tomograms, molecule_row, score, truth
from template_learning.common.files import read_table
from template_learning.common.provenance import read_sidecar
from template_learning.common.tables import PickRow
from template_learning.settings import MatchCommandSettings, VolumeSettings
from template_learning.stages.match import match_tomogram
from template_learning.template_matching.pytme import pytme_version

TOMOGRAMS = {
    "imod": "IMOD's tomogram of Parakeet's images",
    **{f"dose_{dose}": f"Parakeet's images at {dose} e/Å^2, reconstructed natively" for dose in DOSES},
}
SCORES = {
    "f1": "F1 of the picks above the program's threshold",
    "precision": "their precision",
    "recall": "nucleosomes among them",
    "recall_top": "top views among them",
    "recall_side": "side views among them",
    "recall_top_free": "top views among them, of those that stand free of other molecules",
    "f1_best": "best F1 over all thresholds, with the truth known",
    "threshold_best": "the threshold of that",
    "picks": "picks above the threshold",
    "matched": "those of them that are right",
    "nucleosomes": "nucleosomes that can be found",
    "top_views": "top views among these",
    "side_views": "side views among these",
    "free_top_views": "top views that stand free",
    "found_top": "top views found",
    "found_side": "side views found",
    "recall_top_of_first": "top views among as many of the first picks as there are nucleosomes",
    "recall_side_of_first": "side views among as many",
    "seconds": "seconds of the search",
}
FIGURES = {f"{key}_{name}": Figure(f"{what}: {meaning}") for name, what in TOMOGRAMS.items() for key, meaning in SCORES.items()}


def nucleosome_library(folder: Path) -> Path:
    """A library of the reference's first nucleosome (2pyo), what the search is made with."""
    if not (folder / "library.csv").is_file():
        first = SHARED / "structures" / "nucleosome" / "2pyo.cif.gz"
        make_library([molecule_row(first, "nucleosome")], VolumeSettings(), folder)
    return folder


def matching_settings(angular_step_deg: float) -> MatchCommandSettings:
    """Exact contrast transfer and missing wedge of the reference's tilt series."""
    return MatchCommandSettings(
        run=True,
        angular_step_deg=angular_step_deg,
        defocus_um=-2.5,
        tilt_range_deg=60,
        tilt_step_deg=4,
        radius_angstrom=MATCH_VOXELS * VOXEL,
    )


def matched(
    tomogram: Path, name: str, angular_step_deg: float = 20.0, engine: Literal["pytme", "pytom"] = "pytme"
) -> dict[str, float]:
    """Figures of a program's picks in one tomogram, kept under build/bench/matching; the seconds are those of the search."""
    folder = BUILD / "matching" / (f"{angular_step_deg:g}deg" + ("" if engine == "pytme" else f"_{engine}"))
    table = folder / f"{name}.picks.csv"
    if not table.is_file():
        library = nucleosome_library(BUILD / "matching" / "library")
        settings = matching_settings(angular_step_deg).model_copy(update={"engine": engine})
        match_tomogram(tomogram, [library], name, settings, folder)
    picks = read_table(table, PickRow)
    position = np.array([(pick.x_angstrom, pick.y_angstrom, pick.z_angstrom) for pick in picks])
    value = np.array([pick.score for pick in picks])
    metadata = read_sidecar(table)
    first = score(position, value, first=len(truth().beam_angle_deg))
    return {
        **score(position, value, threshold=metadata["threshold"]),
        "recall_top_of_first": first["recall_top"],
        "recall_side_of_first": first["recall_side"],
        "seconds": metadata["matching_seconds"],
    }


def main() -> None:
    """Search IMOD's tomogram, or those of the doses named, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--doses", type=int, nargs="*", default=[], help="e/Å^2; IMOD's tomogram (120 e/Å^2) is always searched"
    )
    parser.add_argument("--angular-step", type=float, default=20.0, help="degrees")
    parser.add_argument("--engine", choices=["pytme", "pytom"], default="pytme")
    given = parser.parse_args()
    figures: dict[str, float] = {}
    tomograms = {"imod": SHARED / "imod_reference" / "tomogram_default.mrc.gz"}
    tomograms |= {
        f"dose_{dose}": path for dose, path in make_low_dose_tomograms(BUILD / "lowdose").items() if dose in given.doses
    }
    for name, path in tomograms.items():
        figures |= {f"{key}_{name}": value for key, value in matched(path, name, given.angular_step, given.engine).items()}
    report("template_matching", figures, FIGURES, f"pytme {pytme_version()}" if given.engine == "pytme" else "pytom-match-pick")


if __name__ == "__main__":
    main()
