"""VOC07 photographs at 320 px, EfficientNet-Lite0, OHEM.

Our own splits of VOC07 test photographs resized to 320 px (train 3200, val 800): never to be
compared with the paper's mAP. Data root and weights are given on the command line:
    python -m ohem_tf.prepare --format=voc --root=VOC2007_320 --split=train,val \
        --proposals=selective_search --output=records/voc07_320
    python -m ohem_tf.train --config=configs/voc07_320.py --workdir=runs/voc07_320 \
        --config.data.dir=records/voc07_320 \
        --config.backbone.name=WEIGHTS/efficientnet_lite0_imagenet
The backbone is a local KerasHub preset here; a handle of another EfficientNet-Lite0 works as well
(extra [hub]).
Expected duration and mAP on 2 CPU cores: docs/results/voc07_320.md.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """A backbone that a CPU can fine-tune, and a small head trained from scratch."""
    return recipes.voc07_320()
