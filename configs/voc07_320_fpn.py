"""VOC07 photographs at 320 px, EfficientNet-Lite0 with FPN and RPN, OHEM: an image is enough.

As voc07_320.py, but for where the RoIs come from:

    python -m ohem_tf.prepare --format=voc --root=VOC2007_320 --split=train,val \
        --proposals=none --output=records/voc07_320_images
    python -m ohem_tf.train --config=configs/voc07_320_fpn.py --workdir=runs/voc07_320_fpn \
        --config.data.dir=records/voc07_320_images \
        --config.backbone.name=WEIGHTS/efficientnet_lite0_imagenet

Expected duration and mAP on a CPU: docs/results/voc07_320_fpn.md.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import end_to_end, recipes


def get_config() -> ConfigDict:
    """A narrow pyramid of strides 8 to 64, and few proposals, for a CPU.

    Half the updates of voc07_320.py: at twice its seconds each, the same training time.
    """
    config = recipes.voc07_320()
    config.train.steps = 4000
    config.train.decay_steps = (3000,)
    end_to_end.fpn(config, levels=(3, 4, 5, 6), channels=96)
    config.rpn.anchor_scales = (4.0,)  # 32 to 256 px of photographs of 240 x 320 px
    config.rpn.train_candidates, config.rpn.train_proposals = 500, 500
    config.rpn.test_candidates, config.rpn.test_proposals = 300, 300
    config.head.hidden = (512, 512)
    config.ohem.start_step = 500
    return config
