"""VOC 07+12 trainval -> VOC07 test, R-FCN with ResNet-50, OHEM: RoIs at no cost each.

    python -m ohem_tf.train --config=configs/voc0712_rfcn_r50_ohem.py \
        --workdir=runs/voc0712_rfcn_r50_ohem --config.data.dir=records

Records as docs/reproduce.md prepares them, or with --proposals=none.
Expected: mAP 77.4 (the authors' README, with alternating training; 0.39 standard deviation over 5
runs), 76.9 with joint training (py-R-FCN's README).
Duration: about 10 h on one A100, estimated: 110k steps of two images at 0.45 s an image on a K40
(Dai et al. 2016, table 3), divided by 2.9.
"""

from ml_collections import ConfigDict

from ohem_tf.paper import end_to_end


def get_config() -> ConfigDict:
    """With the highest losses of each image."""
    return end_to_end.rfcn_r50()
