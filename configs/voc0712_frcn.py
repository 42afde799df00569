"""VOC07 + VOC12 trainval -> VOC07 test, VGG16, Fast R-CNN.

Records as docs/reproduce.md prepares them:

    python -m ohem_tf.train --config=configs/voc0712_frcn.py \
        --workdir=runs/voc0712_frcn --config.data.dir=records
    python -m ohem_tf.evaluate --config=configs/voc0712_frcn.py \
        --workdir=runs/voc0712_frcn

Expected: mAP 70.0 (paper, table 3).
Duration of the training: about 11 h on one A100, estimated: 200k steps, 0.57 s a step on a Titan X
(table 2), divided by 2.9, the ratio of peak float32 rates.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """The settings of this row."""
    config = recipes.voc0712()
    recipes.frcn(config)
    return config
