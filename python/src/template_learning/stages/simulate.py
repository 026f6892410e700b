"""SIMULATE: a packed sample and its row of the design in, its tilt series out."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from template_learning.common.compute import processors
from template_learning.common.errors import BadInput
from template_learning.common.files import checked_id
from template_learning.common.provenance import generator_for, read_sidecar
from template_learning.common.tables import DesignRow
from template_learning.packing.limits import check_ice_thickness
from template_learning.settings import SimulateCommandSettings
from template_learning.simulation.ice import Cuboid, Slab
from template_learning.simulation.nuisances import draw_nuisances
from template_learning.simulation.overlaps import with_ice_put_back
from template_learning.simulation.parakeet import simulate_by_parakeet
from template_learning.simulation.series import (
    KeptWaves,
    TiltImaging,
    placed_sample,
    series_engine,
    settings_of_row,
    shown,
    taken_tilts,
    write_series,
)


def simulate_sample(
    placed: Path,
    library_folders: Sequence[Path],
    row: DesignRow,
    settings: SimulateCommandSettings,
    root_seed: int,
    output: Path,
    waves: Path | None = None,
) -> None:
    """SIMULATE the tilt series of one packed sample.

    Writes ``<row.id>.tilts.mrc`` (counted electrons, float32 [tilt, y, x], sorted by angle, protein dark) over the
    sample's field, ``<row.id>.tlt`` (nominal degrees, one a line) and a sidecar; with ``settings.keep_waves`` also
    ``<row.id>.waves.npy`` (exit waves, complex64).

    Parameters
    ----------
    placed : Path
        The sample's ``<id>.placed.csv``, its sidecar beside it.
    library_folders : sequence of Path
        What VOLUME wrote.
    row : DesignRow
        How it is imaged.
    settings : SimulateCommandSettings
        Sections ``simulate`` and ``microscope``.
    root_seed : int
        The run's seed.
    output : Path
        Folder to write to.
    waves : Path, optional
        A ``<id>.waves.npy`` of the same sample and tilts, imaged again with this row's optics and dose instead of
        propagating; its ice, damage, gold, carbon and misalignment stay.

    Raises
    ------
    BadInput
        Wrong input, a GPU asked for and absent, or waves of other tilts or another grid.
    """
    if settings.engine == "parakeet":
        if waves is not None:
            raise BadInput("simulate: --waves is for simulate.engine = 'native'")
        simulate_by_parakeet(placed, library_folders, row, settings, root_seed, output)
        return
    started = time.perf_counter()
    checked_id(row.id)
    settings = settings_of_row(settings, row)
    packed, grid = placed_sample(placed, library_folders, hydrogens=settings.hydrogens)
    x, y, z = map(float, grid.extent_angstrom)
    if row.ice_thickness_angstrom is not None:
        z = row.ice_thickness_angstrom
        check_ice_thickness(z, 2 * float(np.abs(packed.position_angstrom[:, 2]).max(initial=0.0)))
        packed = replace(packed, ice=Slab(z))
    sample, put_back = with_ice_put_back(packed)
    if settings.ice_shape == "cuboid":
        sample = replace(sample, ice=Cuboid((x, y, z)))
    engine = series_engine(sample, grid, row, settings)
    taken = taken_tilts(row, settings, root_seed)
    angles = taken.angle_deg
    kept = None
    if waves is not None:
        engine = replace(engine, padding_angstrom=read_sidecar(waves).get("padding_angstrom", engine.padding_angstrom))
        kept = KeptWaves.read(waves, engine, angles)
    generator = generator_for(root_seed, "simulate", f"{row.id}/nuisances")
    imaging = TiltImaging(engine, row, settings, taken, draw_nuisances(row, np.array([x, y, z]), taken, generator))
    keep = KeptWaves.new(engine, angles) if settings.keep_waves else None

    def simulate_tilt(index: int) -> NDArray[np.float32]:
        if kept is not None:
            wave, exit_angstrom = engine.device.put(kept.wave[index]), float(kept.exit_angstrom[index])
        else:
            view = imaging.nuisances.view(index, angles[index])
            grain = generator_for(root_seed, "simulate", f"{row.id}/{index}/ice")
            gratings = imaging.nuisances.gratings(engine, view)
            wave, exit_angstrom = engine.exit_wave(view, taken.dose_at_end[index], grain, gratings)
        if keep is not None:
            keep.wave[index], keep.exit_angstrom[index] = engine.device.get(wave), exit_angstrom
        return imaging.counts(wave, exit_angstrom, index, generator_for(root_seed, "simulate", f"{row.id}/{index}/counts"))

    with ThreadPoolExecutor(min(processors(), len(angles))) as pool:
        images = np.stack(list(shown(pool.map(simulate_tilt, range(len(angles))), len(angles))))
    output.mkdir(parents=True, exist_ok=True)
    if keep is not None:
        keep.write(output / f"{row.id}.waves.npy", engine)
    write_series(
        output,
        images,
        engine.pixel_angstrom,
        packed,
        grid,
        row,
        taken,
        settings,
        root_seed,
        ice_put_back_angstrom3=round(put_back, 1),
        nuisances=imaging.nuisances.metadata(),
        device=engine.device.name,
        waves=None if waves is None else waves.name,
        simulation_seconds=round(time.perf_counter() - started, 3),
    )
