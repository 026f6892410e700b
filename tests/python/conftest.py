"""Fixtures of more than one file: toy tomograms with a short training on them, and libraries to pack."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from template_learning.common.files import write_table
from template_learning.common.mrc import write_mrc
from template_learning.common.tables import DesignRow, LibraryRow
from template_learning.stages.train import train_network

from .builders import VOXEL_ANGSTROM, ellipsoid_molecule
from .toy_tomograms import SMALL, imaged, toy_tomogram


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Design and data folder of three training and one validation tomogram."""
    folder = tmp_path_factory.mktemp("toy")
    rows = []
    for number in range(4):
        toy_tomogram(folder, f"t{number}", number)
        split = "validation" if number == 3 else "train"
        rows.append(imaged(100 + number).model_copy(update={"id": f"t{number}", "split": split}))
    write_table(folder / "design.csv", DesignRow, rows)
    return folder / "design.csv", folder


@pytest.fixture(scope="session")
def trained(toy: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a short training."""
    output = tmp_path_factory.mktemp("trained")
    train_network(*toy, SMALL, 7, output)
    return output


@pytest.fixture(scope="module")
def packing_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    rows = [
        ellipsoid_molecule(folder, "disc_0", role="template", axes_angstrom=(55, 55, 25)),
        ellipsoid_molecule(folder, "disc_1", role="template", axes_angstrom=(50, 60, 28)),
        ellipsoid_molecule(folder, "ball", role="distractor", axes_angstrom=(40, 40, 40), share=2.0),
        ellipsoid_molecule(folder, "rod", role="distractor", axes_angstrom=(20, 20, 90)),
        ellipsoid_molecule(folder, "chip", role="distractor", axes_angstrom=(15, 35, 45)),
    ]
    write_table(folder / "library.csv", LibraryRow, rows)
    return folder


@pytest.fixture(scope="module")
def cell_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A template, a globule, a channel that is long along z, and an elongated unit of filaments."""
    folder = tmp_path_factory.mktemp("library")
    generator = np.random.default_rng(3)
    rows = []
    role: Literal["template", "distractor"]
    for name, axes, role in (
        ("disc", (50, 50, 25), "template"),
        ("ball", (35, 35, 35), "distractor"),
        ("channel", (20, 25, 50), "distractor"),
        ("unit", (22, 15, 27), "distractor"),
    ):
        atom = generator.uniform(-1, 1, (3000, 3))
        atom = (atom[(atom**2).sum(axis=1) < 1] * axes).astype(np.float32)
        atom -= atom.mean(axis=0)
        density = np.zeros((15,) * 3, np.float32)
        np.add.at(density, tuple(np.rint(atom[:, ::-1] / VOXEL_ANGSTROM).astype(int).T + 7), 1.0)
        write_mrc(folder / f"{name}.mrc", density, VOXEL_ANGSTROM)
        np.savez(folder / f"{name}.npz", position_angstrom=atom, element=np.full(len(atom), 6, np.uint8))
        files = {"density": f"{name}.mrc", "atoms": f"{name}.npz"}
        rows.append(
            LibraryRow(
                molecule=name,
                species=name,
                role=role,
                class_id=int(role == "template"),
                share=1.0,
                mass_dalton=14.0 * len(atom),
                atom_count=len(atom),
                **files,
            )
        )
    write_table(folder / "library.csv", LibraryRow, rows)
    return folder
