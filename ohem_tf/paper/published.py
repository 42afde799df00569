"""The paper's numbers, and which of them a run is to be compared with.

published.json holds them, in percent, each with the setting it was got in. Left out are numbers
that we could not confirm: table 5's AP75, AP_small and AP_large, and of table 6 the rows with
multi-scale testing only and with iterative regression only.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ohem_tf.paper.setting import Setting

_METHODS = {"07 test": "voc07", "12 test": "area"}
_IMAGES = {"07 test": 4952, "12 test": 10991}


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the paper.

    Attributes:
      table: which table it stands in, "release" for the authors' reruns.
      setting: that of the row.
      mean_ap: mAP in percent, or None.
      ap: {class: AP in percent}, empty where not published or not confirmed.
      coco: {"AP", "AP50", "AP_medium": percent on test-dev}; empty for VOC.
    """

    table: str
    setting: Setting
    mean_ap: float | None
    ap: Mapping[str, float]
    coco: Mapping[str, float]


@functools.cache
def rows() -> tuple[Row, ...]:
    """All rows of published.json."""
    content = _content()
    found = []
    for entry in content["rows"]:
        fields = {f.name: entry[f.name] for f in dataclasses.fields(Setting) if f.name in entry}
        fields["decay_steps"] = tuple(entry["decay_steps"])
        ap = dict(zip(content["classes"], entry.get("AP", ()), strict="AP" in entry))
        found.append(
            Row(entry["table"], Setting(**fields), entry.get("mAP"), ap, entry.get("coco", {}))
        )
    return tuple(found)


def note() -> str:
    """Where the numbers come from; stands below every table that shows some."""
    return _content()["note"]


def row_for(setting: Setting, metrics: Mapping[str, Any]) -> Row | None:
    """The row of the paper that an evaluation is to be compared with, if there is one.

    Args:
      setting: of the evaluation.
      metrics: what metrics.json holds. VOC numbers compare only where all classes and images were
        tested and AP was computed as in the paper.
    """
    if setting.test in _IMAGES:
        wanted = (_METHODS[setting.test], 0.5, _IMAGES[setting.test], set(_content()["classes"]))
        found = tuple(metrics[name] for name in ("method", "iou_threshold", "images"))
        if (*found, set(metrics["AP"])) != wanted:
            return None
    return next((row for row in rows() if row.setting == setting), None)


def _content() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))
