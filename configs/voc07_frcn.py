"""VOC07 trainval -> VOC07 test, VGG16, Fast R-CNN, N = 2.

Records as docs/reproduce.md prepares them:

    python -m ohem_tf.train --config=configs/voc07_frcn.py \
        --workdir=runs/voc07_frcn --config.data.dir=records/voc07
    python -m ohem_tf.evaluate --config=configs/voc07_frcn.py \
        --workdir=runs/voc07_frcn

Expected: mAP 67.2 (paper, table 1, row 2).
Duration of the training: about 4 h on one A100, estimated: 80k steps, 0.57 s a step on a Titan X
(table 2), divided by 2.9, the ratio of peak float32 rates.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """The settings of this row."""
    config = recipes.voc07()
    recipes.frcn(config)
    return config
