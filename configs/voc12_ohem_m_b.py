"""VOC12 trainval -> VOC12 test, VGG16, OHEM, multi-scale (M), iterative regression (B).

Records as docs/reproduce.md prepares them:

    python -m ohem_tf.train --config=configs/voc12_ohem_m_b.py \
        --workdir=runs/voc12_ohem_m_b --config.data.dir=records/voc12
    python -m ohem_tf.evaluate --config=configs/voc12_ohem_m_b.py \
        --workdir=runs/voc12_ohem_m_b --write_results=results/voc12_ohem_m_b

Expected: mAP 72.9 (paper, table 4).
Duration of the training: about 23 h on one A100, estimated: 200k steps, 1.00 s a step on a Titan X
(table 2), times 1.2 for the larger scales, divided by 2.9, the ratio of peak float32 rates.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """The settings of this row."""
    config = recipes.voc12()
    recipes.multi_scale_training(config)
    recipes.multi_scale_testing(config)
    recipes.iterative_regression(config)
    return config
