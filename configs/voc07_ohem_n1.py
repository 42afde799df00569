"""VOC07 trainval -> VOC07 test, VGG16, OHEM, N = 1.

Records as docs/reproduce.md prepares them:

    python -m ohem_tf.train --config=configs/voc07_ohem_n1.py \
        --workdir=runs/voc07_ohem_n1 --config.data.dir=records/voc07
    python -m ohem_tf.evaluate --config=configs/voc07_ohem_n1.py \
        --workdir=runs/voc07_ohem_n1

Expected: mAP 69.7 (paper, table 1, row 11).
Duration of the training: about 4 h on one A100, estimated: 80k steps, 0.50 s a step on a Titan X,
half a step of N = 2 (table 2), divided by 2.9, the ratio of peak float32 rates.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """The settings of this row."""
    config = recipes.voc07()
    recipes.one_image(config)
    return config
