"""The Dockerfile fits the project: nothing builds it here, where there is no Docker."""

import configparser
import re

from packaging.specifiers import SpecifierSet

from docs.scripts.pages import ROOT

TEXT = (ROOT / "docker/Dockerfile").read_text()


def test_its_python_and_extras_are_those_of_setup_cfg():
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    (python,) = re.findall(r"^FROM python:(\d+\.\d+)-", TEXT, re.MULTILINE)
    assert SpecifierSet(setup["options"]["python_requires"]).contains(python)
    asked = re.findall(r"EXTRAS=(\S+)", TEXT)
    assert len(asked) == 2
    assert {x for names in asked for x in names.split(",")} <= set(setup["options.extras_require"])


def test_what_it_installs_from_is_copied():
    ignored = (ROOT / ".dockerignore").read_text().split()
    for name in ("constraints.txt", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        assert (ROOT / name).is_file()
        assert name not in ignored
    for name in ("ohem_tf", "export", "configs"):
        assert name not in ignored
    assert {".git", ".venv", "runs", "records"} <= set(ignored)


def test_it_does_not_run_as_root():
    users = re.findall(r"^USER (\S+)$", TEXT, re.MULTILINE)
    assert users
    assert users[-1] not in ("root", "0")
