"""TensorFlow's start-up lines: left out, shown on request, and shown with a failing import."""

import os
import subprocess
import sys

import pytest

from ohem_tf.quiet import _stderr_kept

IMPORTING = """
import ohem_tf, sys
assert "tensorflow" not in sys.modules
import tensorflow as tf
assert type(tf.__spec__.loader).__module__.startswith(("importlib", "_frozen_importlib"))
assert int(tf.constant(1) + 1) == 2
sys.stderr.write("ours")
"""


def stderr(code, **environment):
    kept = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=kept | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_the_import_is_quiet():
    assert stderr(IMPORTING) == "ours"


@pytest.mark.slow
def test_messages_can_be_asked_for():
    assert "port.cc" in stderr(IMPORTING, TF_CPP_MIN_LOG_LEVEL="0")


def test_a_failure_is_not(capfd):
    def fail():
        with _stderr_kept():
            os.write(2, b"why")
            raise ImportError

    with pytest.raises(ImportError):
        fail()
    assert capfd.readouterr().err == "why"
    with _stderr_kept():
        os.write(2, b"noise")
    os.write(2, b"signal")
    assert capfd.readouterr().err == "signal"


def test_the_import_of_the_export_is_quiet():
    assert stderr("import export.saved_model") == ""
