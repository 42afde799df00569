"""Runs a binary in this process, flags and all: seconds less than a process of its own."""

from __future__ import annotations

import sys
import warnings
from types import ModuleType
from unittest import mock

from absl import app, flags


def run(binary: ModuleType, *arguments: str) -> int:
    """The exit status of `python -m BINARY ARGUMENTS`; its flags are forgotten afterwards."""
    app.define_help_flags()  # once per process, by the first app.run otherwise
    known = set(flags.FLAGS)
    try:
        with (
            mock.patch.object(sys, "argv", [binary.__name__, *map(str, arguments)]),
            warnings.catch_warnings(),
        ):
            # How ml_collections loads a config file.
            warnings.filterwarnings("ignore", r"the load_module\(\) method is deprecated")
            binary.cli()
    except SystemExit as ended:
        return ended.code or 0
    finally:
        for name in set(flags.FLAGS) - known:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()
    raise AssertionError(f"{binary.__name__} did not end")
