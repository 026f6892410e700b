import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from template_learning.common.errors import BadInput
from template_learning.common.files import ID_PATTERN
from template_learning.common.stages import NAMES
from template_learning.pipeline.outputs import FORMAT, KINDS, PIPELINE_INFO, describe, document, index_of
from template_learning.stages.crate import write_index

identifiers = st.from_regex(ID_PATTERN, fullmatch=True).filter(lambda text: ".." not in text and text.isascii())


def filled(path, names):
    return re.sub(r"<\w+>", lambda _: next(names), path)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.data())
def test_every_kind_is_recognised_whatever_its_id(data):
    for kind in KINDS:
        count = len(re.findall("<", kind.path))
        names = [data.draw(identifiers) for _ in range(count)]
        described = describe(filled(kind.path, iter(names)))
        if described["kind"] != kind.name:  # an id may end like another kind's files: x.labels.mrc as a molecule's name
            assert any("." in name for name in names)
            continue
        assert described["stage"] == kind.stage
        assert not names or described["id"] == names[-1]


def test_kinds_are_distinct():
    assert len({kind.name for kind in KINDS}) == len(KINDS) == len({kind.path for kind in KINDS})
    assert {kind.stage for kind in KINDS} == {"", PIPELINE_INFO, *NAMES} - {"crate"}  # which lies at the top
    for kind in KINDS:
        fits = [other.name for other in KINDS if other.expression.fullmatch(filled(kind.path, iter(["a", "b"])))]
        assert fits[0] == kind.name, fits


def test_known_and_unknown_files():
    assert describe("simulate/t001.tilts.mrc") == {
        "path": "simulate/t001.tilts.mrc",
        "stage": "simulate",
        "id": "t001",
        "kind": "tilt_series",
        "what": "tilt series sorted by angle, protein dark",
    }
    sidecar = describe("simulate/t001.tilts.mrc.json")
    assert (sidecar["kind"], sidecar["id"]) == ("sidecar", "t001")
    assert sidecar["what"].endswith("t001.tilts.mrc")
    assert describe("volume/2PYO/2PYO_c000.mrc")["id"] == "2PYO_c000"
    assert describe("flex/2PYO.flex.json")["kind"] == "conformers"
    assert describe("simulate/notes.txt") == {
        "path": "simulate/notes.txt", "stage": "simulate", "id": "", "kind": "other", "what": "other"
    }  # fmt: skip
    assert describe("readme.txt")["stage"] == ""


def test_the_index_is_sorted_and_does_not_depend_on_the_order(tmp_path):
    listing = tmp_path / "published.txt"
    listing.write_text("label/b.labels.mrc\n\n./design/design.csv\nlabel/a.labels.mrc\nlabel/b.labels.mrc\n")
    write_index(listing, tmp_path / "index.json")
    index = json.loads((tmp_path / "index.json").read_text())
    assert index["format"] == FORMAT
    assert [file["path"] for file in index["files"]] == ["design/design.csv", "label/a.labels.mrc", "label/b.labels.mrc"]
    assert index == index_of(["label/a.labels.mrc", "label/b.labels.mrc", "design/design.csv"])


@pytest.mark.parametrize("path", ["/etc/passwd", "../other/design.csv", "label/../../x.mrc"])
def test_paths_outside_are_refused(path):
    with pytest.raises(BadInput, match="relative to the output folder"):
        index_of(["design/design.csv", path])


def test_a_missing_listing_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        write_index(tmp_path / "none.txt", tmp_path / "index.json")


def test_the_document_is_fresh():
    committed = Path(__file__).parents[3] / "docs/outputs.md"
    assert committed.read_text(encoding="utf-8") == document(), "stale: make docs"
