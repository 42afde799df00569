"""Object detectors trained with online hard example mining (OHEM) in TensorFlow and Keras 3.

The public names are those of `__all__`. Each is imported when it is first used, since most of them
need TensorFlow, which takes seconds, and a config needs none.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from ohem_tf.quiet import silence_tensorflow
from ohem_tf.version import __version__ as __version__

if TYPE_CHECKING:
    from ohem_tf.data.pipeline import TrainingStream
    from ohem_tf.data.reader import RecordReader
    from ohem_tf.detector import Detector, load
    from ohem_tf.hard_mining import HardMining, select_hard_rois
    from ohem_tf.inference.detection import Detections
    from ohem_tf.inference.predict import Predictor
    from ohem_tf.miner import OnlineHardExampleMiner
    from ohem_tf.models.backbones import Backbone
    from ohem_tf.models.fast_rcnn import FastRCNN
    from ohem_tf.models.heads import RoIHead
    from ohem_tf.models.proposers import Proposer
    from ohem_tf.models.pyramid import FeaturePyramid
    from ohem_tf.models.rpn import RegionProposalNetwork
    from ohem_tf.reweighting import ImportanceReweighting
    from ohem_tf.sampler import RoIs, Sampler
    from ohem_tf.sampling import HeuristicSampling, IoUBalancedSampling
    from ohem_tf.settings import DetectionSettings, RPNSettings
    from ohem_tf.train import train
    from ohem_tf.training.optimizer import CaffeSGD, StepDecay

__all__ = [
    "Backbone",
    "CaffeSGD",
    "DetectionSettings",
    "Detections",
    "Detector",
    "FastRCNN",
    "FeaturePyramid",
    "HardMining",
    "HeuristicSampling",
    "ImportanceReweighting",
    "IoUBalancedSampling",
    "OnlineHardExampleMiner",
    "Predictor",
    "Proposer",
    "RPNSettings",
    "RecordReader",
    "RegionProposalNetwork",
    "RoIHead",
    "RoIs",
    "Sampler",
    "StepDecay",
    "TrainingStream",
    "load",
    "select_hard_rois",
    "train",
]

_MODULES = {
    "Backbone": "models.backbones",
    "CaffeSGD": "training.optimizer",
    "DetectionSettings": "settings",
    "Detections": "inference.detection",
    "Detector": "detector",
    "FastRCNN": "models.fast_rcnn",
    "FeaturePyramid": "models.pyramid",
    "HardMining": "hard_mining",
    "HeuristicSampling": "sampling",
    "ImportanceReweighting": "reweighting",
    "IoUBalancedSampling": "sampling",
    "OnlineHardExampleMiner": "miner",
    "Predictor": "inference.predict",
    "Proposer": "models.proposers",
    "RPNSettings": "settings",
    "RecordReader": "data.reader",
    "RegionProposalNetwork": "models.rpn",
    "RoIHead": "models.heads",
    "RoIs": "sampler",
    "Sampler": "sampler",
    "StepDecay": "training.optimizer",
    "TrainingStream": "data.pipeline",
    "load": "detector",
    "select_hard_rois": "hard_mining",
    "train": "train",
}

# Keras 3 asks this, or a file in the home directory, which library computes; here there is one.
os.environ["KERAS_BACKEND"] = "tensorflow"
silence_tensorflow()


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'ohem_tf' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ohem_tf.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
