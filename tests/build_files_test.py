"""The BUILD files say what the code says, and so do setup.cfg and the other files beside it."""

import configparser
import difflib
import graphlib
import re

import build_files
import pytest
from build_files import ROOT, normalized
from packaging.requirements import Requirement

import ohem_tf


@pytest.mark.parametrize("folder", build_files.folders())
def test_build_file_says_what_the_code_says(folder):
    build = ROOT / folder / "BUILD"
    written = build.read_text() if build.exists() else ""
    wanted = build_files.build_text(folder)
    if written != wanted:
        lines = written.splitlines(), wanted.splitlines()
        difference = "\n".join(difflib.unified_diff(*lines, "written", "wanted", lineterm="", n=1))
        pytest.fail(f"{folder}/BUILD: run make build-files\n{difference}", pytrace=False)


def test_no_target_depends_on_itself():
    graph = {build_files.label(x): build_files.deps(x) for x in build_files.python_files()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a cycle, which Bazel refuses: {' -> '.join(error.args[1])}", pytrace=False)


def requirements(but=()):
    """What setup.cfg asks for, extras included, `but` some."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    extras = [text for name, text in setup["options.extras_require"].items() if name not in but]
    lists = [setup["options"]["install_requires"], *extras]
    lines = [line for text in lists for line in text.splitlines()]
    return [Requirement(line) for line in lines if line[:1].isalpha()]  # not %(extra)s


def test_every_import_is_a_declared_requirement():
    declared = {normalized(requirement.name) for requirement in requirements()}
    assert "tensorflow" in declared
    for path in build_files.python_files():
        deps = {dep.removeprefix("@pypi//") for dep in build_files.deps(path) if dep[0] == "@"}
        missing = deps - declared
        assert not missing, f"{path.relative_to(ROOT)} imports {missing}: not in setup.cfg"


def test_every_requirement_is_pinned_within_its_range():
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, version = line.partition("==")
            pins[normalized(name)] = version
    for wanted in requirements(but=["beam"]):  # is installed apart, see setup.cfg
        assert pins[normalized(wanted.name)] in wanted.specifier, wanted


@pytest.mark.parametrize("file", ["CITATION.cff", "MODULE.bazel"])
def test_every_file_that_names_the_version_names_the_same(file):
    versions = re.findall(r"^ *version\W+([\d.]+)", (ROOT / file).read_text(), re.MULTILINE)
    assert versions == [ohem_tf.__version__]
