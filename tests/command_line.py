"""What a user types, in this process: a binary with its flags, a config file."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import types
import warnings
from unittest import mock

from absl import app, flags
from ml_collections import ConfigDict, config_flags


def load_config(file) -> ConfigDict:
    """The config of FILE.py, or of FILE.py:ROW, as the flag --config of the binaries reads it."""
    values, arguments = flags.FlagValues(), ["", f"--config={file}"]
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=arguments)
    values(arguments)
    return values.config


def run(module: str, *arguments) -> types.SimpleNamespace:
    """`python -m MODULE ARGUMENTS`: its returncode, stdout and stderr.

    Importing TensorFlow and tracing what was traced before would cost a process of its own more
    than most tests take.
    """
    app.define_help_flags()  # once per process, by the first app.run otherwise
    out, err, before = io.StringIO(), io.StringIO(), set(flags.FLAGS)
    try:
        with (
            mock.patch.object(sys, "argv", [module, *map(str, arguments)]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
        ):
            # How ml_collections loads a config file.
            warnings.filterwarnings("ignore", r"the load_module\(\) method is deprecated")
            importlib.import_module(module).cli()
    except SystemExit as end:
        code = end.code or 0
        return types.SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()
    raise AssertionError(f"{module} returned without an exit status")
