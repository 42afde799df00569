"""What the package exports, and what an import of it costs."""

import pathlib
import subprocess
import sys

import ohem_tf

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_every_public_name_is_there_and_no_other():
    for name in ohem_tf.__all__:
        assert getattr(ohem_tf, name).__name__ == name
    assert set(ohem_tf.__all__) == set(ohem_tf._MODULES)


def test_a_config_needs_neither_tensorflow_nor_keras():
    code = (
        "import sys; import ohem_tf.config as c; c.validate(c.paper()); "
        "print([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
