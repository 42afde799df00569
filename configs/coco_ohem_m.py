"""COCO train2014 -> val2014, VGG16, OHEM, multi-scale training and testing (M).

Records as docs/reproduce.md prepares them:

    python -m ohem_tf.train --config=configs/coco_ohem_m.py \
        --workdir=runs/coco_ohem_m --config.data.dir=records/coco
    python -m ohem_tf.evaluate --config=configs/coco_ohem_m.py \
        --workdir=runs/coco_ohem_m

Expected: AP 24.4, AP50 44.4 (paper, table 5, on test-dev).
Duration of the training: about 27 h on one A100, estimated: 240k steps, 1.00 s a step on a Titan X
(table 2), times 1.2 for the larger scales, divided by 2.9, the ratio of peak float32 rates.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """The settings of this row."""
    config = recipes.coco()
    recipes.multi_scale_training(config)
    recipes.multi_scale_testing(config)
    return config
