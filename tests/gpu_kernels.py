"""What of a traced function a GPU cannot do, by the kernels that TensorFlow registers.

The wheel registers the kernels of GPUs on machines without one too. A node runs on a GPU if its op
has a kernel there for its dtypes; such a kernel may still keep operands in host memory, as that of
int32 arithmetic does: then tensors travel to the host and back.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import function_def_to_graph, kernels

DEVICES = ("GPU", "DEFAULT")  # DEFAULT: on any device; a GPU's own kernel goes first


def without_kernel(traced) -> set[str]:
    """The ops of a ConcreteFunction, and of all functions in it, that have no kernel on a GPU.

    Each as "OP T=float32 ...".
    """
    return {_name(op.node_def) for op in _nodes(traced) if _kernel(op.node_def) is None}


def on_host(traced) -> set[str]:
    """Those that compute on the host and give more than a number per RoI, as "OP int32 SHAPE".

    Scalars, shapes and vectors are a few kilobytes; a result of unknown rank counts.
    """
    found = set()
    for op in _nodes(traced):
        kernel = _kernel(op.node_def)
        outputs = {x.name for x in op.op_def.output_arg}
        if kernel is not None and outputs and outputs <= set(kernel.host_memory_arg):
            found |= {
                f"{op.type} {x.dtype.name} {x.shape}"
                for x in op.outputs
                if x.dtype not in (tf.resource, tf.variant) and _is_large(x.shape)
            }
    return found


def _nodes(traced) -> Iterator[tf.Operation]:
    """All nodes but calls of functions, whose nodes are there themselves."""
    library = traced.graph.as_graph_def().library.function
    names = {function.signature.name for function in library}
    for graph in (traced.graph, *map(function_def_to_graph.function_def_to_graph, library)):
        yield from (op for op in graph.get_operations() if op.type not in names)


def _is_large(shape: tf.TensorShape) -> bool:
    """Whether a tensor has two sizes or more besides 1, and one of them is that of the data."""
    if shape.rank is None:
        return True
    sizes = [size for size in shape if size != 1]
    return len(sizes) > 1 and None in sizes


@functools.cache
def _registered(op: str) -> list:
    found = kernels.get_registered_kernels_for_op(op).kernel
    return sorted(
        (k for k in found if k.device_type in DEVICES and not k.label),
        key=lambda kernel: DEVICES.index(kernel.device_type),
    )


def _kernel(node):
    """The kernel that a GPU would run a node with, or None."""
    for kernel in _registered(node.op):
        if all(
            set(_types(node.attr[c.name])) <= set(c.allowed_values.list.type)
            for c in kernel.constraint
        ):
            return kernel
    return None


def _types(attribute) -> list[int]:
    return [attribute.type] if attribute.HasField("type") else list(attribute.list.type)


def _name(node) -> str:
    types = {name: _types(node.attr[name]) for name in sorted(node.attr)}
    words = [
        f"{name}={'/'.join(tf.dtypes.as_dtype(t).name for t in np.unique(values))}"
        for name, values in types.items()
        if values
    ]
    return " ".join([node.op, *words])
