"""Fine-tuning: its labels, its tomograms and its scores."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from template_learning.common.errors import BadInput
from template_learning.common.files import read_table, write_table
from template_learning.common.geometry import Grid
from template_learning.common.mrc import write_mrc
from template_learning.common.tables import LibraryRow, ParticleRow
from template_learning.labelling.labels import draw_labels
from template_learning.learning.model_card import ModelCard, read_card
from template_learning.learning.model_file import copy_model, load_model
from template_learning.learning.spectrum import radial_spectrum
from template_learning.learning.training import Training
from template_learning.settings import (
    EvaluateSettings,
    FinetuneCommandSettings,
    FinetuneSettings,
    LabelSettings,
    SegmentSettings,
)
from template_learning.stages import finetune
from template_learning.stages.finetune import AnnotatedRow, FinetuningRow, draw_shapes, draw_spheres, finetune_model
from template_learning.structures.library import read_library

from ..toy_tomograms import SHAPE, SMALL, VOXEL

# Keras on NumPy 2 warns of its own saving and weight reading.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CARD = ModelCard(
    voxel_size_angstrom=VOXEL, classes={1: ["rod"]}, filters=4, patch_voxels=16, label_radius_angstrom={1: 3 * VOXEL}
)


@pytest.fixture
def tomogram(tmp_path: Path) -> np.ndarray:
    """The noise of noise.mrc, whose header says nothing of its voxel size; one annotation in noise.csv."""
    data = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    write_mrc(tmp_path / "noise.mrc", data, 0.0)
    (tmp_path / "noise.csv").write_text("x,y,z\n20,18,12\n")
    return data


def open_one(folder: Path, settings: FinetuneCommandSettings, card: ModelCard = CARD, **row: float) -> finetune.Annotated:
    return finetune._open(AnnotatedRow(id="n", path="noise.mrc", annotations="noise.csv", **row), folder, card, settings, {})


def test_the_tables_voxel_size_goes_before_the_headers(tomogram: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="voxel size"):
        open_one(tmp_path, FinetuneCommandSettings())
    assert (
        AnnotatedRow.model_validate({"id": "n", "path": "", "annotations": "", "voxel_size_angstrom": ""}).voxel_size_angstrom
        is None
    )
    same = open_one(tmp_path, FinetuneCommandSettings(), voxel_size_angstrom=VOXEL)
    assert isinstance(same.volume.data, np.memmap)
    assert same.volume.centre.tolist() == [[12, 18, 20]]
    finer = open_one(tmp_path, FinetuneCommandSettings(), voxel_size_angstrom=VOXEL / 2)
    assert finer.grid == Grid(shape=(12, 20, 24), voxel_size_angstrom=VOXEL)
    assert finer.volume.centre.tolist() == [[6, 9, 10]]
    assert finer.volume.labels[6, 9, 10] == 1


def test_the_network_is_taught_with_the_sign_and_spectrum_that_it_picks_with(tomogram: np.ndarray, tmp_path: Path) -> None:
    target = radial_spectrum(tomogram) * np.linspace(2, 0.5, 32)
    card = CARD.model_copy(update={"radial_spectrum": target.tolist()})
    settings = FinetuneCommandSettings(segment=SegmentSettings(match_spectrum=True, contrast="protein_bright"))
    taught = open_one(tmp_path, settings, card, voxel_size_angstrom=VOXEL).volume
    grey = (taught.data - taught.mean) / taught.std
    found = radial_spectrum(grey)
    np.testing.assert_allclose(found[3:] / found[10], target[3:] / target[10], rtol=0.05)
    assert np.corrcoef(grey.ravel(), tomogram.ravel())[0, 1] < -0.5
    with pytest.raises(BadInput, match="holds no spectrum"):
        open_one(tmp_path, settings, voxel_size_angstrom=VOXEL)


def test_the_spheres_are_as_large_as_what_the_model_was_trained_on(tomogram: np.ndarray, tmp_path: Path) -> None:
    def voxels(settings: FinetuneSettings, card: ModelCard = CARD) -> int:
        chosen = FinetuneCommandSettings(finetune=settings)
        return int(np.count_nonzero(open_one(tmp_path, chosen, card, voxel_size_angstrom=VOXEL).volume.labels))

    def ball(radius: float) -> int:
        return int((sum(axis**2 for axis in np.indices((21, 21, 21)) - 10) <= radius**2).sum())

    assert voxels(FinetuneSettings()) == ball(3)
    assert voxels(FinetuneSettings(sphere_radius_angstrom=50)) == ball(5)
    older = CARD.model_copy(update={"label_radius_angstrom": None, "whole_size_voxels": {1: 4 / 3 * np.pi * 4**3 + 1e-6}})
    assert voxels(FinetuneSettings(), older) == ball(4)
    with pytest.raises(BadInput, match=r"finetune\.sphere_radius_angstrom: the model's card does not say"):
        voxels(FinetuneSettings(), older.model_copy(update={"whole_size_voxels": None}))


def test_the_papers_protocols_teach_two_of_ten_and_eight_of_ten(
    monkeypatch: pytest.MonkeyPatch, tomogram: np.ndarray, tmp_path: Path
) -> None:
    lines = [f"n{number},noise.mrc,noise.csv,{VOXEL}" for number in range(10)]
    (tmp_path / "ten.csv").write_text("id,path,annotations,voxel_size_angstrom\n" + "\n".join(lines) + "\n")
    own = {"rotation": "mirrors", "contrast_jitter": 0.15, "minimum_dose_e_per_angstrom2": 10.0, "random_shift_voxels": 2}
    card = CARD.model_copy(update={"training": {"settings": {"augmentation": own, "normalisation": "patch"}}})
    taught = []

    class Asked(Training):
        def __init__(self, volumes: Any, settings: Any, *rest: Any, **named: Any) -> None:
            taught.append((len(volumes["train"]), settings))
            raise StopIteration

    monkeypatch.setattr(finetune, "Training", Asked)
    network = type("Network", (), {"get_weights": lambda self: []})()
    monkeypatch.setattr(finetune, "load_model", lambda path: (network, card))
    monkeypatch.setattr(finetune, "_scores", lambda *rest: [])
    monkeypatch.setattr(finetune, "_choose_selection", lambda *rest: None)
    further = finetune._train_further

    def asked(*rest: Any) -> None:
        with pytest.raises(StopIteration):
            further(*rest)
        if len(taught) == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(finetune, "_train_further", asked)
    chosen = FinetuneCommandSettings(train={"dose_curriculum_fraction": 0.4, "augmentation": {"rotation": "none"}})
    with pytest.raises(KeyboardInterrupt):
        finetune_model(tmp_path / "model.keras", tmp_path / "ten.csv", chosen, 1, tmp_path / "out")
    assert [(count, settings.epochs) for count, settings in taught] == [(2, 10), (8, 30)] * 3 + [(10, 30)]
    for _, settings in taught:
        assert settings.dose_curriculum_fraction == 0
        assert settings.normalisation == "patch"
        given = settings.augmentation
        assert (given.rotation, given.contrast_jitter, given.minimum_dose_e_per_angstrom2) == ("mirrors", 0.15, None)
    with pytest.raises(ValueError, match="training_fraction has 2 values and epochs 1"):
        FinetuneSettings(epochs=[10])


def test_shapes_are_those_of_the_templates_as_they_are_turned(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    for name, reach in (("rod", (80, 12, 12)), ("ball", (30, 30, 30))):
        position = (generator.uniform(-1, 1, (3000, 3)) * reach).astype(np.float32)
        np.savez(tmp_path / f"{name}.npz", position_angstrom=position, element=np.full(3000, 6, np.uint8))
    metadata = {"role": "template", "class_id": 1, "share": 1.0, "mass_dalton": 2e5, "atom_count": 3000, "density": "none"}
    rows = [LibraryRow(molecule=name, species=name, atoms=f"{name}.npz", **metadata) for name in ("rod", "ball")]
    write_table(tmp_path / "library.csv", LibraryRow, rows)
    library = read_library([tmp_path])
    settings = FinetuneCommandSettings(finetune=FinetuneSettings(labels="shape"), label=LabelSettings(kind="sphere"))
    grid = Grid(shape=SHAPE, voxel_size_angstrom=VOXEL)
    place = {"x_angstrom": 200.0, "y_angstrom": 180.0, "z_angstrom": 120.0}
    turned = ParticleRow(particle=9, molecule="rod", rot_deg=0, tilt_deg=0, psi_deg=90, **place)
    labels = draw_shapes([turned], library, grid, settings, "a.csv")
    expected, _ = draw_labels([turned], library, grid, LabelSettings())
    np.testing.assert_array_equal(labels, expected)
    z, y, x = np.ptp(np.argwhere(labels), axis=0)
    assert y > 2 * x
    assert y > 2 * z
    # An annotation that names no molecule is taken for the class's first template by id: the ball.
    z, y, x = np.ptp(
        np.argwhere(draw_shapes([turned.model_copy(update={"molecule": ""})], library, grid, settings, "a.csv")), axis=0
    )
    assert max(z, y, x) <= 1.5 * min(z, y, x)
    with pytest.raises(BadInput, match=r"a\.csv: annotation 2 has no orientation"):
        draw_shapes([turned, ParticleRow(particle=1, **place)], library, grid, settings, "a.csv")
    with pytest.raises(BadInput, match="no template of class 2"):
        draw_shapes([turned.model_copy(update={"molecule": "", "class_id": 2})], library, grid, settings, "a.csv")


def test_spheres_about_annotations() -> None:
    centre, radius = np.array([[4.0, 5.5, 6.0], [0.0, 0.0, 0.0], [50.0, 50.0, 50.0]]), 2.5
    labels = draw_spheres((9, 10, 11), centre, np.array([1, 2, 3]), radius)
    grid = np.stack(np.indices(labels.shape), axis=-1)
    for position, number in zip(centre, (1, 2, 3), strict=True):
        assert np.array_equal(labels == number, np.linalg.norm(grid - position, axis=-1) <= radius)


@pytest.mark.long
def test_finetuning_scores_held_out_tomograms_and_writes_a_model(
    toy: tuple[Path, Path], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["id,path,annotations"]
    for number in range(3):
        particles = [row for row in read_table(toy[1] / f"t{number}.particles.csv", ParticleRow) if row.class_id == 1]
        write_table(tmp_path / f"t{number}.csv", ParticleRow, particles)
        lines.append(f"t{number},{toy[1] / f't{number}.mrc'},t{number}.csv")
    (tmp_path / "tomograms.csv").write_text("\n".join(lines) + "\n")
    chosen = FinetuneCommandSettings(
        train=SMALL,
        finetune=FinetuneSettings(splits=2, training_fraction=[0.4], epochs=[2], steps_per_epoch=3, learning_rate=1e-3),
    )
    states = tmp_path / "states"
    finetune_model(trained / "trained.keras", tmp_path / "tomograms.csv", chosen, 5, tmp_path / "out", state=states)
    rows = read_table(tmp_path / "out" / "finetuning.csv", FinetuningRow)
    assert {(row.split, row.epochs) for row in rows} == {(split, epochs) for split in (1, 2) for epochs in (0, 2)}
    assert all(row.annotations == 6 and row.matched <= min(row.selected, 6) for row in rows)
    before, after = (load_model(path)[0] for path in (trained / "trained.keras", tmp_path / "out" / "finetuned.keras"))
    assert not np.array_equal(before.get_weights()[0], after.get_weights()[0])
    card = read_card(tmp_path / "out" / "finetuned.keras")
    assert card.training["finetuning"]["annotations"] == 18
    assert card.grey_histogram == read_card(trained / "trained.keras").grey_histogram is not None
    assert card.minimum_size_voxels is not None
    # The same call elsewhere finds all of its trainings done.
    monkeypatch.delattr(Training, "_epoch")
    finetune_model(trained / "trained.keras", tmp_path / "tomograms.csv", chosen, 5, tmp_path / "again", state=states)
    assert (tmp_path / "again/finetuning.csv").read_bytes() == (tmp_path / "out/finetuning.csv").read_bytes()
    # By score: nothing reaches the threshold of this model as it came, and the taught one has thresholds of score of its own.
    strict = read_card(trained / "trained.keras").model_copy(update={"minimum_score": {1: 1.1}})
    copy_model(trained / "trained.keras", tmp_path / "strict.keras", strict)
    by_score = chosen.model_copy(update={"evaluate": EvaluateSettings(rank="score")})
    finetune_model(tmp_path / "strict.keras", tmp_path / "tomograms.csv", by_score, 5, tmp_path / "score", state=states)
    rows = read_table(tmp_path / "score" / "finetuning.csv", FinetuningRow)
    assert all(row.selected == 0 for row in rows if row.epochs == 0)
    card = read_card(tmp_path / "score" / "finetuned.keras")
    assert set(card.minimum_size_voxels.values()) == {1}
    assert card.score_probability
    assert card.score_kind == "log_odds"
    assert np.isfinite(list(card.minimum_score.values())).all()
    (tmp_path / "one.csv").write_text("\n".join(lines[:2]) + "\n")
    with pytest.raises(BadInput, match="at least two"):
        finetune_model(trained / "trained.keras", tmp_path / "one.csv", chosen, 5, tmp_path / "other")
    named = read_card(trained / "trained.keras").model_copy(update={"network": "residual"})
    copy_model(trained / "trained.keras", tmp_path / "older.keras", named)
    with pytest.raises(BadInput, match="not the one that its card names"):
        finetune_model(tmp_path / "older.keras", tmp_path / "tomograms.csv", chosen, 5, tmp_path / "other")
