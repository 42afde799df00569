"""benchmarks.pooling: what is compared pools alike where all of it must, and the page's ratios."""

import numpy as np
import tensorflow as tf

from benchmarks import pooling


def test_a_ramp_is_pooled_alike():
    # On a plane y + x / 10 and in bins of 2 x 2 whole cells, crop-and-resize samples the cells
    # themselves, and RoIAlign's mean is half a cell along y and x below their maximum.
    ramp = np.arange(30)[:, None] + np.arange(30) / 10
    features = tf.constant(ramp[None, :, :, None], tf.float32)
    centres = np.float32([[4, 6, 17, 19]])  # of the first and the last of 14 cells
    exact = pooling.roi_max_pool(features, centres * 16 + [0, 0, 1, 1], [0], 7, 16).numpy()
    np.testing.assert_allclose(exact[0, 0, 0], 5.7, atol=1e-5)
    approximate = pooling.crop_and_max_pool(features, centres * 16, [0], 7, 16).numpy()
    np.testing.assert_allclose(approximate, exact, atol=1e-4)
    edges = (centres + np.float32([0, 0, 1, 1])) * 16
    align = pooling.roi_align(features, edges, [0], 7, 16).numpy()
    np.testing.assert_allclose(align, exact - 0.55, atol=1e-4)


def test_measures_each_way_forward_and_backward():
    results = pooling.measure(rois=6, height=9, width=12, channels=2, repeats=2)
    assert list(results) == list(pooling.WAYS)
    for result in results.values():
        assert {name: len(seconds) for name, seconds in result.items()} == {
            "forward": 2,
            "backward": 2,
        }


def test_ratios_of_the_page():
    first = {"forward": [1.0, 2.0], "backward": [4.0, 4.0]}
    other = {"forward": [2.0, 2.0], "backward": [1.0, 2.0]}
    page = pooling.page({"a": first, "b": other}, {"RoIs": 3}, "# Title")
    assert "| b | 2.000 | 1.50 | 1.00 to 2.00 | 1.500 | 0.38 | 0.25 to 0.50 |" in page
    assert page.startswith("# Title")
    assert page.endswith("RoIs: 3.\n")
