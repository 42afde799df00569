"""Caffe's layers in numpy, and VGG_CNN_M_1024 and its detector made of them.

Maps are [C, H, W]; RoIs are x1, y1, x2, y2 in pixels, the last row and column included.
"""

import math

import numpy as np

BGR_MEAN = np.float32([102.9801, 115.9465, 122.7717])


def conv(x, layer, stride=1, pad=0):
    """Convolution, by [kernel [out, in, h, w], bias], and ReLU."""
    kernel, bias = layer
    x = np.pad(x, [(0, 0), (pad, pad), (pad, pad)])
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], axis=(1, 2))
    windows = windows[:, ::stride, ::stride]
    out = np.tensordot(kernel, windows, axes=([1, 2, 3], [0, 3, 4]))
    return np.maximum(out + bias[:, None, None], 0)


def lrn(x):
    """Across 5 channels, with alpha 5e-4, beta 0.75, k 2."""
    squares = np.pad(x**2, [(2, 2), (0, 0), (0, 0)])
    sums = sum(squares[i : i + len(x)] for i in range(5))
    return x / (2 + 5e-4 / 5 * sums) ** 0.75


def max_pool(x):
    """3x3 at stride 2 without padding; windows are cut to the map, sizes rounded up."""
    rows, columns = (math.ceil((n - 3) / 2) + 1 for n in x.shape[1:])
    cells = [
        [x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max((1, 2)) for j in range(columns)]
        for i in range(rows)
    ]
    return np.array(cells).transpose(2, 0, 1)


def roi_pool(x, roi, size):
    """[C, size, size] of a RoI, at stride 16."""
    x1, y1, x2, y2 = (math.floor(side / 16 + 0.5) for side in roi)
    height, width = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
    out = np.zeros((len(x), size, size), np.float32)
    for i in range(size):
        for j in range(size):
            rows = slice(y1 + i * height // size, y1 + math.ceil((i + 1) * height / size))
            columns = slice(x1 + j * width // size, x1 + math.ceil((j + 1) * width / size))
            cells = x[:, rows, columns]
            out[:, i, j] = cells.max((1, 2)) if cells.size else 0
    return out


def vgg_cnn_m(layers, bgr):
    """The conv5 map of an image [H, W, 3]."""
    x = (bgr - BGR_MEAN).transpose(2, 0, 1)
    x = max_pool(lrn(conv(x, layers["conv1"], 2)))
    x = max_pool(lrn(conv(x, layers["conv2"], 2, pad=1)))
    for name in ("conv3", "conv4", "conv5"):
        x = conv(x, layers[name], pad=1)
    return x


def detector(layers, bgr, rois):
    """Probabilities [R, K+1] and boxes [R, K+1, 4] (x1, y1 and far edges) of `rois` [R, 4]."""
    x = vgg_cnn_m(layers, bgr)
    size = math.isqrt(layers["fc6"][0].shape[1] // len(x))
    x = np.stack([roi_pool(x, roi, size).ravel() for roi in rois])  # channels first
    for name in ("fc6", "fc7"):
        x = np.maximum(x @ layers[name][0].T + layers[name][1], 0)
    scores = x @ layers["cls_score"][0].T + layers["cls_score"][1]
    scores = np.exp(scores - scores.max(1, keepdims=True))
    deltas = x @ layers["bbox_pred"][0].T + layers["bbox_pred"][1]
    dx, dy, dw, dh = (deltas[:, i::4] for i in range(4))
    x1, y1, x2, y2 = rois.T[..., None]
    width, height = x2 - x1 + 1, y2 - y1 + 1
    centre_x, centre_y = x1 + width / 2 + dx * width, y1 + height / 2 + dy * height
    width, height = width * np.exp(dw), height * np.exp(dh)
    sides = [centre_x - width / 2, centre_y - height / 2]
    sides += [centre_x + width / 2, centre_y + height / 2]
    return scores / scores.sum(1, keepdims=True), np.stack(sides, -1)
