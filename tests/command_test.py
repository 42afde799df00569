"""The command `ohem`: what it lists, runs, completes and refuses."""

import importlib.util
import subprocess
import sys

import pytest

from ohem_tf import __main__ as command
from ohem_tf.version import __version__


def test_every_binary_is_a_command():
    for module, about in command.COMMANDS.values():
        spec = importlib.util.find_spec(module)
        assert spec
        with open(spec.origin, encoding="utf-8") as file:
            assert '__name__ == "__main__"' in file.read()
        assert about in command.usage()


@pytest.mark.parametrize("arguments", [[], ["--help"], ["help"]])
def test_it_lists_its_commands(arguments, capsys):
    assert command.main(arguments) == 0
    out = capsys.readouterr().out
    assert "evaluate" in out
    assert max(map(len, out.splitlines())) <= 80


def test_version(capsys):
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "error: trian: no such command; did you mean train?"),
        (["xyz"], "error: xyz: no such command; expected one of scenes, prepare, "),
        (["completion"], "error: completion: expected one of bash, zsh"),
        (["completion", "fish"], "error: completion: expected one of bash, zsh"),
    ],
)
def test_what_it_does_not_know(arguments, message, capsys):
    assert command.main(arguments) == 1
    assert capsys.readouterr().err.startswith(message)


def test_a_command_is_the_binary():
    done = subprocess.run(
        [sys.executable, "-m", "ohem_tf", "tables", "--output=x"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: give --workdirs=A,B and --output=DIR"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ohem tr", "train"),
        ("ohem train --w", "--workdir="),
        ("ohem tables --", "--workdirs= --output="),
        ("ohem tables --output = conf", "configs"),
        ("ohem nothing --", ""),
    ],
)
def test_completion(words, expected):
    script = f"""{command.completion("bash")}
COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _ohem; echo "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == expected
    assert not done.stderr
