"""Half precision and truncated SVD: what they do to the head, and that the export measures them."""

import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from export import compress, measure, saved_model
from ohem_tf.errors import InputError
from ohem_tf.models import heads as roi_head


def head(dtype="float32"):
    keras.utils.set_random_seed(0)
    made = roi_head.RoIHead(3, 8, 3, (24, 16), 0.0, dtype)
    for layer in made.hidden:
        layer.bias.assign(np.linspace(-0.5, 0.5, layer.units))
    return made


POOLED = np.random.default_rng(0).normal(size=(40, 3, 3, 8)).astype(np.float32)


@pytest.mark.parametrize("shape", [(30, 20), (20, 30)])
def test_the_factors_are_the_best_of_their_rank(shape):
    kernel = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    singular = np.linalg.svd(kernel, compute_uv=False)
    for rank in (1, 7, 20):
        first, second = compress.truncated_svd(kernel, rank)
        assert first.shape == (shape[0], rank)
        assert second.shape == (rank, shape[1])
        error = np.linalg.norm(kernel - first @ second)  # Eckart-Young
        np.testing.assert_allclose(error, np.linalg.norm(singular[rank:]), atol=1e-4)


def test_a_kernel_of_that_rank_gives_the_same_outputs():
    made = head()
    rng = np.random.default_rng(2)
    for layer, rank in zip(made.hidden, (5, 4), strict=True):
        kernel, bias = layer.get_weights()
        low = rng.normal(size=(len(kernel), rank)) @ rng.normal(size=(rank, layer.units))
        layer.set_weights([low * 0.1, bias])
    wanted = made(POOLED)
    compress.compress(made, (5, 4))
    for found, value in zip(made(POOLED), wanted, strict=True):
        np.testing.assert_allclose(found, value, atol=1e-4, rtol=1e-4)


def test_rank_0_leaves_a_layer_as_it_is():
    made = head()
    fc6, fc7 = made.hidden
    compress.compress(made, (0, 9))
    assert made.hidden[0] is fc6
    assert made.hidden[1] is not fc7
    compress.compress(head())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_stored_half_precision_computes_the_same(dtype):
    made = head(dtype)
    wanted = made(POOLED)
    compress.compress(made)
    assert {layer.kernel.dtype for layer in made.hidden} == {dtype}
    for found, value in zip(made(POOLED), wanted, strict=True):
        np.testing.assert_array_equal(found, value)


def test_ranks_that_save_nothing_are_refused():
    # fc6 [72, 24]: 72 * 24 / (72 + 24) = 18; fc7 [24, 16]: 9.6.
    compress.check_ranks(compress.widths(head()), (17, 9))
    for ranks, words in (
        ((18,), r"rank 18 for fc6 \[72, 24\]; expected 1 to 17"),
        ((4, 10), r"rank 10 for fc7 \[24, 16\]; expected 1 to 9"),
        ((-1,), "rank -1 for fc6"),
        ((4, 4, 4), "3 ranks for 2 hidden layers"),
    ):
        with pytest.raises(InputError, match=words):
            compress.compress(head(), ranks)


@pytest.mark.slow
def test_the_export_measures_what_the_options_change(config, workdir, tmp_path, capsys):
    path = saved_model.export(
        config, workdir, str(tmp_path), dtype="bfloat16", ranks=(4, 4), measure_images=3
    )
    shown = capsys.readouterr().out
    assert "on the first 3 images of the eval split" in shown
    assert "as trained" in shown
    assert "x as fast" in shown
    about = json.loads(pathlib.Path(path, "assets/metadata.json").read_text())
    assert about["dtype"] == "bfloat16"
    assert about["svd"] == [4, 4]
    assert 0 <= about["measured"]["as exported"]["mAP"] <= 1
    assert about["measured"]["as exported"]["seconds_per_image"] > 0
    variables = tf.train.list_variables(f"{path}/variables/variables")
    shapes = [shape for _, shape in variables if len(shape) == 2]
    assert sorted(shapes) == sorted(
        [[72, 4], [4, 16], [16, 4], [4, 16], [16, 4], [16, 16]] + [[4, 4]] * 2
    )


def test_options_without_data_to_measure_on_are_refused_early(config, workdir, tmp_path):
    config = config.copy_and_resolve_references()
    config.data.dir = str(tmp_path)
    with pytest.raises(InputError, match=r"config.data.dir"):
        saved_model.export(config, workdir, str(tmp_path / "out"), dtype="bfloat16")
    assert not (tmp_path / "out").exists()


def test_the_table_compares_with_the_first():
    rows = {"as trained": (0.5, 2.0), "as exported": (0.475, 0.5), "empty": (None, 1.0)}
    measured = {
        name: {"mAP": mean, "seconds_per_image": seconds} for name, (mean, seconds) in rows.items()
    }
    lines = measure.table({"images": 7, **measured}).splitlines()
    assert lines[0] == "on the first 7 images of the eval split:"
    assert lines[1] == "  as trained   mAP 50.00  2.000 s"
    assert lines[2] == "  as exported  mAP 47.50  0.500 s  mAP -2.50  4.00 x as fast"
    assert lines[3] == "  empty        mAP no data  1.000 s  2.00 x as fast"
