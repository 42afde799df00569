"""VOC07 trainval -> VOC07 test, VGG16, OHEM, multi-scale training and testing (M).

Records as docs/reproduce.md prepares them:

    python -m ohem_tf.train --config=configs/voc07_ohem_m.py \
        --workdir=runs/voc07_ohem_m --config.data.dir=records/voc07
    python -m ohem_tf.evaluate --config=configs/voc07_ohem_m.py \
        --workdir=runs/voc07_ohem_m

Expected: mAP 71.2 (paper, table 6).
Duration of the training: about 9 h on one A100, estimated: 80k steps, 1.00 s a step on a Titan X
(table 2), times 1.2 for the larger scales, divided by 2.9, the ratio of peak float32 rates.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """The settings of this row."""
    config = recipes.voc07()
    recipes.multi_scale_training(config)
    recipes.multi_scale_testing(config)
    return config
