"""VOC12 trainval -> VOC12 test (scored by the VOC server), VGG16, Fast R-CNN.

Records as docs/reproduce.md prepares them:

    python -m ohem_tf.train --config=configs/voc12_frcn.py \
        --workdir=runs/voc12_frcn --config.data.dir=records/voc12
    python -m ohem_tf.evaluate --config=configs/voc12_frcn.py \
        --workdir=runs/voc12_frcn --write_results=results/voc12_frcn

Expected: mAP 65.7 (paper, table 4).
Duration of the training: about 11 h on one A100, estimated: 200k steps, 0.57 s a step on a Titan X
(table 2), divided by 2.9, the ratio of peak float32 rates.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """The settings of this row."""
    config = recipes.voc12()
    recipes.frcn(config)
    return config
