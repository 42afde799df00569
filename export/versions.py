"""Version folders as TensorFlow Serving reads them: written atomically, numbered from 1 on."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator

from ohem_tf.errors import InputError
from ohem_tf.files import make_folder
from ohem_tf.inference.exported import version_numbers


class NewVersion:
    """A version that is being written.

    Attributes:
      temporary: the folder to write to. Its name starts with a dot, so that no server takes it for
        a version.
      path: where it is once `new_version` has ended; empty before.
    """

    def __init__(self, temporary: str) -> None:
        self.temporary = temporary
        self.path = ""


@contextlib.contextmanager
def new_version(folder: str) -> Iterator[NewVersion]:
    """A context within which a version is written; it appears at its end, under the next number.

    After an error nothing is left. A process that is killed leaves `.tmp-...`, which nothing reads.

    Args:
      folder: of the versions; it is made if need be.

    Raises:
      InputError: no folder can be made there, or it cannot be written to.
    """
    make_folder(folder, "output")
    try:
        temporary = tempfile.mkdtemp(prefix=".tmp-", dir=folder)
    except OSError as error:
        raise InputError(f"--output: {folder} cannot be written to: {error.strerror}") from error
    version = NewVersion(temporary)
    try:
        yield version
        os.chmod(temporary, 0o755)  # mkdtemp's is for the owner alone; a server is another user
        version.path = _publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _publish(temporary: str, folder: str) -> str:
    while True:
        path = os.path.join(folder, str(max(version_numbers(folder), default=0) + 1))
        try:
            os.rename(temporary, path)
            return path
        except OSError:
            if not os.path.isdir(path):  # else: another export was a moment faster
                raise
