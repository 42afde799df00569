"""Training and detection run on a GPU op for op; see gpu_kernels.py."""

import gpu_kernels
import pytest
import tensorflow as tf
import tiny

from ohem_tf import experiment
from ohem_tf.inference.detection import detect
from ohem_tf.miner import OnlineHardExampleMiner
from ohem_tf.paper import recipes
from ohem_tf.settings import DTYPES, POOLING, DetectionSettings

# Results on the host that cost nothing.
SMALL = {
    "Neg int32 <unknown>": "the shift of tf.roll, a scalar, in the gradient of RoI max pooling",
}

BATCH = {
    "image": tf.TensorSpec([1, None, None, 3], tf.float32),
    "size": tf.TensorSpec([1, 2], tf.int32),
    "scale": tf.TensorSpec([1], tf.float32),
    "proposals": tf.TensorSpec([1, None, 4], tf.float32),
    "proposals_mask": tf.TensorSpec([1, None], tf.bool),
    "gt_boxes": tf.TensorSpec([1, None, 4], tf.float32),
    "gt_classes": tf.TensorSpec([1, None], tf.int32),
    "gt_mask": tf.TensorSpec([1, None], tf.bool),
    "position": tf.TensorSpec([1], tf.int64),
}

DETECTIONS = {
    "plain": {},
    "many detections": {"score_threshold": 1e-5, "max_detections": 2000},
    "Soft-NMS": {"nms": "gaussian"},
    "iterative regression and voting": {"rounds": 2, "voting": True},
    "multi-scale": {"shortest_sides": (48, 64)},
    "multi-scale, all, flipped": {
        "shortest_sides": (48, 64),
        "scale_choice": "all",
        "flip": True,
    },
}


def assert_runs_on_a_gpu(traced):
    assert gpu_kernels.without_kernel(traced) == set()
    assert gpu_kernels.on_host(traced) - set(SMALL) == set()


def trace(config):
    model = experiment.build_model(config, 3)
    model.compile(experiment.build_optimizer(config))
    model.optimizer.build(model.trainable_variables)
    return tf.function(model.train_step).get_concrete_function(BATCH)


def config_of(**changes):
    return tiny.config("", **{"train.images_per_step": 1, **changes})


@pytest.mark.parametrize("method", recipes.METHODS)
def test_training(method, tiny_backbone):
    config = config_of()
    recipes.METHODS[method].change(config)
    assert_runs_on_a_gpu(trace(config))


def test_training_in_the_masked_form(tiny_backbone):
    config = config_of()
    recipes.masked_backward(config)
    assert_runs_on_a_gpu(trace(config))


def test_training_of_r_fcn(tiny_backbone):
    fixed = {"head.target_normalisation": "fixed"}
    assert_runs_on_a_gpu(trace(config_of(**fixed, **{"head.pooling": "position_sensitive"})))


def test_training_that_mines_from_some_step_on(tiny_backbone):
    assert_runs_on_a_gpu(trace(config_of(**{"ohem.start_step": 5})))


@pytest.mark.parametrize("pyramid", [False, True])
@pytest.mark.parametrize("hard_mining", [False, True])
def test_training_of_a_region_proposal_network(pyramid, hard_mining):
    model = tiny.faster_rcnn(pyramid=pyramid, hard_mining=hard_mining)
    model.compile(experiment.build_optimizer(config_of()))
    model.optimizer.build(model.trainable_variables)
    assert_runs_on_a_gpu(tf.function(model.train_step).get_concrete_function(BATCH))


@pytest.mark.slow
@pytest.mark.parametrize("pooling", POOLING)
@pytest.mark.parametrize("dtype", DTYPES)
def test_training_of_vgg16(dtype, pooling):
    assert_runs_on_a_gpu(trace(config_of(dtype=dtype, **{"head.pooling": pooling})))


@pytest.mark.parametrize("kind", DETECTIONS)
def test_detection(kind, tiny_backbone):
    model = experiment.build_model(config_of(), 3)
    settings = DetectionSettings(**{"shortest_sides": (48,), "longest_side": 96} | DETECTIONS[kind])
    traced = tf.function(lambda image, rois: detect(model, image, rois, settings))
    specs = tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([None, 4], tf.float32)
    assert_runs_on_a_gpu(traced.get_concrete_function(*specs))


@pytest.mark.parametrize("pyramid", [False, True])
def test_detection_with_the_model_s_own_proposals(pyramid):
    model = tiny.faster_rcnn(pyramid=pyramid)
    settings = DetectionSettings(shortest_sides=(48,), longest_side=96)
    traced = tf.function(lambda image: detect(model, image, None, settings))
    spec = tf.TensorSpec([None, None, 3], tf.uint8)
    assert_runs_on_a_gpu(traced.get_concrete_function(spec))


@pytest.mark.parametrize("threshold", [0.7, None])
def test_the_miner_for_other_detectors(threshold):
    miner = OnlineHardExampleMiner(8, threshold)

    def mine(boxes, losses, valid, labels):
        labels = None if threshold is None else labels
        places, _ = miner.padded_indices(boxes, losses, labels, valid)
        return miner.mask(boxes, losses, labels, valid), tf.gather(losses, places, batch_dims=1)

    specs = [tf.TensorSpec([None, None, *x], tf.float32) for x in ([4], [])]
    specs += [tf.TensorSpec([None, None], dtype) for dtype in (tf.bool, tf.int32)]
    assert_runs_on_a_gpu(tf.function(mine).get_concrete_function(*specs))


def test_what_a_gpu_cannot_do_is_found_also_in_a_loop():
    @tf.function(input_signature=[tf.TensorSpec([None, 4]), tf.TensorSpec([None, 7], tf.int32)])
    def function(boxes, indices):
        def step(i, total):
            return i + 1, total + tf.size(tf.raw_ops.UniqueV2(x=boxes, axis=[0])[0])

        found = tf.while_loop(lambda i, _: i < 3, step, (tf.constant(0), tf.constant(0)))[1]
        return found, indices * 2, tf.cast(indices, tf.int64) * 2

    traced = function.get_concrete_function()
    (missing,) = gpu_kernels.without_kernel(traced)
    assert missing.startswith("UniqueV2 T=float32")
    found = gpu_kernels.on_host(traced)
    assert found == {"Mul int32 (None, 7)", "Identity int32 (None, 7)"}  # the result; no int64


def test_kernels_depend_on_the_dtype():
    traced = [
        tf.function(lambda x: x**2).get_concrete_function(tf.TensorSpec([None, 7], dtype))
        for dtype in (tf.float32, tf.int32, tf.int64)
    ]
    missing = [gpu_kernels.without_kernel(x) for x in traced]
    assert missing == [set(), {"Pow T=int32"}, set()]
