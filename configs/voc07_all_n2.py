"""VOC07 trainval -> VOC07 test, VGG16, Fast R-CNN's sampler with B = 2048 (all RoIs), N = 2.

Records as docs/reproduce.md prepares them:

    python -m ohem_tf.train --config=configs/voc07_all_n2.py \
        --workdir=runs/voc07_all_n2 --config.data.dir=records/voc07
    python -m ohem_tf.evaluate --config=configs/voc07_all_n2.py \
        --workdir=runs/voc07_all_n2

Expected: mAP 68.7 (paper, table 1, row 10).
Duration of the training: about 11 h on one A100, estimated: 80k steps, 1.43 s a step on a Titan X,
2.5 times Fast R-CNN's (our ratio on a CPU), divided by 2.9, the ratio of peak float32 rates.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """The settings of this row."""
    config = recipes.voc07()
    recipes.all_rois(config, learning_rate=0.003)
    return config
