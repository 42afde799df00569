"""COCO train2014 -> val2014, VGG16, Fast R-CNN.

Records as docs/reproduce.md prepares them:

    python -m ohem_tf.train --config=configs/coco_frcn.py \
        --workdir=runs/coco_frcn --config.data.dir=records/coco
    python -m ohem_tf.evaluate --config=configs/coco_frcn.py \
        --workdir=runs/coco_frcn

Expected: AP 19.7, AP50 35.9 (paper, table 5, on test-dev).
Duration of the training: about 13 h on one A100, estimated: 240k steps, 0.57 s a step on a Titan X
(table 2), divided by 2.9, the ratio of peak float32 rates.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """The settings of this row."""
    config = recipes.coco()
    recipes.frcn(config)
    return config
