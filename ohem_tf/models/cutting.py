"""Cuts a conv network where its maps have a certain stride: pixels of the image per cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import keras

from ohem_tf.errors import InputError

STRIDE = 16  # of the one map of a detector without a pyramid


def cut(network: keras.Model, layer: str, name: str) -> keras.Model:
    """The network up to `layer`, or up to the last at stride 16 that all paths go through.

    Args:
      network: functional model.
      layer: name of a layer at stride 16, or "".
      name: what the network is called in messages.

    Raises:
      InputError: no such layer, one at another stride, or none at stride 16.
    """
    layers = {x.name: x for x in network.layers}
    if layer:
        if layer not in layers:
            raise InputError(
                f"config.backbone.layer: {name} has no layer '{layer}'; its layers: "
                f"{', '.join(layers)}"
            )
        output = layers[layer].output
    else:
        output = next((x for found, x in _last_of_strides(network) if found == STRIDE), None)
        if output is None:
            raise InputError(f"config.backbone.name: {name} has no layer at stride {STRIDE}")
    if (found := stride(network, output)) != STRIDE:
        raise InputError(
            f"config.backbone.layer: '{layer}' of {name} is at stride {found}; expected one at "
            f"stride {STRIDE} (config.pyramid.levels takes maps of several strides)"
        )
    return keras.Model(network.inputs[0], output, name=network.name)


def cut_levels(network: keras.Model, levels: Sequence[int], name: str) -> tuple[keras.Model, int]:
    """The network with a map for each level of a feature pyramid as its outputs.

    Args:
      network: functional model.
      levels: consecutive, ascending; a map of level l has stride 2^l.
      name: what the network is called in messages.

    Returns:
      The network, with one output for each level that it has, and how many of the last levels it
      does not have.

    Raises:
      InputError: it lacks the first of the levels, or one between others.
    """
    outputs = dict(_last_of_strides(network))
    last = max((level for level in levels if 2**level in outputs), default=0)
    mine = [level for level in levels if level <= last]
    missing = [level for level in mine or levels[:1] if 2**level not in outputs]
    if missing:
        has = ", ".join(f"P{x.bit_length() - 1}" for x in sorted(outputs) if x > 1)
        raise InputError(
            f"config.pyramid.levels: {name} has no map at stride {2 ** missing[0]} "
            f"(P{missing[0]}); it has {has}"
        )
    maps = [outputs[2**level] for level in mine]
    return keras.Model(network.inputs[0], maps, name=network.name), len(levels) - len(mine)


def dilate(network: keras.Model, name: str) -> keras.Model:
    """The network with its layers at stride 32 at stride 16 (R-FCN, section 2: "a trous").

    The convolutions that halve the map no longer do, and those after them leave out every second
    cell of their windows, so that the weights see what they were trained on.

    Args:
      network: functional model with no stride above 32; its weights are copied.
      name: what it is called in messages.

    Raises:
      InputError: it has no layer at stride 32, or one that is no plain convolution makes it.
    """
    found = _strides(network)
    if max(found.values()) != 2 * STRIDE:
        raise InputError(
            f"config.backbone.dilated: {name} does not end at stride {2 * STRIDE}; expected False"
        )
    changes: dict[str, dict[str, int]] = {}
    for layer in network.layers:
        if found.get(layer.name) != 2 * STRIDE:
            continue
        sources = [x._keras_history.operation.name for x in keras.tree.flatten(layer.input)]
        halves = STRIDE in (found[source] for source in sources)
        if type(layer) is keras.layers.Conv2D:
            changes[layer.name] = {"strides": 1} if halves else {"dilation_rate": 2}
        elif halves:
            raise InputError(
                f"config.backbone.dilated: layer {layer.name} of {name} halves the map and is no "
                "Conv2D; expected a network like ResNet50"
            )

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        return type(layer).from_config({**layer.get_config(), **changes.get(layer.name, {})})

    dilated = keras.models.clone_model(network, clone_function=copy)
    dilated.set_weights(network.get_weights())
    return dilated


def stride(network: keras.Model, output: keras.KerasTensor) -> int | None:
    """Pixels per cell of an output; None where it is no map. Padding does not matter."""
    if not isinstance(output, keras.KerasTensor) or len(output.shape) != 4:
        return None
    probe = keras.Model(network.inputs, output)
    small, large = (probe.compute_output_shape((1, size, size, 3))[1] for size in (256, 512))
    return 256 // (large - small) if large > small else None


def _strides(network: keras.Model) -> dict[str, int]:
    """The strides of all layers whose outputs are maps, by name; see `stride`."""
    names = [layer.name for layer in network.layers if len(getattr(layer.output, "shape", ())) == 4]
    probe = keras.Model(network.inputs, [network.get_layer(name).output for name in names])
    small, large = (probe.compute_output_shape((1, size, size, 3)) for size in (256, 512))
    return {
        name: 256 // (after[1] - before[1])
        for name, before, after in zip(names, small, large, strict=True)
        if after[1] > before[1]
    }


def _last_of_strides(network: keras.Model) -> Iterator[tuple[int, keras.KerasTensor]]:
    """For each stride the last map that all paths go through."""
    pyramid = getattr(network, "pyramid_outputs", {})
    if pyramid:  # KerasHub knows: {"P2": ..., "P3": ...}
        yield from ((2 ** int(level[1:]), output) for level, output in pyramid.items())
        return
    seen: set[int | None] = {None}
    for layer in _bottlenecks(network):
        found = stride(network, layer.output)
        if found not in seen:
            seen.add(found)
            assert found is not None
            yield found, layer.output


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
