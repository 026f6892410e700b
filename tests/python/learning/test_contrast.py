"""Whether protein is dark or bright: on toy tomograms, another simulator's and real ones."""

from pathlib import Path

import numpy as np
import pytest
from template_learning.common.mrc import read_mrc
from template_learning.learning import contrast
from template_learning.learning.contrast import BLOCK_VOXELS, FoundContrast, find_contrast
from template_learning.learning.fit import blob_skewness, object_radius_voxels
from template_learning.learning.model_card import ModelCard
from template_learning.learning.model_file import load_model
from template_learning.settings import SegmentSettings

NUCLEOSOME = Path(__file__).parents[3] / "models" / "nucleosome_8A.keras"
CARD = ModelCard(voxel_size_angstrom=8.0, classes={1: ["x"]}, filters=4, patch_voxels=48)

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_neither_voice_decides_alone() -> None:
    """Clear grey values outdo a network that is at a loss; where they say little the network decides."""
    assert FoundContrast(skewness=4.0, found_dark=0.01, found_bright=0.001).sign == "protein_bright"
    assert FoundContrast(skewness=0.1, found_dark=0.01, found_bright=0.001).sign == "protein_dark"
    assert FoundContrast(skewness=-0.1, found_dark=0.001, found_bright=0.01).sign == "protein_bright"
    doubtful = FoundContrast(skewness=4.0, found_dark=0.01, found_bright=0.001)
    assert "do not agree" in doubtful.words()
    assert "do not agree" not in FoundContrast(skewness=-1.0, found_dark=0.01, found_bright=0.001).words()
    nothing = FoundContrast(skewness=0.0, found_dark=0.0, found_bright=0.0)
    assert (nothing.evidence, nothing.sign) == (0.0, "protein_dark")


def test_a_large_tomogram_is_seen_in_blocks_of_its_middle_and_a_small_one_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def network(_network, _card, block, _voxel, settings):  # type: ignore[no-untyped-def]
        seen.append((settings.contrast, block.shape, float(block.mean())))
        return np.full((*block.shape, 2), 0.5, np.float32)

    monkeypatch.setattr(contrast, "segment_resampled", network)
    monkeypatch.setattr(contrast, "blob_skewness", lambda *_: 0.0)
    edge = BLOCK_VOXELS // 2  # of voxels twice the model's
    monkeypatch.setattr(contrast, "BLOCK_VOXELS", edge)
    data = np.zeros((96, 160, 160), np.float32)
    data[:, 80:] = np.arange(96)[:, None, None]  # half of it is one grey value
    find_contrast(None, CARD, data, 8.0, SegmentSettings())
    assert len(seen) == 2 * 6  # one row of blocks of three has nothing in it
    assert {shape for _, shape, _ in seen} == {(edge, edge, edge)}
    assert [sign for sign, _, _ in seen[:2]] == ["protein_dark", "protein_bright"]
    seen.clear()
    find_contrast(None, CARD, data[:, 60:100, 60:100], 8.0, SegmentSettings())
    assert [shape for _, shape, _ in seen] == [(96, 40, 40)] * 2
    seen.clear()
    assert find_contrast(None, CARD, np.ones((40, 40, 40)), 8.0, SegmentSettings()).sign == "protein_dark"
    assert not seen


@pytest.mark.shared
@pytest.mark.long
def test_dark_nucleosomes_of_another_simulator_and_bright_ones_of_real_chromatin(shared_data: Path) -> None:
    """CHECK's doubt, by grey values alone, agrees with what is found."""
    network, card = load_model(NUCLEOSOME)
    dark = [(shared_data / "imod_reference/tomogram_default.mrc.gz", 8.0)]
    crops = shared_data / "real/chromatin"
    bright = [
        (crops / f"{name}.mrc.gz", size) for name, size in (("xlinked_10", 6.65), ("native_3", 8.4), ("condensed_1_4", 5.51))
    ]
    if not crops.is_dir():
        pytest.skip("no real chromatin in ../shared/data")
    for path, size in dark + bright:
        data = np.asarray(read_mrc(path, need_voxel_size=False)[0], np.float32)
        for sign in (1, -1) if (path, size) in dark else (1,):
            found = find_contrast(network, card, sign * data, size, SegmentSettings())
            expected = "protein_bright" if ((path, size) in bright) == (sign > 0) else "protein_dark"
            assert found.sign == expected, (path.name, sign, found)
            by_grey = blob_skewness(sign * data, object_radius_voxels(card, size))
            assert (by_grey > 0.2) == (expected == "protein_bright")
