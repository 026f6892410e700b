import hashlib
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from template_learning.common.errors import BadInput
from template_learning.common.files import ID_PATTERN
from template_learning.common.stages import NAMES
from template_learning.pipeline.outputs import FORMAT, KINDS, PIPELINE_INFO, describe, document, index_of, published_files

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


def published(folder, **contents):
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_the_index_is_sorted_and_has_sizes_and_checksums(tmp_path):
    contents = {"label/b.labels.mrc": b"bb", "design/design.csv": b"", "label/a.labels.mrc": b"a", "pipeline_info/t.txt": b"x"}
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/one.json").write_bytes(b"{}")
    run = published(tmp_path / "run", **contents)
    (run / "export/copick/ExperimentRuns").mkdir(parents=True)
    (run / "export/copick/ExperimentRuns/a").symlink_to(tmp_path / "elsewhere")  # as CRATE has folders
    index = index_of({**published_files(run), "index.json": None})
    assert index["format"] == FORMAT
    found = {file.pop("path"): (file.get("bytes"), file.get("sha256")) for file in index["files"]}
    expected = {
        "design/design.csv": b"", "export/copick/ExperimentRuns/a/one.json": b"{}", "label/a.labels.mrc": b"a", "label/b.labels.mrc": b"bb",
    }  # fmt: skip
    assert list(found) == sorted([*expected, "index.json"])
    assert found.pop("index.json") == (None, None)
    assert found == {name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in expected.items()}


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no such folder"):
        published_files(tmp_path / "none")


def test_the_document_is_fresh():
    committed = Path(__file__).parents[3] / "docs/reference/outputs.md"
    assert committed.read_text(encoding="utf-8") == document(), "stale: make docs"
