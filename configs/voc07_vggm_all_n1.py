"""VOC07 trainval -> VOC07 test, VGG_CNN_M_1024, B = 2048 (all RoIs), N = 1.

Records as docs/reproduce.md prepares them:

    python -m ohem_tf.train --config=configs/voc07_vggm_all_n1.py \
        --workdir=runs/voc07_vggm_all_n1 --config.data.dir=records/voc07 \
        --config.backbone.weights=vgg_cnn_m_1024.npz
    python -m ohem_tf.evaluate --config=configs/voc07_vggm_all_n1.py \
        --workdir=runs/voc07_vggm_all_n1

Expected: mAP 57.7 (paper, table 1, row 7).
Duration of the training: about 75 min on one A100, estimated: 80k steps, 0.16 s a step on a Titan
X, 2.5 times Fast R-CNN's (our ratio on a CPU), divided by 2.9, the ratio of peak float32 rates.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """The settings of this row."""
    config = recipes.voc07()
    recipes.vggm(config)
    recipes.all_rois(config, learning_rate=0.004)
    recipes.one_image(config)
    return config
