"""benchmarks.inference: what is the same detection, and a config for an older checkout."""

import numpy as np
from ml_collections import ConfigDict

from benchmarks import inference
from configs import voc07_320_fpn
from ohem_tf.config import paper


def test_only_what_differs_from_the_defaults_is_written():
    assert not inference.changes(paper()).to_dict()
    config = voc07_320_fpn.get_config()
    written = inference.changes(config)
    assert "dilated" not in written.backbone
    read = paper()
    with read.unlocked():  # as experiment.trained_config does
        read.update(ConfigDict(written.to_dict()))
    assert read.to_dict() == config.to_dict()


def test_a_detection_agrees_if_class_box_and_score_do():
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    scores, classes = np.array([0.9, 0.5], np.float32), np.array([1, 2])
    theirs = (boxes, scores, classes)
    assert inference.agreement((boxes[::-1], scores[::-1], classes[::-1]), theirs) == 1.0
    assert inference.agreement((boxes + 0.05, scores * 1.0005, classes), theirs) == 1.0
    moved = boxes + np.float32([0, 0, 0, 0.2])
    assert inference.agreement((moved, scores, classes), theirs) == 0.0
    assert inference.agreement((boxes, scores * [1, 1.01], classes), theirs) == 0.5
    assert inference.agreement((boxes, scores, np.array([1, 1])), theirs) == 0.5
