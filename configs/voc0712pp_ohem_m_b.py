"""VOC07++12 -> VOC12 test, VGG16, OHEM, multi-scale (M), iterative regression (B).

Records as docs/reproduce.md prepares them:

    python -m ohem_tf.train --config=configs/voc0712pp_ohem_m_b.py \
        --workdir=runs/voc0712pp_ohem_m_b --config.data.dir=records
    python -m ohem_tf.evaluate --config=configs/voc0712pp_ohem_m_b.py \
        --workdir=runs/voc0712pp_ohem_m_b --write_results=results/voc0712pp_ohem_m_b

Expected: mAP 76.3 (paper, table 4).
Duration of the training: about 23 h on one A100, estimated: 200k steps, 1.00 s a step on a Titan X
(table 2), times 1.2 for the larger scales, divided by 2.9, the ratio of peak float32 rates.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """The settings of this row."""
    config = recipes.voc0712pp()
    recipes.multi_scale_training(config)
    recipes.multi_scale_testing(config)
    recipes.iterative_regression(config)
    return config
