"""What detectors that propose their own regions change in the paper's recipe.

As in recipes.py, each function changes a config, and they can be combined.
"""

from __future__ import annotations

from collections.abc import Sequence

from ml_collections import ConfigDict

from ohem_tf.config import paper
from ohem_tf.paper import recipes


def faster_rcnn(config: ConfigDict) -> None:
    """A region proposal network on the one map of the backbone: config.rpn, as in its release.

    Targets are normalised by fixed numbers, since there are no proposals to take statistics of.
    """
    config.proposals = "rpn"
    config.head.target_normalisation = "fixed"


def fpn(config: ConfigDict, levels: Sequence[int] = (2, 3, 4, 5, 6), channels: int = 256) -> None:
    """The same on a feature pyramid: Lin et al. 2017, sections 4 and 5.2.

    One scale of anchors for each level; of each level the best 2000 (in testing 1000) enter the
    NMS. RoIAlign, and two fully connected layers of 1024. No least size, and anchors that reach
    beyond the image train too, as in MMDetection.
    """
    faster_rcnn(config)
    config.pyramid.levels = tuple(levels)
    config.pyramid.channels = channels
    config.rpn.channels = channels
    config.rpn.anchor_scales = (8.0,)
    config.rpn.inside_only = False
    config.rpn.min_size = 0.0
    config.rpn.train_candidates = config.rpn.train_proposals = 2000
    config.rpn.test_candidates = config.rpn.test_proposals = 1000
    config.head.pooling = "align"
    config.head.hidden = (1024, 1024)
    config.head.dropout = 0.0


def mmdetection_r50_fpn() -> ConfigDict:
    """ResNet-50 with FPN on COCO 2017, train -> val, by MMDetection's schedule "1x".

    12 epochs of 117,266 images with objects, 16 a step, B = 16 x 512; a tenth of the rate after 8
    and 11 epochs. The stem and the first stage are frozen.
    """
    epoch = 7329  # steps
    config = paper()
    config.data.train_split, config.data.eval_split = "train2017", "val2017"
    for section in (config.data, config.detection):
        section.shortest_sides = (800,)
        section.longest_side = 1333
    config.data.flip = "random"
    config.backbone.name = "ResNet50"
    config.backbone.frozen_until = "conv2_block3_out"
    fpn(config)
    config.train.steps = 12 * epoch
    config.train.decay_steps = (8 * epoch, 11 * epoch)
    config.train.images_per_step = 16
    config.train.rois_per_step = 16 * 512
    config.train.learning_rate = 0.02
    config.train.weight_decay = 0.0001
    config.train.warmup_steps = 500
    config.train.eval_every = 0
    config.detection.nms_iou = 0.5
    config.evaluation.coco = True
    return config


def rfcn_r50() -> ConfigDict:
    """R-FCN with ResNet-50 on VOC 07+12 -> 07, as the joint training of py-R-FCN.

    110k steps of two images, 128 RoIs of each, a tenth of the rate after 80k; 300 proposals, also
    in training; stem and first stage frozen. By default with OHEM as there: the highest losses,
    without an NMS (Dai et al. 2016, section 2).
    """
    config = recipes.voc0712()
    faster_rcnn(config)
    config.backbone.name = "ResNet50"
    config.backbone.dilated = True
    config.backbone.frozen_until = "conv2_block3_out"
    config.rpn.train_candidates = 6000
    config.rpn.train_proposals = 300
    config.head.pooling = "position_sensitive"
    config.head.hidden = (1024,)
    config.ohem.iou_threshold = 1.0
    config.train.steps = 110_000
    config.train.decay_steps = (80_000,)
    config.train.rois_per_step = 256
    config.detection.score_threshold = 0.05
    config.detection.max_detections = 100
    return config
