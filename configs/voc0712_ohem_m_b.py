"""VOC07 + VOC12 trainval -> VOC07 test, VGG16, OHEM, multi-scale (M), iterative regression (B).

Records as docs/reproduce.md prepares them:

    python -m ohem_tf.train --config=configs/voc0712_ohem_m_b.py \
        --workdir=runs/voc0712_ohem_m_b --config.data.dir=records
    python -m ohem_tf.evaluate --config=configs/voc0712_ohem_m_b.py \
        --workdir=runs/voc0712_ohem_m_b

Expected: mAP 78.9 (paper, table 3).
Duration of the training: about 23 h on one A100, estimated: 200k steps, 1.00 s a step on a Titan X
(table 2), times 1.2 for the larger scales, divided by 2.9, the ratio of peak float32 rates.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """The settings of this row."""
    config = recipes.voc0712()
    recipes.multi_scale_training(config)
    recipes.multi_scale_testing(config)
    recipes.iterative_regression(config)
    return config
