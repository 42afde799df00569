"""COCO train2014 -> val2014, VGG16, OHEM.

Records as docs/reproduce.md prepares them:

    python -m ohem_tf.train --config=configs/coco_ohem.py \
        --workdir=runs/coco_ohem --config.data.dir=records/coco
    python -m ohem_tf.evaluate --config=configs/coco_ohem.py \
        --workdir=runs/coco_ohem

Expected: AP 22.6, AP50 42.5 (paper, table 5, on test-dev).
Duration of the training: about 23 h on one A100, estimated: 240k steps, 1.00 s a step on a Titan X
(table 2), divided by 2.9, the ratio of peak float32 rates.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """The settings of this row."""
    return recipes.coco()
