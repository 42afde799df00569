"""COCO train2014 + val2014 -> test-dev, VGG16, OHEM, multi-scale training and testing (M).

Records as docs/reproduce.md prepares them:

    python -m ohem_tf.train --config=configs/coco_ohem_m_trainval.py \
        --workdir=runs/coco_ohem_m_trainval --config.data.dir=records/coco
    python -m ohem_tf.evaluate --config=configs/coco_ohem_m_trainval.py \
        --workdir=runs/coco_ohem_m_trainval --write_results=results/coco_ohem_m_trainval

Expected: AP 25.5, AP50 45.9 (paper, table 5, on test-dev).
Duration of the training: about 27 h on one A100, estimated: 240k steps, 1.00 s a step on a Titan X
(table 2), times 1.2 for the larger scales, divided by 2.9, the ratio of peak float32 rates.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """The settings of this row."""
    config = recipes.coco(train_split="train2014+val2014", eval_split="test-dev2014")
    recipes.multi_scale_training(config)
    recipes.multi_scale_testing(config)
    return config
