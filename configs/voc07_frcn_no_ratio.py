"""VOC07 trainval -> VOC07 test, VGG16, Fast R-CNN without the fixed fg:bg ratio.

Records as docs/reproduce.md prepares them:

    python -m ohem_tf.train --config=configs/voc07_frcn_no_ratio.py \
        --workdir=runs/voc07_frcn_no_ratio --config.data.dir=records/voc07
    python -m ohem_tf.evaluate --config=configs/voc07_frcn_no_ratio.py \
        --workdir=runs/voc07_frcn_no_ratio

Expected: about 3 points below the 67.2 of voc07_frcn.py (paper, section 3.1).
Duration of the training: about 4 h on one A100, estimated: 80k steps, 0.57 s a step on a Titan X
(table 2), divided by 2.9, the ratio of peak float32 rates.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """The settings of this row."""
    config = recipes.voc07()
    recipes.frcn(config)
    config.heuristic.fixed_ratio = False
    return config
