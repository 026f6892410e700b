import errno
import gzip
import resource
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from template_learning import cli
from template_learning.common.errors import BadInput, Fault
from template_learning.common.files import replacing
from template_learning.common.mrc import write_mrc
from template_learning.learning.model_card import CARD
from typer.main import get_command

from .cases import Case

ROOT = Path(__file__).parents[2]

COMMANDS = sorted(get_command(cli.app).commands)
PROGRAM = [sys.executable, "-c", "from template_learning.cli import main; main()"]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_a_command_does(name):
    command = get_command(cli.app).commands[name]
    assert len((command.help or "").split()) >= 4
    for parameter in command.params:
        assert getattr(parameter, "help", None) or parameter.param_type_name == "argument", f"{name} {parameter.name}"


@pytest.mark.parametrize(
    "arguments",
    [
        ["flex", "gone.cif", "--id", "a", "--output", "out"],
        ["volume", "--molecules", "gone.json", "--output", "out"],
        ["tetris", "--library", "gone", "--id", "a", "--output", "out"],
        ["reconstruct", "--tilts", "gone.mrc", "--angles", "gone.tlt", "--id", "a", "--output", "out"],
        ["cluster", "--segmentation", "gone.mrc", "--log-odds", "gone.mrc", "--id", "a", "--output", "out"],
        ["evaluate", "--table", "gone.csv", "--id", "a", "--output", "out"],
        ["segment", "--model", "gone.keras", "--tomogram", "gone.mrc", "--id", "a", "--output", "out"],
        ["train", "--design", "gone.csv", "--data", "gone", "--output", "out"],
        ["report", "--data", "gone", "--output", "out/report.html"],
        ["design", "--settings", "gone.json", "--output", "out/design.csv"],
    ],
)
def test_a_missing_file_is_one_line_and_exit_2(tmp_path, arguments):
    done = subprocess.run([*PROGRAM, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "gone" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_id_that_could_do_harm_is_refused(tmp_path):
    for text in ("a b", "$(reboot)", "../up", "a'b"):
        done = subprocess.run(
            [*PROGRAM, "tetris", "--library", ".", "--id", text, "--output", "out"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        assert "only letters, digits" in done.stderr


@pytest.mark.parametrize(("error", "code"), [(BadInput("wrong\nin two lines"), 2), (Fault("again"), 3)])
def test_failures_have_their_exit_codes(monkeypatch, capsys, error, code):
    def fail():
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == code
    assert len(capsys.readouterr().err.splitlines()) == 1


def written(name, content):
    """Writes a file; its name is given to the command."""

    def make(folder):
        (folder / name).write_bytes(content)
        return name

    return make


def a_folder(folder):
    (folder / "folder").mkdir()
    return "folder"


def below_a_file(folder):
    (folder / "file").write_text("x")
    return "file/design.csv"


def a_broken_structure(folder):
    content = gzip.compress(np.random.default_rng(0).bytes(5000))
    (folder / "a.cif.gz").write_bytes(content[:100] + bytes(200) + content[300:])
    return "a.cif.gz"


def a_model(folder, spoil):
    shutil.copy(ROOT / "models/nucleosome_8A.keras", folder / "m.keras")
    with zipfile.ZipFile(folder / "m.keras") as archive:
        parts = {part.filename: archive.read(part) for part in archive.infolist()}
    (folder / "m.keras").unlink()
    spoil(folder / "m.keras", parts)
    write_mrc(folder / "t.mrc", np.random.default_rng(0).standard_normal((8, 20, 20)).astype(np.float32), 8.0)
    return "m.keras"


def broken_weights(folder):
    def spoil(path, parts):
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
        whole = bytearray(path.read_bytes())
        place = bytes(whole).index(parts["model.weights.h5"][:64])
        whole[place + 9000] ^= 0xFF
        path.write_bytes(whole)

    return a_model(folder, spoil)


def without(name):
    def spoil(path, parts):
        with zipfile.ZipFile(path, "w") as archive:
            for other, content in parts.items():
                if other != name:
                    archive.writestr(other, content)

    return lambda folder: a_model(folder, spoil)


def a_latin_1_card(folder):
    def spoil(path, parts):
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, "é".encode("latin-1") if name == CARD else content)

    return a_model(folder, spoil)


SEGMENT = ["segment", "--tomogram", "t.mrc", "--id", "a", "--output", "out", "--model"]
DESIGN = ["design", "--output", "out/d.csv", "--settings"]
FLEX = ["flex", "--id", "a", "--output", "out"]
EVALUATE = ["evaluate", "--id", "a", "--output", "out", "--table"]
CASES = [
    (Case("settings in Latin-1", written("s.json", '{"scheme": "é"}'.encode("latin-1")), "refused", "scheme"), DESIGN),
    (Case("settings that are a folder", a_folder, "refused", "a folder; a file was expected"), DESIGN),
    (Case("settings that are no JSON", written("s.json", b"tilt: 3"), "refused", "not JSON"), DESIGN),
    (Case("settings that are a list", written("s.json", b"[1]"), "refused", "a JSON object was expected"), DESIGN),
    (Case("settings of zeros and ones", written("s.json", bytes(range(256))), "refused", "a binary file"), DESIGN),
    (Case("settings with a byte-order mark", written("s.json", b'\xef\xbb\xbf{"tomograms": 4}'), "taken"), DESIGN),
    (Case("settings with an infinite number", written("s.json", b'{"tomograms": Infinity}'), "refused", "tomograms"), DESIGN),
    (Case("an output that is a folder", a_folder, "refused", "is a directory"), ["design", "--output"]),
    (Case("an output below a file", below_a_file, "refused", "file"), ["design", "--output"]),
    (Case("an output with a name too long", lambda _: "x" * 300, "refused", "too long"), ["design", "--output"]),
    (Case("a structure that is a folder", a_folder, "refused", "a folder; a file was expected"), FLEX),
    (Case("a compressed structure that is broken", a_broken_structure, "refused", "broken"), FLEX),
    (Case("a compressed structure cut short", written("a.cif.gz", gzip.compress(b"x" * 999)[:20]), "refused", "broken"), FLEX),
    (Case("a table that is a folder", a_folder, "refused", "a folder; a file was expected"), EVALUATE),
    (Case("a table in Latin-1", written("t.csv", "id,picks,truth\né,a,b\n".encode("latin-1")), "refused", "read as Latin-1"), EVALUATE),
    (Case("a list of molecules in Latin-1", written("m.json", b'[{"molecule": "\xe9"}]'), "refused", "m.json"), ["volume", "--output", "out", "--molecules"]),
    (Case("a model that is a folder", a_folder, "refused", "a folder; a file was expected"), SEGMENT),
    (Case("a model cut short", written("m.keras", (ROOT / "models/nucleosome_8A.keras").read_bytes()[:9999]), "refused", "not a .keras model"), SEGMENT),
    (Case("a model with broken weights", broken_weights, "refused", "m.keras"), SEGMENT),
    (Case("a model without weights", without("model.weights.h5"), "refused", "cannot load this model"), SEGMENT),
    (Case("a model without a card", without(CARD), "refused", "a model trained by this package"), SEGMENT),
    (Case("a model whose card is in Latin-1", a_latin_1_card, "refused", "not JSON"), SEGMENT),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(("case", "arguments"), CASES, ids=[str(case) for case, _ in CASES])
def test_a_file_that_cannot_be_used_is_one_line(tmp_path, monkeypatch, capsys, case, arguments):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["template-learning", *arguments, case.make(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    said = capsys.readouterr().err
    if case.outcome == "taken":
        assert caught.value.code == 0, said
        return
    assert caught.value.code == 2, said
    lines = [line for line in said.splitlines() if line.startswith(("error: ", "fault: "))]
    assert len(lines) == 1, said
    assert "Traceback" not in said
    assert case.words in said


@pytest.mark.parametrize("write", ["a table", "a volume", "arrays", "a model"])
def test_a_disk_without_room_is_one_line_that_names_the_file(tmp_path, monkeypatch, capsys, write):
    """The system's limit of a file's size stands for the room."""
    path = tmp_path / "out" / "a.mrc"

    def fill():
        grey = np.ones((20, 50, 50), dtype=np.float32)
        if write == "a volume":
            write_mrc(path, grey, 8.0)
        elif write == "arrays":
            with replacing(path) as temporary, temporary.open("wb") as handle:
                np.savez(handle, grey=grey)
        elif write == "a model":
            h5py = pytest.importorskip("h5py")
            with replacing(path) as temporary, h5py.File(temporary, "w") as file:
                file["grey"] = grey
        else:
            with replacing(path) as temporary:
                temporary.write_text("x" * 200_000)

    monkeypatch.setattr(cli, "app", fill)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(SystemExit) as caught:
            cli.main()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.code == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"fault: {path}: ")
    assert not any(path.parent.iterdir())


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/work/a.mrc"), 3, "/work/a.mrc: no space left on device"),
        (OSError(errno.EIO, "Input/output error", "/work/a.mrc"), 3, "/work/a.mrc: input/output error"),
        (PermissionError(errno.EACCES, "Permission denied", "/a.mrc"), 2, "/a.mrc: permission denied"),
        (UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "invalid start byte"), 2, "a whole file was expected"),
        (zipfile.BadZipFile("Bad CRC-32"), 2, "Bad CRC-32"),
        (EOFError(), 2, "EOFError"),
        (MemoryError("Unable to allocate 9 TiB"), 137, "not enough memory (Unable to allocate 9 TiB)"),
    ],
)
def test_what_the_system_says_has_an_exit_code_and_one_line(monkeypatch, capsys, error, code, words):
    def fail():
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == code
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
