"""VOC07 trainval -> VOC07 test, Faster R-CNN with VGG16, OHEM: an image is enough.

The schedule of py-faster-rcnn's end-to-end training (70k steps of one image, a tenth of the rate
after 50k), with OHEM in the place of its sampler.

    python -m ohem_tf.prepare --format=voc --root=VOCdevkit/VOC2007 --split=trainval,test \
        --proposals=none --output=records/voc07_images
    python -m ohem_tf.train --config=configs/voc07_faster_rcnn_ohem.py \
        --workdir=runs/voc07_faster_rcnn_ohem --config.data.dir=records/voc07_images

Expected: 69.9 with its own sampler (py-faster-rcnn's README); with OHEM nobody has published one.
Duration: about 4 h on one A100, estimated: as configs/voc07.py, at half the images.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import end_to_end, recipes


def get_config() -> ConfigDict:
    """The paper's recipe with py-faster-rcnn's schedule and proposals."""
    config = recipes.voc07()
    end_to_end.faster_rcnn(config)
    recipes.one_image(config)
    config.train.steps = 70_000
    config.train.decay_steps = (50_000,)
    config.heuristic.bg_lo = 0.0
    config.ohem.start_step = 1_000  # the first proposals are noise
    config.detection.score_threshold = 0.05
    config.detection.max_detections = 100
    return config
