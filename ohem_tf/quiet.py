"""TensorFlow's start-up lines (processor features, no CUDA), which would bury ours, are left out.

They are written by its C++ libraries while they are loaded, whatever TF_CPP_MIN_LOG_LEVEL says. So
what goes to stderr meanwhile is kept, and shown only if the import fails.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import tempfile
import types
from collections.abc import Iterator, Sequence


def silence_tensorflow() -> None:
    """Silences the next import of TensorFlow, unless TF_CPP_MIN_LOG_LEVEL asks for its messages."""
    wanted = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if wanted == "3" and "tensorflow" not in sys.modules:
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Finds TensorFlow as the others do, once, and has it loaded quietly."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _QuietLoader(spec.loader)
        return spec


class _QuietLoader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        if module.__spec__ is not None:  # nobody need know of this one
            module.__spec__.loader = module.__loader__ = self._loader
        with _stderr_kept():
            self._loader.exec_module(module)
            module.config.list_physical_devices()  # looks for CUDA, and says so


@contextlib.contextmanager
def _stderr_kept() -> Iterator[None]:
    """What is written to file descriptor 2 comes out only with an exception."""
    sys.stderr.flush()
    before = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(before, 2)
            kept.seek(0)
            os.write(2, kept.read())
            raise
        finally:
            os.dup2(before, 2)
            os.close(before)
