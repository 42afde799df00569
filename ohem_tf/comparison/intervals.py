"""How sure a difference is: paired by seed, and by bootstrap over the images of the eval split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from ohem_tf.evaluation import voc

CONFIDENCE = 0.95
RESAMPLES = 1000
Interval = tuple[float, float]


def over_seeds(differences: Sequence[float]) -> Interval | None:
    """Student's interval of the mean of differences paired by seed.

    None of fewer than two, or of no spread, which two seeds can have by chance.
    """
    if len(differences) < 2 or np.ptp(differences) == 0:
        return None
    found = stats.ttest_1samp(differences, 0.0).confidence_interval(CONFIDENCE)
    return (float(found.low), float(found.high))


def resampled_map(
    matches: Mapping[int, voc.Matched], ap_method: str, resamples: int = RESAMPLES
) -> list[float]:
    """mAP of one run over images drawn with replacement, once for each resample.

    The draws depend on the number of images alone, so that those of two runs are pairs.

    Args:
      matches: what `voc.match` returns.
      ap_method: see `voc.average_precision`.
      resamples: how often the images are drawn.
    """
    images = len(next(iter(matches.values())).objects)

    def mean_ap(drawn: np.ndarray) -> float:
        weights = np.bincount(drawn, minlength=images)
        curves = {c: matched.curve(weights) for c, matched in matches.items()}
        # nan: a draw without any object
        return float(np.nan_to_num(voc.mean_average_precision(voc.summarize(curves, ap_method))))

    found = stats.bootstrap(
        (np.arange(images),),
        mean_ap,
        n_resamples=resamples,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return found.bootstrap_distribution.tolist()


def over_images(
    method: Sequence[Sequence[float]], reference: Sequence[Sequence[float]]
) -> Interval:
    """Percentile bootstrap of a difference in mAP over images: the same images for both.

    Args:
      method, reference: `resampled_map` of each seed.

    Returns:
      The interval of the mean over seeds of mAP(method) - mAP(reference).
    """
    differences = np.mean(method, axis=0) - np.mean(reference, axis=0)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(differences, [tail, 100 - tail])
    return (float(low), float(high))


def verdict(
    method: str, reference: str, mean: float, seeds: Sequence[float], images: Interval
) -> str:
    """What the intervals allow to say, and no more.

    Args:
      method, reference: their names.
      mean: difference in mAP, method - reference, in [-1, 1].
      seeds: the differences of each seed.
      images: interval over images, see `over_images`.
    """
    said = f"{method} {100 * mean:+.1f} mAP against {reference}"
    by_seed = over_seeds(seeds)
    if by_seed is None:
        few = (
            "one seed each, an anecdote" if len(seeds) == 1 else "no spread over seeds to judge by"
        )
        return (
            f"{said}: {few} (95 % over images {percent(images)}; "
            "what another seed would give is unknown)."
        )
    spans = f"95 % over {len(seeds)} seeds {percent(by_seed)}, over images {percent(images)}"
    clear = [low > 0 or high < 0 for low, high in (by_seed, images)]
    if all(clear):
        word = "better" if mean > 0 else "worse"
        return f"{said}: {word}, by more than seeds and images explain ({spans})."
    if not any(clear):
        return f"{said}: no difference shown ({spans}; both hold 0)."
    missing = "seeds" if clear[1] else "images"
    return f"{said}: not settled ({spans}; the one over {missing} holds 0)."


def percent(interval: Interval) -> str:
    """An interval of mAP as text: "-0.9 to +2.9"."""
    return f"{100 * interval[0]:+.1f} to {100 * interval[1]:+.1f}"
