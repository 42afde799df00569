"""VOC07 trainval -> VOC07 test, VGG16, OHEM, N = 2, B = 128: the paper's main experiment.

Records as docs/reproduce.md prepares them:

    python -m ohem_tf.train --config=configs/voc07.py \
        --workdir=runs/voc07 --config.data.dir=records/voc07
    python -m ohem_tf.evaluate --config=configs/voc07.py \
        --workdir=runs/voc07

Expected: mAP 69.9 (paper, table 1, row 13).
Duration of the training: about 8 h on one A100, estimated: 80k steps, 1.00 s a step on a Titan X
(table 2), divided by 2.9, the ratio of peak float32 rates.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """The settings of this row."""
    return recipes.voc07()
