"""benchmarks.step_profile: FLOPs against published counts, and the sums and limits of the page."""

import keras
import pytest

from benchmarks import step_profile
from ohem_tf.models.heads import RoIHead


def test_flops_of_vgg16s_conv_layers():
    vgg16 = keras.applications.VGG16(weights=None, include_top=False, input_shape=(224, 224, 3))
    forward = 2 * 15.347e9  # multiply-adds of its 13 conv layers at 224 x 224
    vgg16.trainable = False
    flop, _ = step_profile.conv_work(vgg16, 224, 224)
    assert flop == pytest.approx(forward, rel=1e-3)
    vgg16.trainable = True
    flop, size = step_profile.conv_work(vgg16, 224, 224)
    first = 2 * 224**2 * 9 * 3 * 64  # whose input needs no gradient
    assert flop == pytest.approx(3 * forward - first, rel=1e-3)
    assert size > 3 * 4 * 14.7e6  # its weights alone


def test_work_of_the_fc_layers():
    flop, size = step_profile.head_work(RoIHead(1, channels=2, pool_size=3, hidden=(5, 4)), rois=10)
    # Kernels 18 x 5, 5 x 4, 4 x 2 and 4 x 8.
    assert flop == 2 * 10 * (90 + 20 + 8 + 32)
    assert size == 4 * (150 + 10 * (18 + 5 + 5 + 4 + 4 + 2 + 4 + 8))


def test_the_page_adds_up_what_each_method_does():
    everyone, ohem = ("FRCN", "OHEM", "candidates"), ("OHEM",)
    rows = {
        "conv": {"methods": everyone, "seconds": 2.0, "flop": 4e9, "bytes": 1e6, "limit": 1.0},
        "all RoIs": {"methods": ohem, "seconds": 1.0, "flop": 2e9, "bytes": 2e6, "limit": 0.8},
        "NMS": {"methods": ohem, "seconds": 0.5, "flop": 0.0, "bytes": 0.0, "limit": 0.0},
    }
    page = step_profile.page(rows, {"rounds": 1}, "# Title")
    assert "| conv | 2000 | 2000 | 2000 | 4 | 1 | 1000 | 2.0 |" in page
    assert "| all RoIs |  | 1000 |  | 2 | 2 | 800 | 1.2 |" in page
    assert "| NMS |  | 500 |  | 0 | 0 | 0 |  |" in page
    assert "| together, ms | 2000 | 3500 | 2000 |" in page
    assert "| / FRCN | 1.00 | 1.75 | 1.00 |" in page
