"""VOC07 trainval -> VOC07 test, VGG16, Fast R-CNN, N = 1, bg_lo = 0.

Records as docs/reproduce.md prepares them:

    python -m ohem_tf.train --config=configs/voc07_frcn_n1_bg0.py \
        --workdir=runs/voc07_frcn_n1_bg0 --config.data.dir=records/voc07
    python -m ohem_tf.evaluate --config=configs/voc07_frcn_n1_bg0.py \
        --workdir=runs/voc07_frcn_n1_bg0

Expected: mAP 66.3 (paper, table 1, row 6).
Duration of the training: about 2 h on one A100, estimated: 80k steps, 0.28 s a step on a Titan X,
half a step of N = 2 (table 2), divided by 2.9, the ratio of peak float32 rates.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """The settings of this row."""
    config = recipes.voc07()
    recipes.frcn(config, bg_lo=0.0)
    recipes.one_image(config)
    return config
