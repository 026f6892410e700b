"""What CHECK lets through is packed, whatever is drawn."""

import contextlib
import shutil
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from template_learning.common.errors import BadInput
from template_learning.common.provenance import read_sidecar
from template_learning.packing.limits import body_reach_angstrom, check_assemblies, check_fits_box
from template_learning.packing.tetris import _shapes
from template_learning.settings import TetrisSettings
from template_learning.stages.tetris import pack_sample
from template_learning.structures.library import LibraryEntry, read_library

from ..builders import VOXEL_ANGSTROM

RESOLUTION_ANGSTROM = 32.0


def fractions(least: float = 0.05) -> st.SearchStrategy[tuple[float, float]]:
    return st.tuples(st.floats(least, 1.0), st.floats(least, 1.0)).map(lambda pair: tuple(sorted(pair)))  # type: ignore[return-value]


SETTINGS = st.fixed_dictionaries(
    {
        "shape_voxels": st.tuples(st.integers(8, 26), st.integers(12, 28), st.integers(12, 28)),
        "filled_thickness_fraction": fractions(),
        "slab_thickness_angstrom": st.none() | st.floats(20, 500),
        "margin_angstrom": st.sampled_from([0.0, 0.0, 10.0, 60.0]),
        "excluded_volume": st.sampled_from(["density", "atoms"]),
        "packing_voxel_size_angstrom": st.none() | st.floats(10, 24),
        "density_threshold": st.floats(0.05, 0.8),
        "distractors_per_template": st.sampled_from([0.0, 1.0, 5.0]),
        "density_gradient": st.sampled_from([0.0, 0.5, 1.0]),
        "placer": st.sampled_from(["tetris", "random"]),
        "maximum_counts": st.sampled_from([[], ["ball=2"], ["disc=0", "ball=0"]]),
        "retries": st.integers(0, 3),
        "stop_at": st.just({"molecules": 6}),
        "vesicles": st.fixed_dictionaries(
            {
                "count": st.integers(0, 3),
                "radius_angstrom": st.tuples(st.floats(60, 120), st.floats(120, 400)),
                "membrane_molecules": st.sampled_from([[], ["channel=2"], ["channel=1@-20"]]),
            }
        ),
        "filaments": st.fixed_dictionaries(
            {
                "counts": st.sampled_from([[], ["unit=1"]]),
                "microtubules": st.sampled_from([[], [], ["unit=1"]]),
                "length_angstrom": st.floats(5, 600),
                "persistence_angstrom": st.floats(100, 1e6),
                "radius_angstrom": st.sampled_from([0.0, 16.0]),
            }
        ),
    }
)


def checked(chosen: TetrisSettings, library: dict[str, LibraryEntry], diameters: dict[str, float]) -> None:
    """What CHECK looks at."""
    check_assemblies(chosen, VOXEL_ANGSTROM, {entry.row.species for entry in library.values()})
    for diameter in diameters.values():
        check_fits_box(chosen, VOXEL_ANGSTROM, RESOLUTION_ANGSTROM, diameter)


@pytest.fixture(scope="module")
def diameters(cell_library: Path) -> dict[str, float]:
    return {name: float(pdist(entry.atoms()[0][::3]).max()) for name, entry in read_library([cell_library]).items()}


@given(options=SETTINGS, seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_check_refuses_or_packing_succeeds(
    cell_library: Path, diameters: dict[str, float], options: dict[str, object], seed: int
) -> None:
    chosen = TetrisSettings.model_validate(options)
    try:
        checked(chosen, read_library([cell_library]), diameters)
    except BadInput:
        return
    output = Path(mkdtemp())
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, output)
        facts = read_sidecar(pack_sample([cell_library], "s", chosen, seed, output))
        asked = chosen.vesicles.count
        assert len(facts["vesicles"]) == asked or sum("left out" in note for note in facts["notes"]) == asked - len(
            facts["vesicles"]
        )


@pytest.mark.parametrize("threshold", [0.05, 0.25, 0.8])
@pytest.mark.parametrize("smoothing", [0.5, 1.65, 3.0])
def test_no_body_reaches_further_beyond_its_atoms_than_check_reckons_with(
    cell_library: Path, diameters: dict[str, float], threshold: float, smoothing: float
) -> None:
    chosen = TetrisSettings(density_threshold=threshold, smoothing_voxels=smoothing)
    shapes, _ = _shapes(read_library([cell_library]), chosen)
    reach = body_reach_angstrom(chosen, VOXEL_ANGSTROM, RESOLUTION_ANGSTROM)
    for name, shape in shapes.items():
        assert shape.extent_angstrom()[-1] <= diameters[name] + 2 * reach


def test_a_sample_whose_slab_was_drawn_too_thin_is_packed_all_the_same(cell_library: Path, tmp_path: Path) -> None:
    thin = TetrisSettings(shape_voxels=(24, 24, 24), filled_thickness_fraction=(0.05, 0.06), stop_at={"molecules": 3})
    facts = read_sidecar(pack_sample([cell_library], "s", thin, 1, tmp_path))
    assert facts["slab_thickness_angstrom"] > 0.06 * 24 * VOXEL_ANGSTROM
    assert facts["molecules"] == 3
