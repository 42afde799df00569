"""VOC07 trainval and test, VOC12 trainval -> VOC12 test (scored by the VOC server), VGG16, OHEM.

Records as docs/reproduce.md prepares them:

    python -m ohem_tf.train --config=configs/voc0712pp_ohem.py \
        --workdir=runs/voc0712pp_ohem --config.data.dir=records
    python -m ohem_tf.evaluate --config=configs/voc0712pp_ohem.py \
        --workdir=runs/voc0712pp_ohem --write_results=results/voc0712pp_ohem

Expected: mAP 71.9 (paper, table 4).
Duration of the training: about 19 h on one A100, estimated: 200k steps, 1.00 s a step on a Titan X
(table 2), divided by 2.9, the ratio of peak float32 rates.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """The settings of this row."""
    return recipes.voc0712pp()
