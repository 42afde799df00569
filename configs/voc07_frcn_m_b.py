"""VOC07 trainval -> VOC07 test, VGG16, Fast R-CNN, multi-scale (M), iterative regression (B).

The model of voc07_frcn_m.py, tested in another way; train it first:

    python -m ohem_tf.train --config=configs/voc07_frcn_m.py \
        --workdir=runs/voc07_frcn_m --config.data.dir=records/voc07
    python -m ohem_tf.evaluate --config=configs/voc07_frcn_m_b.py \
        --workdir=runs/voc07_frcn_m --output=runs/voc07_frcn_m/voc07_frcn_m_b.json

Expected: mAP 72.4 (paper, tables 3 and 6).
Duration of the training: about 5 h on one A100, estimated: 80k steps, 0.57 s a step on a Titan X
(table 2), times 1.2 for the larger scales, divided by 2.9, the ratio of peak float32 rates.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """The settings of this row."""
    config = recipes.voc07()
    recipes.frcn(config)
    recipes.multi_scale_training(config)
    recipes.multi_scale_testing(config)
    recipes.iterative_regression(config)
    return config
