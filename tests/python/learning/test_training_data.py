"""What a training is fed with: tomograms that stay on disk, several classes."""

import time
from pathlib import Path

import numpy as np
import pytest
from template_learning.common.files import write_table
from template_learning.common.mrc import write_mrc
from template_learning.common.tables import DesignRow, ParticleRow
from template_learning.learning.model_file import load_model
from template_learning.learning.patches import Patches, TrainingTomogram, open_tomogram
from template_learning.learning.training import class_names
from template_learning.settings import TrainSettings
from template_learning.stages.train import train_network

# Keras on NumPy 2 warns of its own saving.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


SMALL = TrainSettings(
    epochs=1, steps_per_epoch=2, batch_size=4, patch_voxels=16, augmentation={"random_shift_voxels": 0}, filters=4
)


def write_tomogram(folder: Path, name: str, shape: tuple[int, int, int], classes: dict[int, int]) -> None:
    """Noise with cubes of five voxels, so many of each class, on a lattice of twelve."""
    generator = np.random.default_rng(len(name))
    data, labels = generator.standard_normal(shape, dtype=np.float32), np.zeros(shape, dtype=np.int8)
    rows = []
    for class_id in [number for number, count in classes.items() for _ in range(count)]:
        place = np.unravel_index(len(rows), [count // 12 for count in shape])
        z, y, x = (12 * int(one) + 6 for one in place)
        labels[z - 2 : z + 3, y - 2 : y + 3, x - 2 : x + 3] = class_id
        position = {"x_angstrom": 10.0 * x, "y_angstrom": 10.0 * y, "z_angstrom": 10.0 * z}
        rows.append(ParticleRow(particle=len(rows) + 1, species=f"s{class_id}", class_id=class_id, **position))
    write_mrc(folder / f"{name}.mrc", data - 2 * labels, 10.0)
    write_mrc(folder / f"{name}.labels.mrc", labels, 10.0)
    write_table(folder / f"{name}.particles.csv", ParticleRow, rows)


def own_memory() -> int:
    """Bytes of this process that are not pages of files."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))


def test_tomograms_are_streamed_from_their_files(tmp_path: Path) -> None:
    shape = (64, 320, 320)
    for name in ("a", "bb", "ccc"):
        write_tomogram(tmp_path, name, shape, {1: 20})
    before = own_memory()
    tomograms = [open_tomogram(tmp_path, name) for name in ("a", "bb", "ccc")]
    patches = Patches(tomograms, SMALL, 1, split="train", first=0, count=5)
    assert all(isinstance(volume, np.memmap) for one in tomograms for volume in (one.data, one.labels))
    assert [patches[index][0].shape for index in range(5)] == [(4, 16, 16, 16, 1)] * 5
    assert own_memory() - before < 0.3 * sum(one.data.nbytes for one in tomograms)


def test_batches_cut_ahead_come_in_their_order(tmp_path: Path) -> None:
    """A network of one weight, taught with batches in order, ends elsewhere when they come in another."""
    import keras  # not at the top: before the package it would load TensorFlow as it comes, without oneDNN

    write_tomogram(tmp_path, "a", (48, 48, 48), {1: 36})
    tomogram = open_tomogram(tmp_path, "a")

    class LateFirst(Patches):
        def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            time.sleep(0.2 * (index == 0))
            return super().__getitem__(index)

    weights = []
    for workers in (1, 3):
        patches = LateFirst([tomogram], SMALL, 1, split="train", first=0, count=6, workers=workers)
        scale = keras.layers.Conv3D(1, 1, use_bias=False, kernel_initializer="ones")
        network = keras.Sequential([keras.layers.Input((16, 16, 16, 1)), scale, keras.layers.Reshape((16, 16, 16))])
        network.compile(optimizer=keras.optimizers.SGD(0.3), loss="mse", jit_compile=False)
        network.fit(patches, epochs=1, shuffle=False, verbose=0)
        weights.append(float(np.asarray(network.get_weights()[0]).item()))
    assert weights[0] != 1
    assert weights[0] == pytest.approx(weights[1], abs=1e-6)


@pytest.fixture
def rare(tmp_path: Path) -> TrainingTomogram:
    """A tomogram of two classes, one of them rare."""
    write_tomogram(tmp_path, "rare", (48, 48, 48), {1: 36, 2: 4})
    return open_tomogram(tmp_path, "rare")


@pytest.mark.parametrize(("bootstrap", "least", "most"), [(True, 0.4, 0.6), (False, 0.04, 0.2)])
def test_classes_are_drawn_equally_often_where_asked(
    rare: TrainingTomogram, bootstrap: bool, least: float, most: float
) -> None:
    settings = SMALL.changed(
        {"bootstrap": bootstrap, "background_fraction": 0.0, "batch_size": 200, "augmentation": {"rotation": "none"}}
    )
    labels = Patches([rare], settings, 1, split="train", first=0, count=1)[0][1]
    # A patch of 16 that was moved inside the border holds its particle off the middle, and parts of others.
    share = np.mean([np.bincount(one.ravel(), minlength=3)[1:].argmax() == 1 for one in labels])
    assert least < share < most


@pytest.mark.parametrize(("bootstrap", "least", "most"), [(True, 0.4, 0.6), (False, 0.02, 0.25)])
def test_tomograms_with_few_particles_are_drawn_as_often_where_asked(
    tmp_path: Path, bootstrap: bool, least: float, most: float
) -> None:
    """Sparse samples would hardly be seen otherwise, and ice that holds nothing is taken for molecules."""
    write_tomogram(tmp_path, "full", (48, 48, 48), {1: 36})
    write_tomogram(tmp_path, "sparse", (48, 48, 48), {1: 4})
    tomograms = [open_tomogram(tmp_path, name) for name in ("full", "sparse")]
    settings = SMALL.changed(
        {"bootstrap": bootstrap, "background_fraction": 0.0, "batch_size": 200, "augmentation": {"rotation": "none"}}
    )
    patches = Patches(tomograms, settings, 1, split="train", first=0, count=1)[0][0]
    grey = [(np.asarray(one.data) - one.mean) / one.std for one in tomograms]

    def distance(number: int, value: float) -> float:
        return float(np.abs(grey[number] - value).min())

    sparse = [distance(1, patch[3, 4, 5, 0]) < distance(0, patch[3, 4, 5, 0]) for patch in patches]
    assert least < np.mean(sparse) < most


def test_a_class_for_each_group_of_templates(rare: TrainingTomogram, tmp_path: Path) -> None:
    assert class_names([rare]) == {1: ["s1"], 2: ["s2"]}
    row = DesignRow(id="rare", total_dose_e_per_angstrom2=100, defocus_um=-3, tilt_range_deg=60, tilt_step_deg=3,
                    ice_density_g_per_cm3=0.94)  # fmt: skip
    write_table(tmp_path / "design.csv", DesignRow, [row])
    train_network(tmp_path / "design.csv", tmp_path, SMALL, 1, tmp_path / "out")
    network, card = load_model(tmp_path / "out/trained.keras")
    assert network.output_shape[-1] == 3
    assert card.classes == {1: ["s1"], 2: ["s2"]}
