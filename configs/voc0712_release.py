"""VOC07 + VOC12 trainval -> VOC07 test, VGG16, OHEM as the authors' release runs it.

Records as docs/reproduce.md prepares them:

    python -m ohem_tf.train --config=configs/voc0712_release.py \
        --workdir=runs/voc0712_release --config.data.dir=records
    python -m ohem_tf.evaluate --config=configs/voc0712_release.py \
        --workdir=runs/voc0712_release

Expected: mAP 75.5 (the release's rerun).
Duration of the training: about 8 h on one A100, estimated: 80k steps, 1.00 s a step on a Titan X
(table 2), divided by 2.9, the ratio of peak float32 rates.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """The settings of this row."""
    config = recipes.voc0712()
    recipes.release(config)
    return config
