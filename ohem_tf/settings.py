"""Every setting with its default: those of the paper (its section 5.1), where it names one.

`config.paper()` makes an `ml_collections` config of `Experiment`, and the parts of the program take
the other classes, or their fields, as values. Nothing here needs TensorFlow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ohem_tf.sampler_settings import (
    HeuristicSettings,
    IoUBalancedSettings,
    ISRSettings,
    OHEMSettings,
)

PROPOSALS = ("records", "rpn")
SAMPLERS = ("ohem", "heuristic", "iou_balanced", "isr")
DTYPES = ("float32", "bfloat16", "float16")
FLIPS = ("double", "random", "none")
POOLING = ("max", "align", "position_sensitive")
TARGET_NORMALISATION = ("empirical", "fixed")
SCALE_CHOICES = ("best", "all")
NMS_METHODS = ("hard", "gaussian")
AP_METHODS = ("voc07", "area")


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """Which examples are read, and how images become input.

    Attributes:
      dir: output of `python -m ohem_tf.prepare`, or a folder that holds several such outputs.
      train_split, eval_split: SPLIT of `dir` itself, or NAME/SPLIT of the data set in its folder
        NAME; a part of one: "train[:90%]"; several with + between them:
        "voc07/trainval+voc12/trainval". See data/joined.py.
      shortest_sides: of the resized image in pixels; several: one at random per training image.
      longest_side: cap on the longest side, pixels.
      flip: "double": an epoch holds each image and its flipped copy, as in the release; "random":
        an image is flipped with probability 0.5; "none".
      max_proposals: at most this many proposals of an image, the first ones; 0: all. The release
        takes all for VOC, and the first 2000 for COCO.
      crowd_ioa: training leaves out proposals that a crowd region (COCO) covers more than this.
    """

    dir: str = ""
    train_split: str = "trainval"
    eval_split: str = "test"
    shortest_sides: Sequence[int] = (600,)
    longest_side: int = 1000
    flip: str = "double"
    max_proposals: int = 0
    crowd_ioa: float = 0.7


@dataclasses.dataclass(frozen=True)
class AugmentSettings:
    """Random changes to training images beside flips and scales; all off, as in the paper.

    Attributes:
      scale: s; the shortest side is multiplied by a factor between 1 / (1 + s) and 1 + s.
      crop: probability that a window around one object at least is cut out. Objects and proposals
        of which less than half lies in it are gone. (Empirical target statistics stay those of the
        whole images.)
      crop_min_side: the least height and width of the window, as a share of the image's.
      colour: s; brightness, contrast and saturation change by up to this share, hue by up to a
        tenth of it of the circle.
      cutout: side of a square that is painted over, as a share of the image's shortest side.
    """

    scale: float = 0.0
    crop: float = 0.0
    crop_min_side: float = 0.5
    colour: float = 0.0
    cutout: float = 0.0


@dataclasses.dataclass(frozen=True)
class BackboneSettings:
    """The conv network; the fields are the arguments of `models.backbones.build`."""

    name: str = "vgg16"
    weights: str = "imagenet"
    preprocessing: str = "auto"
    layer: str = ""
    dilated: bool = False
    frozen_until: str = "block2_pool"
    feature_scale: float = 1.0


@dataclasses.dataclass(frozen=True)
class PyramidSettings:
    """The feature pyramid (Lin et al., CVPR 2017).

    Attributes:
      levels: consecutive, such as (2, 3, 4, 5, 6): maps of strides 2^level. RoIs are pooled from
        those up to the network's last, and an RPN reads all. (): no pyramid, one map of stride 16.
      channels: of its maps.
    """

    levels: Sequence[int] = ()
    channels: int = 256


@dataclasses.dataclass(frozen=True)
class RPNSettings:
    """The region proposal network (Ren et al., NIPS 2015), if config.proposals is "rpn".

    The defaults are those of its release with VGG16; with a pyramid, Lin et al. have one scale, 8.

    Attributes:
      channels: of the 3 x 3 convolution.
      anchor_scales: side of a square anchor in cells; at stride 16, of 128, 256 and 512 pixels.
      aspect_ratios: height / width of the anchors, at equal area.
      fg_iou, bg_iou: an anchor is an object from this IoU on, and background below this one.
      inside_only: anchors that reach beyond the image do not train it.
      anchors_per_image: how many train it, at most.
      fg_fraction: share of objects among them, at most.
      hard_mining: take those with the highest losses, after the NMS of OHEM, instead of random ones
        at a fixed ratio.
      min_size: least height and width of a proposal, in pixels of the original image.
      nms_iou: a proposal is suppressed if its IoU with a likelier one of its map is greater.
      train_candidates, test_candidates: how many of each map enter the NMS.
      train_proposals, test_proposals: how many of an image remain.
    """

    channels: int = 512
    anchor_scales: Sequence[float] = (8.0, 16.0, 32.0)
    aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0)
    fg_iou: float = 0.7
    bg_iou: float = 0.3
    inside_only: bool = True
    anchors_per_image: int = 256
    fg_fraction: float = 0.5
    hard_mining: bool = False
    min_size: float = 16.0
    nms_iou: float = 0.7
    train_candidates: int = 12000
    train_proposals: int = 2000
    test_candidates: int = 6000
    test_proposals: int = 300


@dataclasses.dataclass(frozen=True)
class HeadSettings:
    """The RoI network.

    Attributes:
      pooling: "max", RoI max pooling as in the paper; "align", RoIAlign; or "position_sensitive",
        from score maps (Dai et al., R-FCN, NIPS 2016), all whose layers run once an image.
      pool_size: P of the RoI pooling.
      hidden: widths of the fully connected layers, or of the convolutions before the score maps.
      dropout: rate after each fully connected layer.
      target_normalisation: mean and std of the regression targets: "empirical" per class, over the
        training set; "fixed" 0 / (.1, .1, .2, .2).
    """

    pooling: str = "max"
    pool_size: int = 7
    hidden: Sequence[int] = (4096, 4096)
    dropout: float = 0.5
    target_normalisation: str = "empirical"


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """The schedule and the solver.

    Attributes:
      steps: weight updates.
      images_per_step: N, over all replicas.
      rois_per_step: B.
      learning_rate: at the start; multiplied by `gamma` at each of `decay_steps`.
      warmup_steps: of a linear warm-up.
      momentum, weight_decay: of Caffe's SGD, see `training.optimizer.CaffeSGD`.
      log_every, checkpoint_every: steps.
      keep_checkpoints: the last few that are kept.
      snapshot_every: weights are kept for good every this many steps; 0: none.
      eval_every: mAP on the eval split every this many steps; 0: only at the end.
      patience: training ends after this many evaluations in a row without a better mAP; 0: never
        before `steps`. The learning rate falls by `decay_steps` alone: leave time for that.
      ema: momentum of a moving average of the weights, such as 0.999 (over a shorter past in the
        first steps), which evaluations, snapshots, best weights and detection then take instead of
        the weights; 0: none, as in the paper.
      pictures_every: TensorBoard is shown every this many steps, and at the end, what is mined in a
        few fixed training images, see docs/tensorboard.md; 0: never.
      pictures_images: how many images; each costs about a forward pass and a detection.
      deterministic: TensorFlow's operations add up in a fixed order (a little slower), so that two
        runs on the same machine, or one that was interrupted, agree to the bit. An operation that
        has no such form on a GPU ends training, and is named.
    """

    steps: int = 80000
    images_per_step: int = 2
    rois_per_step: int = 128
    learning_rate: float = 0.001
    decay_steps: Sequence[int] = (30000, 60000)
    gamma: float = 0.1
    warmup_steps: int = 0
    momentum: float = 0.9
    weight_decay: float = 0.0005
    log_every: int = 20
    checkpoint_every: int = 2000
    keep_checkpoints: int = 3
    snapshot_every: int = 0
    eval_every: int = 10000
    patience: int = 0
    ema: float = 0.0
    pictures_every: int = 1000
    pictures_images: int = 4
    deterministic: bool = False


@dataclasses.dataclass(frozen=True)
class DetectionSettings:
    """Inference, see `inference.detection`.

    Attributes:
      shortest_sides: of the resized image in pixels, see `images.resize`; several: multi-scale
        testing. The paper's scales are 480, 576, 688, 864 and 1000.
      longest_side: cap on the longest side, pixels.
      scale_choice: with several scales, "best" scores a RoI at the one at which its area is closest
        to 224 x 224, as the release; "all" scores every RoI at every scale, and all the boxes enter
        the NMS (and the voting).
      flip: score every RoI on the flipped image too, and take the mean of the two scores and of
        the two boxes, class by class.
      max_proposals: use at most this many proposals, the first ones; 0: all.
      score_threshold: drop lower scores before NMS, and after the decay of Soft-NMS. The release's
        baseline scripts take 0.05, its OHEM scripts and the rows of configs/paper.py 1e-5.
      rounds: 1: score and regress the proposals. 2: also score and regress the high-scoring boxes
        of round 1 (iterative box regression), and so on; the boxes of all rounds enter the NMS.
      rescore_threshold: a box with a score >= this is a RoI of the next round. The paper gives no
        number. MR-CNN's leaves about 15 boxes per image and class; 0.01 left 18 with a model of
        configs/voc07_320.py.
      rescore_nms_iou: of the per-class NMS among them.
      rescore_max: at most this many of a class.
      nms: "hard", or "gaussian" for Soft-NMS.
      nms_iou: "hard" suppresses a box whose IoU with a better one of its class is greater;
        "gaussian" does not use it.
      soft_nms_sigma: of "gaussian".
      max_detections: of an image, over all classes (the same scripts: 100 and 2000).
      voting: whether each survivor's box becomes the mean of its neighbours (`vote`), those under
        `score_threshold` included.
      voting_iou: IoU of the neighbours that vote.
    """

    shortest_sides: Sequence[int] = (600,)
    longest_side: int = 1000
    scale_choice: str = "best"
    flip: bool = False
    max_proposals: int = 0
    score_threshold: float = 0.05
    rounds: int = 1
    rescore_threshold: float = 0.01
    rescore_nms_iou: float = 0.95
    rescore_max: int = 200
    nms: str = "hard"
    nms_iou: float = 0.3
    soft_nms_sigma: float = 0.5
    max_detections: int = 100
    voting: bool = False
    voting_iou: float = 0.5


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """How AP is computed.

    Attributes:
      method: "voc07", the 11-point interpolation, or "area", the area under the curve.
      iou_threshold: of a match, in (0, 1].
      coco: whether `evaluate` computes COCO's metrics too; with 2000 detections an image that takes
        seconds for a hundred images.
    """

    method: str = "voc07"
    iou_threshold: float = 0.5
    coco: bool = False


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All settings of an experiment; the defaults are the paper's recipe.

    Attributes:
      seed: of weights, order of examples, dropout and random samplers.
      dtype: arithmetic of backbone and fc layers (weights stay float32); "bfloat16" is several
        times faster where the processor has units for it. "float16", with loss scaling
        (`training.loss_scale`), is for GPUs without them.
      proposals: "records": those prepared with the images; "rpn": the model's own.
      sampler: "ohem", "heuristic", "iou_balanced" or "isr"; each has a section of that name.
      fg_iou: a RoI is foreground if its IoU with a ground truth box is >= this.
    """

    seed: int = 0
    dtype: str = "float32"
    data: DataSettings = DataSettings()
    augment: AugmentSettings = AugmentSettings()
    backbone: BackboneSettings = BackboneSettings()
    pyramid: PyramidSettings = PyramidSettings()
    proposals: str = "records"
    rpn: RPNSettings = RPNSettings()
    head: HeadSettings = HeadSettings()
    sampler: str = "ohem"
    fg_iou: float = 0.5
    ohem: OHEMSettings = OHEMSettings()
    heuristic: HeuristicSettings = HeuristicSettings()
    iou_balanced: IoUBalancedSettings = IoUBalancedSettings()
    isr: ISRSettings = ISRSettings()
    train: TrainSettings = TrainSettings()
    detection: DetectionSettings = DetectionSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
