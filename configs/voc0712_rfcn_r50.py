"""The same as voc0712_rfcn_r50_ohem.py with Fast R-CNN's sampler: what OHEM adds.

    python -m ohem_tf.train --config=configs/voc0712_rfcn_r50.py \
        --workdir=runs/voc0712_rfcn_r50 --config.data.dir=records

Expected: unknown, since nobody has published it with ResNet-50 (Dai et al. 2016, table 3, has
ResNet-101 with and without OHEM). Duration: that of OHEM (the same table: 0.45 s an image in both).
"""

from ml_collections import ConfigDict

from ohem_tf.paper import end_to_end, recipes


def get_config() -> ConfigDict:
    """With 128 random RoIs of each image, at most a quarter of them foreground."""
    config = end_to_end.rfcn_r50()
    recipes.frcn(config, bg_lo=0.0)
    return config
