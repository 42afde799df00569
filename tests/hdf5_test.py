"""Files of weights: read whole, apart, before they are loaded."""

import os
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest
import tiny

from ohem_tf import hdf5
from ohem_tf.apart import Apart
from ohem_tf.errors import InputError
from ohem_tf.models import pretrained
from ohem_tf.workdir import restore, save_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "x.weights.h5"
    save_weights(tiny.model(), str(path), {"step": 3})
    return path


def test_all_of_a_whole_file_is_read(weights):
    arrays = sum(x.numpy().nbytes for x in tiny.model().weights)
    assert hdf5.walk(str(weights)) >= arrays
    hdf5.check(str(weights))


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.99])
def test_a_part_of_a_file_is_refused(weights, tmp_path, kept):
    data = weights.read_bytes()
    path = tmp_path / "x.weights.h5"
    path.write_bytes(data[: int(kept * len(data)) if kept < 1 else kept])
    with pytest.raises(InputError, match=r"--checkpoint: .*x\.weights\.h5 does not load"):
        restore(tiny.model(), str(path))


def test_a_file_that_ends_the_process_is_an_error_that_names_it(weights, monkeypatch):
    monkeypatch.setattr(hdf5, "walk", signal.raise_signal)
    call = Apart.call
    segfault = int(signal.SIGSEGV)
    monkeypatch.setattr(Apart, "call", lambda *x, what: call(*x[:2], segfault, what=what))
    with pytest.raises(ValueError, match=r"x\.weights\.h5: reading it ended .*\(SIGSEGV\)"):
        pretrained.load_weights(tiny.model(), str(weights))


def test_a_script_need_not_guard_what_it_does(weights, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"from ohem_tf import hdf5\nprint('once')\nhdf5.check({str(weights)!r})\nprint('done')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, script], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == "once\ndone\n", done.stderr


@pytest.mark.parametrize("kind", ["link", "external", "virtual"])
def test_what_lies_in_another_file_is_refused(tmp_path, kind):
    other, path = tmp_path / "other.h5", tmp_path / "x.weights.h5"
    with h5py.File(other, "w") as file:
        file["x"] = np.zeros(3)
    with h5py.File(path, "w") as file:
        if kind == "link":
            file["layers/x"] = h5py.ExternalLink(str(other), "x")
        elif kind == "external":
            file.create_dataset("x", (3,), "f4", external=[(str(other), 0, 12)])
        else:
            layout = h5py.VirtualLayout((3,), "f4")
            layout[:] = h5py.VirtualSource(str(other), "x", (3,))
            file.create_virtual_dataset("x", layout)
    with pytest.raises(InputError, match=r"x\.weights\.h5: .* expected"):
        hdf5.check(str(path))
