"""Distractors: unlike each other, and unlike the templates."""

import numpy as np
import pytest
from template_learning.common.errors import BadInput
from template_learning.structures.distractors import choose_distractors, description_of, dissimilarity
from template_learning.structures.structure import read_structure


def model(position):
    lines = (
        f"ATOM  {i + 1:>5}  CA  GLY A{i + 1:>4}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           C\n"
        for i, (x, y, z) in enumerate(position)
    )
    return "".join(lines)


def test_distractors_differ_and_are_in_the_range(tmp_path):
    generator = np.random.default_rng(0)
    ball, rod = generator.normal(size=(900, 3)) * 12, generator.normal(size=(900, 3)) * [40, 4, 4]
    shapes = {
        "ball": ball,
        "ball_turned": ball[:, [1, 2, 0]] + 0.05 * generator.normal(size=ball.shape),
        "rod": rod,
        "plate": generator.normal(size=(900, 3)) * [20, 20, 3],
        "small": ball[:100],
        "huge": generator.normal(size=(5000, 3)) * 30,
    }
    folder = tmp_path / "in" / "deeper"
    folder.mkdir(parents=True)
    for name, position in shapes.items():
        (folder / f"{name}.pdb").write_text(model(position))
    table = tmp_path / "out" / "set.csv"
    rows = choose_distractors(
        tmp_path / "in", table, count=9, minimum_kilodalton=5, maximum_kilodalton=20, minimum_dissimilarity=0.05
    )
    names = {row.id for row in rows}
    assert {"rod", "plate"} < names
    assert len(names & {"ball", "ball_turned"}) == 1
    assert len(rows) == 3
    assert all((table.parent / row.path).is_file() for row in rows)
    assert [row.share for row in rows] == [1, 1, 1]
    # What is like a template is left out; shares of equal mass.
    rows = choose_distractors(
        tmp_path / "in", table, count=9, minimum_kilodalton=1, maximum_kilodalton=20, minimum_dissimilarity=0.05,
        templates=[folder / "ball.pdb"], share="mass",
    )  # fmt: skip
    assert {row.id for row in rows} == {"rod", "plate", "small"}
    masses = {row.id: read_structure(folder / f"{row.id}.pdb").mass_dalton for row in rows}
    assert len({round(row.share * masses[row.id], 6) for row in rows}) == 1
    with pytest.raises(BadInput, match="none of 6 structures"):
        choose_distractors(tmp_path / "in", table, count=3, minimum_kilodalton=900)


def test_descriptions_do_not_change_when_turned(tmp_path):
    generator = np.random.default_rng(1)
    place = generator.normal(size=(500, 3)) * [30, 10, 10]
    turned, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    for name, position in (("a", place), ("b", place @ turned), ("c", place * 1.3)):
        (tmp_path / f"{name}.pdb").write_text(model(position))
    a, b, c = (description_of(read_structure(tmp_path / f"{name}.pdb")) for name in "abc")
    assert dissimilarity(a, b) < 1e-4
    assert dissimilarity(a, c) == pytest.approx(np.log(1.3) / np.sqrt(2), rel=0.05)
