"""What the tests of learning share: toy tomograms, and a short training on them."""

from pathlib import Path

import pytest
from template_learning.common.files import write_table
from template_learning.common.tables import DesignRow
from template_learning.stages.train import train_network

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
