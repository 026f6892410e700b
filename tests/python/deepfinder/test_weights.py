"""The network and its weights against the published DeepFinder's."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from template_learning.common.errors import BadInput
from template_learning.deepfinder.program import OWN_WAYS, effective_settings
from template_learning.deepfinder.weights import load_weights, network_sizes, read_weights, save_weights
from template_learning.learning.network import build_network, tversky_loss
from template_learning.settings import Settings, TrainSettings, flat

# Keras on NumPy 2 warns of its own saving and weight reading.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

GOLDEN = Path(__file__).parents[2] / "data" / "deepfinder_golden.npz"


def golden_network() -> tuple[Any, np.random.Generator]:
    """Our network with the weights that make_deepfinder_golden.py gave to DeepFinder's."""
    network = build_network(3)
    generator = np.random.default_rng(20)
    network.set_weights([generator.normal(0, 0.07, weight.shape) for weight in network.get_weights()])
    return network, generator


def test_same_layers_output_and_loss_as_deepfinders_own_network() -> None:
    network, generator = golden_network()
    grey = generator.standard_normal((2, 12, 12, 12, 1)).astype(np.float32)
    labels = generator.integers(0, 3, (2, 12, 12, 12))
    with np.load(GOLDEN) as golden:
        assert [str(weight.shape) for weight in network.get_weights()] == golden["shapes"].tolist()
        probability = network.predict_on_batch(grey)
        assert golden["probability"].std() > 0.02
        assert np.abs(probability - golden["probability"]).max() < 1e-5
        assert float(np.asarray(tversky_loss(labels, golden["probability"]))) == pytest.approx(float(golden["loss"]), abs=1e-5)


@pytest.mark.parametrize("whole", [True, False])
def test_weights_that_keras_saved_are_read(tmp_path: Path, whole: bool) -> None:
    network, _ = golden_network()
    path = tmp_path / "net_weights_FINAL.h5"
    if whole:
        network.save(path)  # DeepFinder saves the whole model
    else:
        # Keras 3 has no public door to the older weight files any more.
        from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

        with h5py.File(path, "w") as file:
            save_weights_to_hdf5_group(file, network)
    weights = read_weights(path)
    assert network_sizes(weights) == (3, 32)
    other = build_network(3)
    load_weights(other, path)
    for one, two in zip(network.get_weights(), other.get_weights(), strict=True):
        assert np.array_equal(one, two)


def test_weights_that_we_save_are_read_by_keras(tmp_path: Path) -> None:
    network, _ = golden_network()
    save_weights(network, tmp_path / "weights.h5")
    other = build_network(3)
    other.load_weights(tmp_path / "weights.h5")
    for one, two in zip(network.get_weights(), other.get_weights(), strict=True):
        assert np.array_equal(one, two)
    assert all(
        np.array_equal(one, two) for one, two in zip(read_weights(tmp_path / "weights.h5"), network.get_weights(), strict=True)
    )


def test_other_files_and_networks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    path.write_bytes(b"no HDF5")
    with pytest.raises(BadInput, match="not a file of Keras weights"):
        read_weights(path)
    save_weights(golden_network()[0], path)
    with pytest.raises(BadInput, match=r"\(32,\) where|32\) where"):
        load_weights(build_network(3, 16), path)
    for other in (build_network(3, 16), build_network(3, 32, "residual"), build_network(3, 32, batch_normalisation=True)):
        with pytest.raises(BadInput, match="DeepFinder's has 32"):
            save_weights(other, path)


def test_the_preset_is_deepfinders_training() -> None:
    preset = Settings.model_validate(yaml.safe_load((GOLDEN.parents[2] / "presets" / "deepfinder.yml").read_text())).train
    # Facts of cryoet-deepfinder 0.2.1 (training.py); its own numbers where the paper's text gives a range.
    assert (preset.epochs, preset.steps_per_epoch, preset.batch_size, preset.augmentation.random_shift_voxels) == (
        100,
        100,
        25,
        13,
    )
    assert 52 <= preset.patch_voxels <= 56
    assert (
        preset.loss.crossentropy_weight,
        preset.background_fraction,
        preset.augmentation.minimum_dose_e_per_angstrom2,
        preset.augmentation.contrast_jitter,
    ) == (0, 0, None, 0)
    assert (preset.normalisation, preset.augmentation.rotation, preset.bootstrap, preset.optimizer.learning_rate) == (
        "patch",
        "tilt_axis",
        True,
        1e-4,
    )
    assert (preset.augmentation.missing_wedge_jitter_deg, preset.dose_curriculum_fraction, preset.filters) == (0, 0, 32)
    assert (preset.network, preset.batch_normalisation, preset.loss.tversky_weight) == ("deepfinder", False, 1)


def test_what_deepfinder_does_not_have_is_set_to_its_own_ways(capsys: pytest.CaptureFixture[str]) -> None:
    asked = TrainSettings(
        engine="deepfinder", augmentation={"missing_wedge_jitter_deg": 10}, dose_curriculum_fraction=0.5, filters=32
    )
    done = effective_settings(asked)
    assert (done.augmentation.missing_wedge_jitter_deg, done.dose_curriculum_fraction) == (0, 0)
    assert done.augmentation.rotation == "tilt_axis"
    assert {"augmentation.missing_wedge_jitter_deg", "dose_curriculum_fraction"} <= set(
        capsys.readouterr().err.split("hold: ")[1].strip().split(", ")
    )
    # Every other setting is passed on, or is about the package itself.
    passed = {
        "epochs",
        "steps_per_epoch",
        "batch_size",
        "patch_voxels",
        "augmentation.random_shift_voxels",
        "bootstrap",
        "validation_steps",
    }
    assert set(flat(TrainSettings().model_dump())) == {*flat(OWN_WAYS), *passed, "optimizer.learning_rate", "engine", "device"}
