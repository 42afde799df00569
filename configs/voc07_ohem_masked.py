"""VOC07 trainval -> VOC07 test, VGG16, OHEM by masked losses, backward through all RoIs.

Records as docs/reproduce.md prepares them:

    python -m ohem_tf.train --config=configs/voc07_ohem_masked.py \
        --workdir=runs/voc07_ohem_masked --config.data.dir=records/voc07
    python -m ohem_tf.evaluate --config=configs/voc07_ohem_masked.py \
        --workdir=runs/voc07_ohem_masked

Expected: nothing in the paper; it rejects this form as more than twice as slow (section 4.2).
Duration of the training: about 11 h on one A100, estimated: 80k steps, 1.43 s a step on a Titan X,
2.5 times Fast R-CNN's (our ratio on a CPU), divided by 2.9, the ratio of peak float32 rates.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """The settings of this row."""
    config = recipes.voc07()
    config.ohem.masked_backward = True
    return config
