"""Errors a user can act on: one line that says where, what is wrong and what would be right."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable

from absl import app, flags, logging

_CONFIG_ERRORS = (
    AttributeError,
    ImportError,
    KeyError,
    NameError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
)


class InputError(ValueError):
    """Bad input: a file, a field or a setting. The message is one line a user can act on."""


class WriteError(InputError):
    """A file that cannot be written: the disk is full, or the folder read-only."""

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(f"{os.fspath(path)} cannot be written: {reason}")


def run(main: Callable[[list[str]], int | None], takes_words: bool = False) -> None:
    """Runs an absl binary; an `InputError` ends it with one line on stderr and exit status 1.

    Args:
      main: takes the name of the binary and the words after it that are no flags.
      takes_words: whether there may be any.
    """

    def guarded(argv: list[str]) -> int | None:
        if not flags.FLAGS["verbosity"].present:  # TensorFlow's, of every checkpoint say
            logging.set_verbosity(logging.WARNING)
        try:
            if argv[1:] and not takes_words:
                raise InputError(f"{argv[1]}: not a flag; expected --NAME=VALUE")
            return main(argv)
        except InputError as error:
            return _report(error)

    app.run(guarded, flags_parser=_parse_flags)


def first_line(error: Exception) -> str:
    """The first line of an exception's message, or its type."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _parse_flags(argv: list[str]) -> list[str]:
    """absl's flag parsing; errors in flags and in config files become one line as well."""
    try:
        remaining = flags.FLAGS(argv)
        if "config" in flags.FLAGS and flags.FLAGS["config"].present:
            _ = flags.FLAGS.config.keys  # raises here if the file did not load
        return remaining
    except flags.Error as error:
        sys.exit(_report(_cause(error)))
    except _CONFIG_ERRORS as error:
        # ml_collections raises these for a config field that does not exist (its message suggests
        # the nearest one) and for a config file that cannot be loaded.
        sys.exit(_report(f"--config: {_plain(error)}"))


def _cause(error: Exception) -> BaseException:
    """The `InputError` that get_config() raised, if one did: it comes wrapped, with a traceback."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, InputError):
            error = inner
        inner = inner.__context__
    return error


def _plain(error: Exception) -> str:
    """The message of an exception; ml_collections wraps its own in quotes and escapes."""
    message = str(error.args[0] if error.args and not isinstance(error, SyntaxError) else error)
    message = message.replace("\\n", " ").replace("\\'", "'").replace('\\"', '"')
    if nearest := re.search(r'Did you mean "(.+)" instead of "(.+)"', message):
        return f'{nearest[2]} is no field there. Did you mean "{nearest[1]}"?'
    if isinstance(error, (AttributeError, KeyError)) and re.fullmatch(r"['\"]*\w+['\"]*", message):
        name = message.strip("'\"")
        return f"{name} is no field there; ohem_tf/settings.py has them all"
    return message


def _report(error: object) -> int:
    line = " ".join(str(error).split())
    # Names in a file may hold what a terminal obeys.
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    print("error:", line, file=sys.stderr, flush=True)
    return 1
