"""What kinds of errors cost AP, and how far scores can be trusted: hotcoco's analyses.

The six error types are TIDE's (Bolya, Foley, Hays, Hoffman, ECCV 2020). Each false positive is of
one type, and so is each object that no false positive would have found, had it been better. What a
type costs is the AP gained if an oracle mended that type alone; the costs do not add up to 1 - AP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import hotcoco

from ohem_tf.evaluation import inputs
from ohem_tf.evaluation.coco import as_coco

BACKGROUND_IOU = 0.1  # TIDE's: an overlap below it is none
BINS = 10  # of scores, for calibration
TYPES = {
    "Cls": "right place, wrong class",
    "Loc": f"right class, IoU from {BACKGROUND_IOU:g} up to the threshold",
    "Both": "wrong class, and the box is off",
    "Dupe": "right, but another detection had found the object before",
    "Bkg": f"no object there (IoU below {BACKGROUND_IOU:g})",
    "Miss": "an object that none of these detections comes near",
}


class ErrorTypes(NamedTuple):
    """TIDE's analysis.

    Attributes:
      ap: AP at the IoU threshold in [0, 1], interpolated as COCO does, the mean over classes.
      counts: {type: number} of `TYPES`.
      costs: {type: AP lost to it} of `TYPES`, and "FP", "FN": to all false positives, all misses.
    """

    ap: float
    counts: dict[str, int]
    costs: dict[str, float]


class Bin(NamedTuple):
    """Detections whose score is in [low, high): their mean score, and how many of them are true."""

    low: float
    high: float
    score: float
    precision: float
    detections: int


class Calibration(NamedTuple):
    """Whether of the detections with a score of 0.8 four in five are true.

    Attributes:
      error: expected calibration error (ECE): mean of |precision - score| of the bins, weighted by
        their detections; 0 without detections.
      bins: those with detections.
    """

    error: float
    bins: list[Bin]


def analyse(
    ground_truth: Sequence[Mapping], detections: Sequence[Mapping], iou_threshold: float = 0.5
) -> tuple[ErrorTypes, Calibration]:
    """Both analyses, on what COCO's metrics count: 100 detections of an image and class.

    Args:
      ground_truth, detections: as `coco.coco_metrics` takes them. What is neither right nor wrong
        there, at a crowd or a difficult object, does not count here either.
      iou_threshold: at which a detection is true.

    Raises:
      InputError: bad lists (see `inputs.check`).
    """
    ground_truth, detections = inputs.check(ground_truth, detections)
    objects, guesses = as_coco(ground_truth, detections)
    truth = hotcoco.COCO(objects)
    evaluation = hotcoco.COCOeval(truth, truth.load_res(guesses["annotations"]), "bbox")
    evaluation.params.iou_thrs = [iou_threshold]
    evaluation.evaluate()
    found = evaluation.tide_errors(iou_threshold, BACKGROUND_IOU)
    errors = ErrorTypes(found["ap_base"], dict(found["counts"]), dict(found["delta_ap"]))
    reliability = evaluation.calibration(BINS, iou_threshold)
    bins = [
        Bin(b["bin_lower"], b["bin_upper"], b["avg_confidence"], b["avg_accuracy"], b["count"])
        for b in reliability["bins"]
        if b["count"]
    ]
    return errors, Calibration(reliability["ece"], bins)
