"""Bazel without its registry: python tests/bazel.py test //...

For Debian's bazel-bootstrap (Bazel 4), with the stand-ins of ../shared/bazel_offline for what it
would download; those for @pypi are made here: this interpreter's own packages serve the imports.
Where a registry can be reached, a newer Bazel reads MODULE.bazel and needs none of this.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import build_files

STAND_INS = build_files.ROOT.parent / "shared" / "bazel_offline"
_LIBRARY = """load("@rules_python//python:defs.bzl", "py_library")

py_library(
    name = "{name}",
    visibility = ["//visibility:public"],
)
"""


def missing():
    """What Bazel cannot run without here; "" if it can run."""
    if shutil.which("bazel") is None:
        return "bazel is not installed (Debian: apt-get install bazel-bootstrap)"
    return "" if STAND_INS.is_dir() else f"{STAND_INS} is not there"


def write_pypi(folder):
    """A repository of an empty library for each package that a BUILD file names."""
    (folder / "WORKSPACE").write_text('workspace(name = "pypi")\n')
    texts = [(build_files.ROOT / x / "BUILD").read_text() for x in build_files.folders()]
    names = re.findall(r'"@pypi//(\w+)"', "".join(texts))
    # pytest is named in tests/py_test.bzl.
    for name in {*names, "pytest"}:
        (folder / name).mkdir()
        (folder / name / "BUILD").write_text(_LIBRARY.format(name=name))


def run(cache, command, *arguments):
    """`bazel COMMAND ARGUMENTS` with its own `cache`: the finished process, with its output."""
    with tempfile.TemporaryDirectory() as pypi:
        write_pypi(pathlib.Path(pypi))
        repositories = {path.name: path for path in STAND_INS.iterdir() if path.is_dir()}
        repositories["pypi"] = pathlib.Path(pypi)
        python = os.path.dirname(sys.executable)
        path = f"{python}:/usr/bin:/bin"  # in the sandbox: python3 is this one
        done = subprocess.run(
            [
                *("bazel", f"--output_user_root={cache}", command, *arguments),
                *(f"--override_repository={name}={at}" for name, at in repositories.items()),
                *(f"--action_env=PATH={path}", "--symlink_prefix=/", "--noshow_progress"),
                *(["--test_output=errors"] if command == "test" else []),
            ],
            cwd=build_files.ROOT,
            env={**os.environ, "PATH": f"{python}:{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        subprocess.run(
            ["bazel", f"--output_user_root={cache}", "shutdown"],
            cwd=build_files.ROOT,
            capture_output=True,
        )
        return done


if __name__ == "__main__":
    if reason := missing():
        sys.exit(f"error: {reason}")
    with tempfile.TemporaryDirectory() as cache:
        done = run(cache, *sys.argv[1:])
    print(done.stdout)
    sys.exit(done.returncode)
