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

from ohem_tf.config import paper
from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """A backbone that a CPU can fine-tune, and a small head trained from scratch."""
    config = paper()
    config.data.train_split = "train"
    config.data.eval_split = "val"
    config.data.max_proposals = 2000
    recipes.small_images(config, 240, 320)
    config.backbone.name = ""  # see above
    config.backbone.preprocessing = "lite"
    config.backbone.frozen_until = "block3b_"
    # The output is linear, with values up to 68; at full scale a rate of 0.01 ends in NaN.
    config.backbone.feature_scale = 0.1
    config.head.pooling = "align"  # a third of the proposals share their 16 px cells
    config.head.hidden = (512, 512)
    config.head.dropout = 0.0  # at 0.5 so small a head learns five times more slowly
    config.train.steps = 8000
    config.train.learning_rate = 0.01
    config.train.decay_steps = (6000,)
    config.train.warmup_steps = 200
    config.train.checkpoint_every = 500
    config.train.eval_every = 2000
    config.detection.score_threshold = 0.001
    return config
