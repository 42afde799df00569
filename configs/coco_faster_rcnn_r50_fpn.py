"""COCO train2017 -> val2017, Faster R-CNN with ResNet-50 and FPN: MMDetection's baseline, "1x".

    python -m ohem_tf.prepare --format=coco --root=coco --split=train2017,val2017 \
        --proposals=none --output=records/coco2017
    python -m ohem_tf.train --config=configs/coco_faster_rcnn_r50_fpn.py \
        --workdir=runs/coco_faster_rcnn_r50_fpn --config.data.dir=records/coco2017

Expected: AP 36.4 (MMDetection 1.x, the same schedule; there the batch normalisation's scale and
offset are trained and the weights are PyTorch's).
Duration: about 16 h on eight V100 (MMDetection's figure for its own step).
"""

from ml_collections import ConfigDict

from ohem_tf.paper import end_to_end, recipes


def get_config() -> ConfigDict:
    """With the sampler of Fast R-CNN."""
    config = end_to_end.mmdetection_r50_fpn()
    recipes.frcn(config, bg_lo=0.0)
    return config
