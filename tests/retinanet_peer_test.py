"""benchmarks.peers.retinanet: it learns, and is scored, on a preset made here."""

import keras
import numpy as np
import pytest

pytest.importorskip("keras_hub", reason="needs the extra [hub]")

import keras_hub

from benchmarks.peers import retinanet
from configs import voc07_320_fpn


@pytest.fixture
def config(tmp_path):
    """On the smallest ResNet that KerasHub makes."""
    keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[5],
        stackwise_num_filters=[64, 8, 8, 8],
        stackwise_num_blocks=[1, 1, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
    ).save_to_preset(str(tmp_path))
    made = voc07_320_fpn.get_config()
    made.backbone.name = str(tmp_path)
    return made


@pytest.mark.slow
def test_it_trains_for_the_minutes_given(config, dataset, monkeypatch):
    monkeypatch.setattr(retinanet, "_TIMED", 2)
    config.data.dir = str(dataset)
    result = retinanet.train_and_score(config, minutes=0.02, learning_rate=1e-3)
    assert result["images"] == 4
    assert result["steps"] > 4
    assert 0 <= result["mAP"] <= 1


def test_foreground_is_rare_at_first(config):
    model = retinanet.build(config, 3, 64)
    outputs = model(np.zeros((1, 64, 64, 3), np.float32))
    scores = keras.ops.sigmoid(outputs["cls_logits"])
    np.testing.assert_allclose(np.mean(scores), 0.01, atol=0.005)
