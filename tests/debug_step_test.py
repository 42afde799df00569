"""What debug_step says of a step, for each of the things that can be wrong with one."""

import numpy as np
import pytest
import tiny
from command_line import run

from ohem_tf import experiment
from ohem_tf.data.reader import RecordReader
from ohem_tf.debug_step import explain, rebuild
from ohem_tf.errors import InputError
from ohem_tf.training import dump as dumps


@pytest.fixture
def dump(dataset, tiny_backbone, tmp_path):
    """Step 6 of a run that goes well, by way of its file."""
    config = tiny.config(dataset)
    stream = experiment.training_stream(config, RecordReader(dataset, "train"))
    (batch,) = stream.dataset(5).take(1).as_numpy_iterator()
    weights = [v.numpy() for v in experiment.build_model(config, 3).weights]
    made = dumps.Dump(5, config.to_dict(), tiny.CLASSES, stream.image_ids(5), batch, weights)
    dumps.write(made, str(tmp_path / "non_finite.npz"))
    read = dumps.read(str(tmp_path / "non_finite.npz"))
    for a, b in zip(read.weights, made.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    return read


def test_a_step_with_finite_losses(dump):
    model = rebuild(dump)
    assert model.step == 5
    (line,) = explain(dump, model)
    assert line.startswith("every loss is finite in this replay")


def test_weights_that_are_not_finite(dump):
    dump.weights[0][0, 0, 0, 0] = np.inf
    lines = explain(dump, rebuild(dump))
    assert lines[0].startswith("the weights conv1/kernel: 1 of 216 values are not finite")
    first = dump.image_ids[0]
    assert lines[1].startswith(f"image {first}: feature map 0: ")
    assert f"image {first}: " in lines[2]
    assert "RoIs have no finite loss in the read-only pass" in lines[2]
    assert "RoI 0 (ground truth 0), box [" in lines[3]
    assert "term cls" in lines[3]
    assert lines[3].endswith("the outputs of the network are not finite, or overflow")
    assert len([line for line in lines if ": RoI " in line]) == 20  # ten of each image
    assert len([line for line in lines if ": and " in line]) == 2


def test_a_proposal_that_is_no_box(dump):
    dump.batch["gt_boxes"][0, 0, 2] = np.nan
    lines = explain(dump, rebuild(dump))
    assert lines[0] == (
        f"image {dump.image_ids[0]}: gt_boxes: 1 of {dump.batch['gt_mask'][0].sum() * 4} "
        "values are not finite"
    )


def test_weights_of_another_model_are_refused(dump):
    with pytest.raises(InputError, match="not those of its config"):
        rebuild(dump._replace(weights=dump.weights[1:]))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "give one file: python -m ohem_tf.debug_step"),
        (["nowhere.npz"], "nowhere.npz: cannot be read"),
        ([__file__], "debug_step_test.py: cannot be read"),
        (["a", "b"], "give one file"),
    ],
)
def test_what_is_no_dump_is_refused(words, expected):
    done = run("ohem_tf.debug_step", *words)
    assert done.returncode == 1
    assert expected in done.stderr.splitlines()[-1]
