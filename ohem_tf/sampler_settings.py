"""The settings of the samplers, with their defaults: the paper's for OHEM and Fast R-CNN's sampler.

Each sampler is a class with these fields (hard_mining.py, sampling.py, reweighting.py), and a
section of a config (settings.py).
"""

from __future__ import annotations

import dataclasses

RANKINGS = ("loss", "cls")


@dataclasses.dataclass(frozen=True)
class HardMiningSettings:
    """Online hard example mining (paper, section 4).

    Attributes:
      iou_threshold: of the NMS on the losses; a RoI is suppressed if its IoU with a harder one is
        greater.
      per_label: one NMS per assigned label, as in the release, instead of one per image (the
        paper).
      rank_by: "loss", classification and box loss together (the paper), or "cls", classification
        alone (MMDetection's OHEMSampler).
      fg_fraction: share of foreground, at most, rounded down to whole RoIs; then foreground and
        background are mined apart. 1: no limit (the paper); MMDetection's is 0.25.
      dropout: whether dropout is active in the read-only pass, with a mask of its own.
      chunk: RoIs per forward step of the read-only pass, to bound its memory, which is then within
        a tenth of Fast R-CNN's whatever their number (docs/results/growth.md); 0 takes all at once.
      candidates: the read-only pass estimates the losses of all RoIs of an image, and computes only
        those of this many, the highest, exactly; see `RoINetwork.read_only_losses`. 0: the losses
        of all RoIs exactly (the paper).
      start_step: updates before which RoIs are chosen as config.heuristic says, without a read-only
        pass: a network that proposes its own regions has bad ones at first. 0: none (the paper).
    """

    iou_threshold: float = 0.7
    per_label: bool = False
    rank_by: str = "loss"
    fg_fraction: float = 1.0
    dropout: bool = True
    chunk: int = 2500
    candidates: int = 0
    start_step: int = 0


@dataclasses.dataclass(frozen=True)
class OHEMSettings(HardMiningSettings):
    """Hard mining, or the naive form of it.

    Attributes:
      masked_backward: the form that the paper rejects (section 4.2), see
        `hard_mining.MaskedHardMining`; `dropout`, `chunk` and `candidates` have no effect on it,
        and `start_step` does not go with it.
    """

    masked_backward: bool = False


@dataclasses.dataclass(frozen=True)
class HeuristicSettings:
    """The baseline: Fast R-CNN's heuristic sampling (Fast R-CNN, section 2.3).

    Attributes:
      fg_fraction: share of foreground, at most; rounded to whole RoIs, half to even (as numpy).
      bg_lo, bg_hi: background has IoU in [bg_lo, bg_hi). bg_lo > 0 is the heuristic that takes
        the RoIs near objects for the hard ones.
      fixed_ratio: False draws from foreground and background alike, without `fg_fraction` (Fast
        R-CNN loses about 3 points: paper, section 3.1).
    """

    fg_fraction: float = 0.25
    bg_lo: float = 0.1
    bg_hi: float = 0.5
    fixed_ratio: bool = True


@dataclasses.dataclass(frozen=True)
class IoUBalancedSettings:
    """IoU-balanced sampling (Pang et al., "Libra R-CNN", CVPR 2019, section 3.1).

    Attributes:
      fg_fraction: as of `HeuristicSettings`.
      bins: K; background is drawn in equal numbers from K equal intervals of IoU.
    """

    fg_fraction: float = 0.25
    bins: int = 3


@dataclasses.dataclass(frozen=True)
class ISRSettings:
    """Importance-based sample reweighting (Cao et al., "Prime Sample Attention", CVPR 2020).

    The defaults are those of MMDetection's configs of it.

    Attributes:
      fg_fraction: as of `HeuristicSettings`.
      score_threshold: background below this predicted probability of being an object is easy: it is
        drawn at random, and only where the rest does not fill the batch.
      group_iou: background that overlaps this much competes for the same rank.
      fg_power, bg_power: gamma, the exponent of the weights.
      bias: beta, the weight of the least important RoI before the exponent.
    """

    fg_fraction: float = 0.25
    score_threshold: float = 0.05
    group_iou: float = 0.5
    fg_power: float = 2.0
    bg_power: float = 0.5
    bias: float = 0.0
