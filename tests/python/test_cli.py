import subprocess
import sys

import pytest
from template_learning import cli
from template_learning.common.errors import BadInput, Fault
from typer.main import get_command

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
