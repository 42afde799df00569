"""What the package exports, and what an import of it costs."""

import pathlib
import subprocess
import sys

import pytest

import ohem_tf

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_every_public_name_is_there_and_no_other():
    for name in ohem_tf.__all__:
        assert getattr(ohem_tf, name).__name__.removeprefix("ohem_tf.") == name
    assert set(ohem_tf.__all__) == set(ohem_tf._MODULES)


@pytest.mark.parametrize("before", ["", "import ohem_tf.train", "from ohem_tf import train"])
def test_train_can_be_called_whether_or_not_its_module_was_imported(before):
    code = f"""
import ohem_tf
from ohem_tf.config import paper
{before}
config = paper()
config.train.steps = 0
for _ in range(2):  # the first use imports the module
    try:
        ohem_tf.train(config, "nowhere")
    except ohem_tf.errors.InputError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.count("config.train.steps") == 2, done.stderr


def test_a_config_needs_neither_tensorflow_nor_keras():
    code = (
        "import sys; import ohem_tf.config as c; c.validate(c.paper()); "
        "print([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
