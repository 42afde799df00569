"""VOC07 trainval -> VOC07 test, VGG_CNN_M_1024, OHEM as the authors' release runs it.

Records as docs/reproduce.md prepares them:

    python -m ohem_tf.train --config=configs/voc07_vggm_release.py \
        --workdir=runs/voc07_vggm_release --config.data.dir=records/voc07 \
        --config.backbone.weights=vgg_cnn_m_1024.npz
    python -m ohem_tf.evaluate --config=configs/voc07_vggm_release.py \
        --workdir=runs/voc07_vggm_release

Expected: mAP 62.8 (the release's rerun).
Duration of the training: about 50 min on one A100, estimated: 40k steps, 0.22 s a step on a Titan
X (table 2), divided by 2.9, the ratio of peak float32 rates.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import recipes


def get_config() -> ConfigDict:
    """The settings of this row."""
    config = recipes.voc07()
    recipes.vggm(config)
    recipes.release(config)
    return config
