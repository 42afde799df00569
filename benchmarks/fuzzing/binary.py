"""Targets: images, Caffe models and what a server is asked."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.fuzzing.target import LIMITS, Target, encoded
from ohem_tf.data import checks
from ohem_tf.errors import InputError


def caffemodel(folder: Path) -> Target:
    """`caffemodel.read`; beside it protobuf itself, with the messages described here."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    from ohem_tf.models import caffemodel as reader

    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="fuzz")
    label, kinds = descriptor_pb2.FieldDescriptorProto, {"int64": 3, "string": 9, "float": 2}
    for message, fields in {
        "Shape": [("dim", 1, "int64", True)],
        "Blob": [
            *(("data", 5, "float", True), ("double_data", 8, "double", True)),
            ("shape", 7, "Shape", False),
        ],
        "Layer": [("name", 1, "string", False), ("blobs", 7, "Blob", True)],
        "Net": [("layer", 100, "Layer", True)],
    }.items():
        made = file.message_type.add(name=message)
        for name, number, kind, repeated in fields:
            field = made.field.add(name=name, number=number)
            field.label = label.LABEL_REPEATED if repeated else label.LABEL_OPTIONAL
            if kind in (*kinds, "double"):
                field.type = {"double": 1, **kinds}[kind]
                if repeated:
                    field.options.packed = True
            else:
                field.type, field.type_name = 11, f".fuzz.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    net_class = message_factory.GetMessageClass(pool.FindMessageTypeByName("fuzz.Net"))
    net = net_class()
    for name, shape in (("conv1", (2, 3, 3, 3)), ("fc6", (4, 18))):
        layer = net.layer.add(name=name)
        for dims in (shape, shape[:1]):
            blob = layer.blobs.add()
            blob.shape.dim.extend(dims)
            blob.data.extend(np.arange(math.prod(dims)).tolist())

    def right(content: bytes, answer: dict[str, list[np.ndarray]]) -> bool:
        said = net_class.FromString(content)
        for name, blobs in answer.items():
            theirs = [layer for layer in said.layer if layer.name == name and layer.blobs]
            if not theirs:  # of the older layout, which is not described here
                continue
            for ours, blob in zip(blobs, theirs[-1].blobs, strict=True):
                values = np.array(blob.data or blob.double_data, np.float64)
                same = np.array_equal(ours.ravel().astype(np.float64), values, equal_nan=True)
                if blob.HasField("shape") and not same:
                    return False
        return True

    read = lambda here: reader.read(here / "x.caffemodel")  # noqa: E731
    return Target("x.caffemodel", [net.SerializeToString()], read, right)


def images(folder: Path) -> Target:
    """What `prepare` and `detect` store of an image file; beside it Pillow's size of it."""
    import tensorflow as tf

    seeds = [encoded("JPEG"), encoded("PNG"), encoded("PNG", "P"), encoded("JPEG", "CMYK")]
    seeds += [encoded(kind) for kind in ("GIF", "BMP", "TIFF", "WEBP", "PPM")]

    def read(here: Path) -> np.ndarray:
        try:
            encoded, kind = checks.read_encoded(str(here / "x.jpg"), LIMITS)
            size = checks.open_image(encoded, LIMITS)
        except ValueError as error:
            raise InputError(str(error)) from None
        encoded, _ = checks.as_decodable(encoded, kind, size.height, size.width)
        return tf.io.decode_image(encoded, channels=3, expand_animations=False).numpy()

    def right(content: bytes, answer: np.ndarray) -> bool:
        with Image.open(io.BytesIO(content)) as image:
            return answer.shape == (image.height, image.width, 3) and answer.dtype == np.uint8

    return Target("x.jpg", seeds, read, right)


def request(folder: Path) -> Target:
    """What the exported signatures check of a request: image bytes and proposals, in a graph.

    The file is four bytes for each number of the proposals, up to 8 boxes, then the image. Beside
    it Pillow's size, and the proposals in numpy.
    """
    import tensorflow as tf

    from export import checked

    head = np.array([[0, 0, 9, 9], [3, 4, 40, 50]] * 4, np.float32).tobytes()
    seeds = [head + encoded("JPEG"), head + encoded("PNG")]

    @tf.function(input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([None, 4])])
    def signature(encoded: tf.Tensor, boxes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = checked.decode(encoded, tf.constant(0), 10**6)
        shape = tf.shape(image)
        return image, checked.proposals_of(boxes, shape[0], shape[1], tf.constant(0))

    def split(content: bytes) -> tuple[np.ndarray, bytes]:
        numbers = np.frombuffer(content[: len(head)][: len(content) // 16 * 16], np.float32)
        return numbers.reshape(-1, 4), content[len(head) :]

    def read(here: Path) -> tuple[np.ndarray, np.ndarray]:
        boxes, encoded = split((here / "x.bin").read_bytes())
        try:
            return tuple(x.numpy() for x in signature(encoded, boxes))
        except tf.errors.InvalidArgumentError as error:
            raise InputError(str(error).splitlines()[0]) from None

    def right(content: bytes, answer: tuple[np.ndarray, np.ndarray]) -> bool:
        boxes, encoded = split(content)
        image, kept = answer
        with Image.open(io.BytesIO(encoded)) as opened:
            height, width = opened.height, opened.width
        clipped = np.clip(boxes, 0, np.float32([height, width, height, width]))
        clipped[clipped < np.finfo(np.float32).tiny] = 0  # TensorFlow's denormal numbers
        clipped = clipped[np.prod(clipped[:, 2:] - clipped[:, :2], axis=1) > 0]
        return image.shape == (height, width, 3) and (
            kept.shape == clipped.shape and np.allclose(kept, clipped, rtol=0, atol=1e-30)
        )

    return Target("x.bin", seeds, read, right)
