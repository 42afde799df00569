"""16-bit arithmetic against float32: the same network within its rounding, weights in float32."""

import numpy as np
import pytest
import tensorflow as tf

from ohem_tf import experiment
from ohem_tf.config import paper


def tiny_config(dtype):
    config = paper()
    config.dtype = dtype
    config.backbone.weights = "none"
    config.head.hidden = (32, 32)
    config.train.rois_per_step = 16
    return config


@pytest.fixture(scope="module", params=["bfloat16", "float16"])
def models(request):
    single, half = (experiment.build_model(tiny_config(d), 3) for d in ("float32", request.param))
    for source, target in zip(single.weights, half.weights, strict=True):
        target.assign(source)
    return single, half


def test_weights_and_outputs_stay_float32(models):
    _, half = models
    assert {variable.dtype for variable in half.weights} == {"float32"}
    dtype = half.roi_head.compute_in
    assert dtype != "float32"
    assert half.backbone.network.layers[1].compute_dtype == dtype
    assert half.roi_head.hidden[0].compute_dtype == dtype
    assert half.roi_head.bbox_pred.compute_dtype == "float32"
    rois = np.float32([[0, 0, 40, 40], [10, 20, 60, 90]])
    (features,) = half.image_features(tf.zeros([64, 96, 3]))
    assert features.dtype == dtype
    scores, boxes = half.score_rois([features], rois, tf.constant(1.0))
    assert scores.dtype == boxes.dtype == tf.float32


def test_results_agree_within_the_rounding(models):
    rng = np.random.default_rng(0)
    image = tf.constant(rng.uniform(0, 255, (64, 96, 3)), tf.float32)
    features = [model.backbone(image[None]).numpy() for model in models]
    error = np.linalg.norm(features[1] - features[0]) / np.linalg.norm(features[0])
    assert 0 < error < 0.05  # 0 would mean that both computed in float32
    rois = np.float32([[0, 0, 40, 40], [10, 20, 60, 90]])
    found = [m.score_rois(m.image_features(image), rois, tf.constant(1.0)) for m in models]
    np.testing.assert_allclose(found[0][0], found[1][0], atol=0.02)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1.0)
