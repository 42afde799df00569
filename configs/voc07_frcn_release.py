"""VOC07 trainval -> VOC07 test, VGG16, Fast R-CNN as the authors' release runs it.

Records as docs/reproduce.md prepares them:

    python -m ohem_tf.train --config=configs/voc07_frcn_release.py \
        --workdir=runs/voc07_frcn_release --config.data.dir=records/voc07
    python -m ohem_tf.evaluate --config=configs/voc07_frcn_release.py \
        --workdir=runs/voc07_frcn_release

Expected: mAP 67.6 (the release's rerun).
Duration of the training: about 2 h on one A100, estimated: 40k steps, 0.57 s a step on a Titan X
(table 2), divided by 2.9, the ratio of peak float32 rates.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """The settings of this row."""
    config = recipes.voc07()
    recipes.frcn(config)
    recipes.release(config)
    return config
