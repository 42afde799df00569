"""The paper's experiments, one a row: --config=configs/paper.py:ROW.

    python -m ohem_tf.train --config=configs/paper.py:voc07_ohem_m_b --workdir=runs/voc07_ohem_m_b \
        --config.data.dir=records/voc07

docs/reproduce.md has the commands of every row, the data and the weights they need, and how the
durations were estimated. It is made from this file: run `python -m benchmarks.reproduce` after a
change. Nothing here needs TensorFlow.

In the titles, FRCN is Fast R-CNN, VGGM is VGG_CNN_M_1024 (the backbone is VGG16 otherwise), N and B
are images and RoIs of a step (2 and 128 otherwise), M is multi-scale training and testing, and +B
is iterative box regression with voting.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable
from functools import partial

from ml_collections import ConfigDict

from ohem_tf.errors import InputError
from ohem_tf.paper import recipes
from ohem_tf.paper.recipes import (
    all_rois,
    frcn,
    iterative_regression,
    masked_backward,
    multi_scale_testing,
    multi_scale_training,
    no_fixed_ratio,
    one_image,
    release,
    vggm,
)


@dataclasses.dataclass(frozen=True)
class Data:
    """What a row trains and tests on.

    Attributes:
      name: the paper's: "07+12".
      start: the function of recipes.py that makes its config.
      directory: config.data.dir, as docs/reproduce.md prepares it.
      is_public: whether the test has public annotations, so that `evaluate` gives a figure; else a
        server scores what it writes.
    """

    name: str
    start: Callable[[], ConfigDict]
    directory: str
    is_public: bool = True


VOC07 = Data("07", recipes.voc07, "records/voc07")
VOC0712 = Data("07+12", recipes.voc0712, "records")
VOC12 = Data("12", recipes.voc12, "records/voc12", is_public=False)
VOC0712PP = Data("07++12", recipes.voc0712pp, "records", is_public=False)
COCO = Data("COCO train", recipes.coco, "records/coco")
COCO_TRAINVAL = Data("COCO trainval", recipes.coco_trainval, "records/coco", is_public=False)


@dataclasses.dataclass(frozen=True)
class Row:
    """An experiment of the paper.

    Attributes:
      name: ROW in --config=configs/paper.py:ROW.
      title: the method.
      data: what it trains and tests on.
      changes: functions of recipes.py, what it changes in the config of its data.
      expected: what the paper reports, in percent: "mAP 67.2"; "" where it gives no figure, or one
        that we could not check.
      tables: where it stands in the paper: "1 (row 2), 3, 6"; "release": the authors' own rerun.
      duration: of the training on one A100, estimated; "" if another row trains the model.
      trained_by: the row that trains the model, if this one only tests it in another way.
    """

    name: str
    title: str
    data: Data
    changes: tuple[Callable[[ConfigDict], None], ...]
    expected: str
    tables: str
    duration: str
    trained_by: str = ""

    def commands(self) -> tuple[str, ...]:
        """The command lines of the row: training, if no other row trains its model; evaluation."""
        workdir = f"runs/{self.trained_by or self.name}"
        places = f"--config=configs/paper.py:{self.name} \\\n    --workdir={workdir}"
        train = f"python -m ohem_tf.train {places} --config.data.dir={self.data.directory}"
        evaluate = f"python -m ohem_tf.evaluate {places}"
        if self.trained_by:
            return (f"{evaluate} --output={workdir}/{self.name}.json",)
        if not self.data.is_public:
            evaluate += f" --write_results=results/{self.name}"
        return train, evaluate


_BG_LO_0 = partial(frcn, bg_lo=0.0)
_ALL = partial(all_rois, learning_rate=0.003)
_ALL_VGGM = partial(all_rois, learning_rate=0.004)
_M = (multi_scale_training, multi_scale_testing)
_M_B = (*_M, iterative_regression)

# fmt: off
_TABLE = (
    # VOC07 trainval -> VOC07 test.
    Row("voc07_vggm_frcn", "FRCN, VGGM",
        VOC07, (vggm, frcn), "mAP 59.6", "1 (row 1)", "60 min"),
    Row("voc07_frcn", "FRCN",
        VOC07, (frcn,), "mAP 67.2", "1 (row 2), 3, 6", "4 h"),
    Row("voc07_vggm_frcn_bg0", "FRCN, VGGM, bg_lo = 0",
        VOC07, (vggm, _BG_LO_0), "mAP 57.2", "1 (row 3)", "60 min"),
    Row("voc07_frcn_bg0", "FRCN, bg_lo = 0",
        VOC07, (_BG_LO_0,), "mAP 67.5", "1 (row 4)", "4 h"),
    Row("voc07_frcn_n1", "FRCN, N = 1",
        VOC07, (frcn, one_image), "mAP 66.3", "1 (row 5)", "2 h"),
    Row("voc07_frcn_n1_bg0", "FRCN, N = 1, bg_lo = 0",
        VOC07, (_BG_LO_0, one_image), "mAP 66.3", "1 (row 6)", "2 h"),
    Row("voc07_vggm_all_n1", "FRCN, VGGM, B = 2048, N = 1",
        VOC07, (vggm, _ALL_VGGM, one_image), "mAP 57.7", "1 (row 7)", "75 min"),
    Row("voc07_vggm_all_n2", "FRCN, VGGM, B = 2048",
        VOC07, (vggm, _ALL_VGGM), "mAP 60.4", "1 (row 8)", "2 h"),
    Row("voc07_all_n1", "FRCN, B = 2048, N = 1",
        VOC07, (_ALL, one_image), "mAP 67.5", "1 (row 9)", "5 h"),
    Row("voc07_all_n2", "FRCN, B = 2048",
        VOC07, (_ALL,), "mAP 68.7", "1 (row 10)", "11 h"),
    Row("voc07_ohem_n1", "OHEM, N = 1",
        VOC07, (one_image,), "mAP 69.7", "1 (row 11)", "4 h"),
    Row("voc07_vggm_ohem", "OHEM, VGGM",
        VOC07, (vggm,), "mAP 62.0", "1 (row 12)", "2 h"),
    Row("voc07_ohem", "OHEM",
        VOC07, (), "mAP 69.9", "1 (row 13), 3, 6", "8 h"),
    Row("voc07_frcn_test_m", "FRCN, M in testing only",
        VOC07, (frcn, multi_scale_testing), "", "6", "", "voc07_frcn"),
    Row("voc07_frcn_m", "FRCN, M",
        VOC07, (frcn, *_M), "mAP 68.6", "6", "5 h"),
    Row("voc07_frcn_b", "FRCN, +B",
        VOC07, (frcn, iterative_regression), "", "6", "", "voc07_frcn"),
    Row("voc07_frcn_m_b", "FRCN, M +B",
        VOC07, (frcn, *_M_B), "mAP 72.4", "3, 6", "", "voc07_frcn_m"),
    Row("voc07_ohem_test_m", "OHEM, M in testing only",
        VOC07, (multi_scale_testing,), "", "6", "", "voc07_ohem"),
    Row("voc07_ohem_m", "OHEM, M",
        VOC07, _M, "mAP 71.2", "6", "9 h"),
    Row("voc07_ohem_b", "OHEM, +B",
        VOC07, (iterative_regression,), "", "6", "", "voc07_ohem"),
    Row("voc07_ohem_m_b", "OHEM, M +B",
        VOC07, _M_B, "mAP 75.1", "3, 6", "", "voc07_ohem_m"),
    Row("voc07_frcn_no_ratio", "FRCN without fixed fg:bg ratio",
        VOC07, (no_fixed_ratio,), "about 3 points below voc07_frcn", "section 3.1", "4 h"),
    Row("voc07_ohem_masked", "OHEM by masked losses, backward through all RoIs",
        VOC07, (masked_backward,), "", "section 4.2", "11 h"),
    Row("voc07_vggm_release", "OHEM, VGGM, as released",
        VOC07, (vggm, release), "mAP 62.8", "release", "50 min"),
    Row("voc07_frcn_release", "FRCN, as released",
        VOC07, (frcn, release), "mAP 67.6", "release", "2 h"),
    Row("voc07_release", "OHEM, as released",
        VOC07, (release,), "mAP 71.5", "release", "4 h"),
    # VOC07 + VOC12 trainval -> VOC07 test.
    Row("voc0712_frcn", "FRCN",
        VOC0712, (frcn,), "mAP 70.0", "3", "11 h"),
    Row("voc0712_ohem", "OHEM",
        VOC0712, (), "mAP 74.6", "3", "19 h"),
    Row("voc0712_ohem_m_b", "OHEM, M +B",
        VOC0712, _M_B, "mAP 78.9", "3", "23 h"),
    Row("voc0712_release", "OHEM, as released",
        VOC0712, (release,), "mAP 75.5", "release", "8 h"),
    # VOC12 trainval, and "07++12": VOC07 trainval + test + VOC12 trainval -> VOC12 test.
    Row("voc12_frcn", "FRCN",
        VOC12, (frcn,), "mAP 65.7", "4", "11 h"),
    Row("voc12_ohem", "OHEM",
        VOC12, (), "mAP 69.8", "4", "19 h"),
    Row("voc12_ohem_m_b", "OHEM, M +B",
        VOC12, _M_B, "mAP 72.9", "4", "23 h"),
    Row("voc0712pp_frcn", "FRCN",
        VOC0712PP, (frcn,), "mAP 68.4", "4", "11 h"),
    Row("voc0712pp_ohem", "OHEM",
        VOC0712PP, (), "mAP 71.9", "4", "19 h"),
    Row("voc0712pp_ohem_m_b", "OHEM, M +B",
        VOC0712PP, _M_B, "mAP 76.3", "4", "23 h"),
    # COCO 2014; the paper's figures are of test-dev 2015.
    Row("coco_frcn", "FRCN",
        COCO, (frcn,), "AP 19.7, AP50 35.9", "5", "13 h"),
    Row("coco_ohem", "OHEM",
        COCO, (), "AP 22.6, AP50 42.5", "5", "23 h"),
    Row("coco_ohem_m", "OHEM, M",
        COCO, _M, "AP 24.4, AP50 44.4", "5", "27 h"),
    Row("coco_ohem_m_trainval", "OHEM, M",
        COCO_TRAINVAL, _M, "AP 25.5, AP50 45.9", "5", "27 h"),
)
# fmt: on
ROWS = {row.name: row for row in _TABLE}


def get_config(name: str = "") -> ConfigDict:
    """The config of a row.

    Raises:
      InputError: no such row; the message has them all.
    """
    if name not in ROWS:
        problem = f"has no row {name!r}" if name else "needs a row"
        names = difflib.get_close_matches(name, ROWS, len(ROWS), cutoff=0.0) if name else ROWS
        raise InputError(
            f"configs/paper.py {problem}; give --config=configs/paper.py:ROW with one of "
            f"{', '.join(names)}"
        )
    row = ROWS[name]
    config = row.data.start()
    for change in row.changes:
        change(config)
    return config
