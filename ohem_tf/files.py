"""Files and folders: what every part of the project writes, it writes through these."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from ohem_tf.errors import InputError, WriteError

LOCK = ".lock"  # in a folder that has an owner
_PATIENCE_SECONDS = 3.0  # processes that a killed one had started end within a second
# What a full disk, a quota, a limit on file sizes, and a folder without permission end with.
_UNWRITABLE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR),
}


def temporary_name(name: str) -> str:
    """What `atomic` calls the file NAME while it writes it, in the same folder.

    The suffix stays, since some writers choose the format by it. No split of a data set has a + in
    its name, so no shard is taken for an unfinished one.
    """
    return f"new+{name}"


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[str]:
    """A context that writes a file atomically: others see the old file or the whole new one.

    Yields a temporary path to write to (see `temporary_name`). At the end it becomes `path`, once
    the disk has it; after an error it is removed, and `path` is as it was. A process that is killed
    leaves it, and the next one overwrites it.

    Raises:
      WriteError: the file cannot be written.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, temporary_name(name))
    try:
        with writing(path, temporary):
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())  # or a power failure could leave the name and no content
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


@contextlib.contextmanager
def writing(path: str | os.PathLike[str], *others: str) -> Iterator[None]:
    """A context that writes to `path`, or to `others` on its behalf.

    Raises:
      WriteError: in place of an OSError that says so: no space, no permission.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _UNWRITABLE and error.filename in (None, str(path), *others):
            raise WriteError(path, os.strerror(error.errno or 0)) from error
        raise


def reserve(path: str | os.PathLike[str], size: int) -> None:
    """Makes a file of `size` bytes, so that a disk without room for it fails here.

    For a writer that does not survive a full disk: HDF5 crashes when the process ends.
    """
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes json, indented, atomically."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    with atomic(path) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")


@contextlib.contextmanager
def owned(folder: str, flag: str) -> Iterator[None]:
    """A context in which no other process owns the folder that `--flag` names.

    The owner holds a lock on FOLDER/.lock; the system releases it when the process ends, however it
    ends. Who only reads the folder needs no lock.

    Raises:
      InputError: another process owns the folder; it is named.
      WriteError: the lock cannot be written.
    """
    path = os.path.join(folder, LOCK)
    until = time.monotonic() + _PATIENCE_SECONDS
    while (file := _locked(path)) is None:
        if time.monotonic() > until:
            with contextlib.suppress(FileNotFoundError):
                owner = Path(path).read_text(encoding="utf-8")
                raise InputError(
                    f"--{flag}: {folder} is in use by {owner or 'another process'}; wait until "
                    f"that ends, or give another --{flag}"
                )
        time.sleep(0.1)
    with file:
        with writing(path):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _locked(path: str) -> TextIO | None:
    """The file at `path`, locked for this process; None: another has locked it."""
    with writing(path):
        file = open(path, "a", encoding="utf-8")  # noqa: SIM115, the lock ends when it is closed
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
            return file
    except (BlockingIOError, FileNotFoundError):
        pass  # in use; or the owner has just ended, and removed it
    except OSError as error:  # some network file systems have no locks
        print(f"warning: {path}: no lock ({error.strerror}): let no second process write there")
        return file
    file.close()
    return None


def make_folder(path: str, flag: str) -> None:
    """Creates the folder that `--flag` names; InputError if it cannot be one."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise InputError(f"--{flag}: {path} cannot be a folder: {error.strerror}") from error
