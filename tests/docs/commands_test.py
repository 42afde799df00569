"""Every command on every page is read by the program that it calls.

The shell itself reads the blocks of README.md, docs/, export/README.md and CONTRIBUTING.md
(page_blocks.py). Then, for each command:

- programs of this project (`python -m MODULE`, `ohem COMMAND`) read their flags and their config,
  checks of the fields' values included, and stop there: the runs themselves take data and hours.
  What runs in seconds is run elsewhere: the tutorial in tutorial_test.py, Python in python_test.py,
  the binaries on tiny data in the test of each.
- `make`, `pip` and `docker` are compared with the files that they read: targets, extras, paths;
  what runs in a container is a program of this project, and read as such.
- `apt`, `git` and `tensorboard` are only known by name: what they would do is not of this project.
"""

import configparser
import contextlib
import functools
import itertools
import re
import runpy
import sys

import pytest
from absl import app, flags
from ml_collections import ConfigDict
from page_blocks import BLOCK, blocks, noted

from docs.scripts.pages import ROOT, pages
from ohem_tf.__main__ import COMMANDS
from ohem_tf.config import validate

_ONLY_KNOWN = {"apt", "git", "tensorboard"}
# A program that other tests have imported runs here as __main__.
pytestmark = pytest.mark.filterwarnings("ignore:.* found in sys.modules after:RuntimeWarning")


class _Parsed(BaseException):
    """Flags and config are read; the program would begin its work now."""


def _parse_only(main, argv=None, flags_parser=None):
    (flags_parser or flags.FLAGS)(sys.argv)
    raise _Parsed


def read_flags(module, arguments, monkeypatch):
    """Has a program of this project read its flags; a config is checked field by field."""
    before = set(flags.FLAGS)
    monkeypatch.setattr(app, "run", _parse_only)
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    try:
        with contextlib.suppress(_Parsed):
            runpy.run_module(module, run_name="__main__", alter_sys=True)
            pytest.fail(f"{module} does not read its flags by absl")
        for name in set(flags.FLAGS) - before:
            value = flags.FLAGS[name].value
            if isinstance(value, ConfigDict):
                validate(value)
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()


@functools.cache
def extras():
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    return set(setup["options.extras_require"])


@functools.cache
def make_targets():
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def check(command, *arguments, monkeypatch):
    """Compares a command with what reads it."""
    if re.fullmatch(r"python(3[.]\d+)?", command):
        option, what, *rest = arguments
        if option == "-c":
            compile(what, "<-c>", "exec")
        elif what not in ("venv", "pip"):
            assert option == "-m"
            read_flags(what, rest, monkeypatch)
    elif command == "ohem":
        name, *rest = arguments
        if name != "completion":
            read_flags(COMMANDS[name][0], rest, monkeypatch)
    elif command == "make":
        targets = [word for word in arguments if "=" not in word]
        assert set(targets) <= make_targets(), targets
    elif command == "pip":
        assert arguments[:2] == ("install", "-e"), arguments
        asked = re.fullmatch(r"[.](?:\[(.+)\])?", arguments[2])
        assert asked, arguments
        assert set(filter(None, (asked[1] or "").split(","))) <= extras(), arguments
    elif command == "docker":
        files = [b for a, b in itertools.pairwise(arguments) if a in ("-f", "--file")]
        assert all((ROOT / file).is_file() for file in files), files
        for word in arguments:
            if word.startswith("EXTRAS="):
                assert set(word.removeprefix("EXTRAS=").split(",")) <= extras(), word
        image = [i for i, word in enumerate(arguments) if word.startswith("ohem_tf:")]
        if arguments[0] == "run":  # /data is the folder that it is run in
            command = [word.replace("/data/", "") for word in arguments[image[0] + 1 :]]
            check("ohem", *command, monkeypatch=monkeypatch)
    else:
        assert command in _ONLY_KNOWN, f"{command}: who reads it?"


@pytest.fixture
def folder(tmp_path, monkeypatch, dataset):
    """A working directory with our configs, and prepared data where configs read it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "records").mkdir()
    for name in ("mine", "bccd_images", "scenes_images"):
        (tmp_path / "records" / name).symlink_to(dataset)
    return tmp_path


def _with(language):
    return [name for name in sorted(pages()) if blocks(name, language)]


@pytest.mark.parametrize("name", _with(""))
def test_commands(name, folder, monkeypatch, capsys):
    for block in blocks(name, ""):
        found = noted(block, folder)
        assert found, f"no command in a block that names no language:\n{block}"
        for words in found:
            try:
                check(*words, monkeypatch=monkeypatch)
            except SystemExit:
                pytest.fail(f"{' '.join(words)}\n{capsys.readouterr().err}", pytrace=False)


def test_a_flag_or_field_that_does_not_exist_is_found(folder, monkeypatch, capsys):
    for bad, why in (
        ("python -m ohem_tf.train --confg=configs/voc07.py", "Unknown command line flag 'confg'"),
        ("ohem train --config=configs/voc07.py --config.train.stps=1", "stps is no field there"),
        ("ohem train --config=configs/paper.py:voc08", "voc08"),
    ):
        with pytest.raises(SystemExit):
            check(*noted(bad, folder)[0], monkeypatch=monkeypatch)
        assert why in capsys.readouterr().err
    (words,) = noted("ohem train --config=configs/voc07.py --config.train.steps=0", folder)
    with pytest.raises(ValueError, match="steps"):
        check(*words, monkeypatch=monkeypatch)
    with pytest.raises(AssertionError, match="who reads it"):
        check(*noted("curl x", folder)[0], monkeypatch=monkeypatch)


def test_the_shell_reads_the_blocks(folder):
    block = "for i in a b; do\n  X=1 ohem train --name=$i \\\n    --q='c d'  # a comment\ndone\n"
    assert noted(block, folder) == [["ohem", "train", f"--name={i}", "--q=c d"] for i in "ab"]


@pytest.mark.parametrize("name", _with("python"))
def test_python_compiles(name):
    for block in blocks(name, "python"):
        compile(block, name, "exec")


def test_fields_named_in_the_text_exist():
    """`config.a.b` and `--config.a.b` wherever they stand on a page."""
    from ohem_tf.config import paper

    fields = paper()
    for name in pages():
        text = (ROOT / name).read_text()
        for path in set(
            re.findall(r"config\.([a-z_0-9]+(?:\.[a-z_0-9]+)*)(?![a-z_0-9]*[(.*])", text)
        ):
            if path.split(".")[0] in ("py", "json", "ini"):
                continue  # a file
            value = fields
            for part in path.split("."):
                assert part in value, f"{name}: config.{path} is no field"
                value = value[part]


def test_flags_named_in_the_text_exist():
    """`--flag` in a sentence is a flag of one of our programs, of absl or of TensorBoard."""
    known = {"config", "help", "helpfull", "version", "logdir"}
    source = "".join(
        path.read_text()
        for folder in ("ohem_tf", "export", "benchmarks", "examples", "docs/scripts")
        for path in (ROOT / folder).rglob("*.py")
    )
    known |= set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', source))
    known |= set(re.findall(r'add_argument\(\s*"--(\w+)"', source))
    for name in pages():
        if name == "CHANGELOG.md":
            continue  # which names flags of the past
        text = BLOCK.sub("", (ROOT / name).read_text())
        unknown = set(re.findall(r"(?<![\w-])--([a-z]\w*)", text)) - known
        assert not unknown, f"{name} names {unknown}"
