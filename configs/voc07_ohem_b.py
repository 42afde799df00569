"""VOC07 trainval -> VOC07 test, VGG16, OHEM, iterative regression and voting (B).

The model of voc07.py, tested in another way; train it first:

    python -m ohem_tf.train --config=configs/voc07.py \
        --workdir=runs/voc07 --config.data.dir=records/voc07
    python -m ohem_tf.evaluate --config=configs/voc07_ohem_b.py \
        --workdir=runs/voc07 --output=runs/voc07/voc07_ohem_b.json

Expected: a row of the paper's table 6 whose figure we could not check, so none is given.
Duration of the training: about 8 h on one A100, estimated: 80k steps, 1.00 s a step on a Titan X
(table 2), divided by 2.9, the ratio of peak float32 rates.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """The settings of this row."""
    config = recipes.voc07()
    recipes.iterative_regression(config)
    return config
