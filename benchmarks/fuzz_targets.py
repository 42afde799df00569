"""What benchmarks.fuzz reads: each reader of the package, and another way to read the same bytes.

A target damages a file of its own making, reads it as the package does, and compares the answer
with what the damaged file really says, by an independent reader. TensorFlow is imported by those
that need it only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.dom import minidom

import numpy as np
from PIL import Image

from benchmarks import mutations
from ohem_tf.data import checks, coco, one_image, proposals, records, voc
from ohem_tf.data.apart import Apart
from ohem_tf.data.limits import Limits
from ohem_tf.data.reader import RecordReader
from ohem_tf.errors import InputError
from ohem_tf.files import write_json

SIZE = (30, 40)  # height, width
LIMITS = Limits(seconds=10, memory_gb=4)
_CLASSES = ("cat", "dog")


@dataclasses.dataclass
class Target:
    """A reader.

    Attributes:
      file: the damaged file, below the folder of the target.
      seeds: undamaged contents.
      read: what the package makes of the file in a folder; InputError refuses it.
      right: whether that is what `content` says, by another reader.
      structure: damage beyond that of bytes, if there is any.
    """

    file: str
    seeds: list[bytes]
    read: Callable[[Path], Any]
    right: Callable[[bytes, Any], bool]
    structure: Callable[[np.random.Generator, bytes], bytes] | None = None


def _encoded(kind: str, mode: str = "RGB") -> bytes:
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(0, 255, (3, 4, 3)), np.ones((10, 10, 1))).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def _entry(image_id: str = "a") -> checks.Checked:
    return checks.Checked(image_id, f"x/{image_id}.jpg", "a.xml", *SIZE, (), (), 0, "")


def voc_xml(folder: Path) -> Target:
    """`one_image.check_image` of a VOC image; beside it minidom."""
    corners = "".join(f"<{n}>{v}</{n}>" for n, v in zip(voc._CORNERS, (3, 4, 20, 25), strict=True))
    one = f"<name>cat</name><difficult>0</difficult><bndbox>{corners}</bndbox>"
    size = f"<size><width>{SIZE[1]}</width><height>{SIZE[0]}</height><depth>3</depth></size>"
    text = f"<annotation>{size}<object>{one}</object><object>{one}</object></annotation>"
    (folder / "JPEGImages").mkdir()
    (folder / "Annotations").mkdir()
    (folder / "JPEGImages/a.png").write_bytes(_encoded("PNG"))

    def right(content: bytes, answer: checks.Checked) -> bool:
        root = minidom.parseString(content).documentElement
        elements = [x for x in root.childNodes if getattr(x, "tagName", "") == "object"]
        stated = []
        for element in elements:
            try:
                values = [_first_text(element, tag) for tag in ("bndbox", *voc._CORNERS)[1:]]
                xmin, ymin, xmax, ymax = map(float, values)
            except (TypeError, ValueError):
                continue
            box = np.array([ymin - 1, xmin - 1, ymax, xmax])
            stated.append((_own_text(element, "name"), tuple(np.clip(box, 0, [*SIZE, *SIZE]))))
        found = [(item.name, item.box) for item in answer.objects]
        return len(found) + len(answer.problems) == len(elements) and all(
            item in stated for item in found
        )

    read = lambda here: one_image.check_image(voc.Listed(str(here), "a"), LIMITS)  # noqa: E731
    return Target("Annotations/a.xml", [text.encode()], read, right, mutations.of_xml)


def _own_text(element: Any, tag: str) -> str | None:
    """The text before the first element in the first child of that tag, as ElementTree's."""
    for child in element.childNodes:
        if getattr(child, "tagName", "") == tag:
            parts = []
            for node in child.childNodes:
                if node.nodeType == node.ELEMENT_NODE:
                    break
                parts.append(node.data if node.nodeType != node.COMMENT_NODE else "")
            return "".join(parts).strip()
    return None


def _first_text(element: Any, tag: str) -> str | None:
    for child in element.childNodes:
        if getattr(child, "tagName", "") == "bndbox" and _own_text(child, tag) is not None:
            return _own_text(child, tag)
    return None


def coco_json(folder: Path) -> Target:
    """`coco.read_entries`; beside it the json itself."""
    data = {
        "images": [{"id": 7, "file_name": "7.jpg", "height": 20, "width": 30}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 18, "bbox": [1.5, 2, 10, 6.25], "area": 9.5},
            {"id": 2, "image_id": 7, "category_id": 2, "bbox": [0, 0, 30, 20], "iscrowd": 1},
        ],
    }

    def right(content: bytes, answer: Any) -> bool:
        entries, _, problems = answer
        said = json.loads(content)
        names = {item["id"]: item["name"] for item in said["categories"]}
        good = [o for entry in entries for o in entry.objects if o.problem is None]
        bad = [o for entry in entries for o in entry.objects if o.problem is not None]
        stated = []
        for item in said["annotations"]:
            box = item["bbox"]
            if (
                isinstance(box, list)
                and len(box) == 4
                and all(type(x) in (int, float) for x in box)
            ):
                x, y, w, h = box
                with contextlib.suppress(OverflowError):  # a whole number beyond float64
                    stated.append((names.get(item["category_id"]), (y, x, y + h, x + w)))
        count = len(good) + len(bad) + len(problems)
        return count == len(said["annotations"]) and all((o.name, o.box) in stated for o in good)

    read = lambda here: coco.read_entries(here / "x.json", here, True, LIMITS)  # noqa: E731
    return Target("x.json", [json.dumps(data).encode()], read, right, mutations.of_json)


def _tidy(boxes: Any) -> np.ndarray:
    return proposals.tidy(np.clip(np.asarray(boxes, np.float64).reshape(-1, 4), 0, [*SIZE, *SIZE]))


def _sound(answer: Mapping[str, np.ndarray]) -> bool:
    """Whether boxes are what a record may hold."""
    return all(
        boxes.dtype == np.float32
        and boxes.ndim == 2
        and np.isfinite(boxes).all()
        and (boxes >= 0).all()
        and (boxes[:, 2:] - boxes[:, :2] >= 2).all()
        and (boxes <= [*SIZE, *SIZE]).all()
        for boxes in answer.values()
    )


_BOXES = {"a": [[0, 0, 10, 20], [5, 6, 30, 40.5], [0, 0, 1, 9]], "b": [[1, 2, 9, 9.5]]}


def _proposals(name: str, apart: Apart | None = None) -> Callable[[Path], Mapping[str, np.ndarray]]:
    def read(folder: Path) -> Mapping[str, np.ndarray]:
        file = proposals.ProposalFile(folder / name, LIMITS, apart)
        return {key: file.get(_entry(key)) for key in ("a", "b")}

    return read


def proposals_npz(folder: Path) -> Target:
    """An .npz of proposals; beside it zipfile and numpy's format."""
    seeds = []
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, **{key: np.array(value, np.float64) for key, value in _BOXES.items()})
        seeds.append(buffer.getvalue())

    def right(content: bytes, answer: Any) -> bool:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            said = {
                key: np.lib.format.read_array(io.BytesIO(file.read(f"{key}.npy"))) for key in answer
            }
        return _sound(answer) and all(
            np.array_equal(_tidy(said[key]), boxes) for key, boxes in answer.items()
        )

    def structure(rng: np.random.Generator, data: bytes) -> bytes:
        buffer = io.BytesIO()
        keys = ("a", "b", "c", "b.npy")
        np.savez(buffer, **{keys[i]: mutations.of_array(rng) for i in range(rng.integers(1, 4))})
        return buffer.getvalue()

    return Target("p.npz", seeds, _proposals("p.npz"), right, structure)


def proposals_json(folder: Path) -> Target:
    """A json of proposals; beside it the json itself."""

    def right(content: bytes, answer: Any) -> bool:
        said = json.loads(content)
        return _sound(answer) and all(
            np.array_equal(_tidy(said[key]), boxes) for key, boxes in answer.items()
        )

    seeds = [json.dumps(_BOXES).encode()]
    return Target("p.json", seeds, _proposals("p.json"), right, mutations.of_json)


def _mat(arrays: Mapping[str, Any]) -> bytes:
    import scipy.io

    cells = {}
    for name, items in (("boxes", list(arrays.values())), ("images", list(arrays))):
        cells[name] = np.empty((1, len(items)), object)
        cells[name][0, :] = items
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, cells, do_compression=len(arrays) > 2)
    return buffer.getvalue()


def mat_v5(folder: Path) -> Target:
    """A .mat by scipy, in one process until that dies; no other reader: sound boxes are right."""
    one_based = {key: np.add(value, [1, 1, 0, 0]) for key, value in _BOXES.items()}
    seeds = [_mat(one_based), _mat(one_based | {"c": np.zeros((0, 4))})]

    def structure(rng: np.random.Generator, data: bytes) -> bytes:
        return _mat({key: mutations.of_array(rng) for key in "abc"})

    read = _proposals("p.mat", Apart(LIMITS))
    return Target("p.mat", seeds, read, lambda _, answer: _sound(answer), structure)


def mat_v73(folder: Path) -> Target:
    """A .mat by h5py; see `mat_v5`."""
    import h5py

    path = folder / "seed.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        references: dict[str, list] = {"boxes": [], "images": []}
        for key, value in _BOXES.items():
            text = file.create_dataset(f"t{key}", data=np.array([[ord(key)]]))
            data = file.create_dataset(f"b{key}", data=np.add(value, [1, 1, 0, 0]).T)
            references["boxes"].append(data.ref)
            references["images"].append(text.ref)
        for key, refs in references.items():
            file.create_dataset(key, data=np.array([refs], h5py.ref_dtype))
    content = path.read_bytes()
    header = b"MATLAB 7.3 MAT-file".ljust(124) + bytes([0, 2]) + b"IM"
    seeds = [header + content[len(header) :]]
    read = _proposals("p.mat", Apart(LIMITS))
    return Target("p.mat", seeds, read, lambda _, answer: _sound(answer))


def _example(image_id: str, encoded: bytes, boxes: int) -> bytes:
    rows = np.array([[1, 2, 20, 30.5]] * boxes, np.float32)
    none = np.zeros(boxes, bool)
    record = records.Record(
        *(image_id, encoded, "png", *SIZE, rows, np.ones(boxes, np.int32), none, none),
        *(np.ones(boxes, np.float32), np.array([[0, 0, 9, 9]], np.float32)),
    )
    return records.to_example(record, _CLASSES)


def _shard(folder: Path) -> bytes:
    path = folder / "train-00000-of-00001.tfrecord"
    records.write_shard(path, [_example(str(i), _encoded("PNG"), i) for i in range(3)])
    return path.read_bytes()


def _info() -> dict[str, Any]:
    shard = {"file": "train-00000-of-00001.tfrecord", "records": 3}
    split = {"shards": [shard], "image_ids": "0 1 2", "annotated": True}
    split["proposals"] = {"method": "file"}
    return {"classes": list(_CLASSES), "category_ids": None, "splits": {"train": split}}


def dataset_json(folder: Path) -> Target:
    """`RecordReader`; beside it the json itself."""
    _shard(folder)

    def right(content: bytes, reader: RecordReader) -> bool:
        said = json.loads(content)
        shards = said["splits"]["train"]["shards"]
        return list(reader.classes) == said["classes"] and len(reader) == sum(
            shard["records"] for shard in shards
        )

    read = lambda here: RecordReader(here, "train")  # noqa: E731
    seeds = [json.dumps(_info()).encode()]
    return Target("dataset.json", seeds, read, right, mutations.of_json)


def tfrecord_shard(folder: Path) -> Target:
    """Every record of a shard, checked; beside it tf.data's reader and its parsing."""
    import tensorflow as tf

    seeds = [_shard(folder)]
    write_json(folder / "dataset.json", _info())
    path = folder / "train-00000-of-00001.tfrecord"

    def read(here: Path) -> list[bytes]:
        reader = RecordReader(here, "train")
        for index in range(len(reader)):
            reader.check(index)
        return [reader[index] for index in range(len(reader))]

    def right(content: bytes, answer: list[bytes]) -> bool:
        theirs = [item.numpy() for item in tf.data.TFRecordDataset([str(path)])]
        parsed = [records.parse_example(tf.constant(item)) for item in theirs]
        return theirs == answer and all(x["boxes"].shape == (len(x["classes"]), 4) for x in parsed)

    def structure(rng: np.random.Generator, data: bytes) -> bytes:
        examples = [_example(str(i), _encoded("PNG"), i) for i in range(3)]
        place = rng.integers(3)
        examples[place] = mutations.of_bytes(rng, examples[place], examples)
        with tf.io.TFRecordWriter(str(path)) as writer:
            for example in examples:
                writer.write(example)
        return path.read_bytes()

    return Target(path.name, seeds, read, right, structure)


def config_json(folder: Path) -> Target:
    """`experiment.trained_config` of a workdir; beside it the json itself."""
    from ohem_tf import experiment
    from ohem_tf.config import paper

    config = json.loads(json.dumps(paper().to_dict()))
    saved = {"config": config, "overrides": {"train.steps": 10}, "classes": list(_CLASSES)}

    def right(content: bytes, answer: Any) -> bool:
        said = json.loads(content)
        flat = _flat(json.loads(json.dumps(answer.to_dict())))
        wanted = _flat(said["config"]) | said["overrides"]
        return all(_same(flat[key], value) for key, value in wanted.items() if key in flat)

    read = lambda here: experiment.trained_config(None, {}, str(here))  # noqa: E731
    seeds = [json.dumps(saved | {"versions": {}}).encode()]
    return Target("config.json", seeds, read, right, mutations.of_json)


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _same(a: Any, b: Any) -> bool:
    both_nan = isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b)
    return both_nan or a == b


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

    seeds = [_encoded("JPEG"), _encoded("PNG"), _encoded("PNG", "P"), _encoded("JPEG", "CMYK")]
    seeds += [_encoded(kind) for kind in ("GIF", "BMP", "TIFF", "WEBP", "PPM")]

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


def detections_npz(folder: Path) -> Target:
    """The detections of `evaluate --from_results`; beside it zipfile and numpy's format."""
    from ohem_tf.evaluation import detections

    found = {"boxes": np.ones((2, 4)), "scores": np.ones(2), "classes": np.ones(2)}
    detections.save(folder / "seed.npz", ["a", "b"], [found, found], {"split": "x/y"})

    def right(content: bytes, answer: Any) -> bool:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            boxes = np.lib.format.read_array(io.BytesIO(file.read("boxes.npy")))
        ours = [x["boxes"] for x in answer[1]]
        return np.array_equal(np.concatenate([np.zeros((0, 4)), *ours]), boxes, equal_nan=True)

    seeds = [(folder / "seed.npz").read_bytes()]
    return Target("x.npz", seeds, lambda here: detections.load(here / "x.npz"), right)


def request(folder: Path) -> Target:
    """What the exported signatures check of a request: image bytes and proposals, in a graph.

    The file is four bytes for each number of the proposals, up to 8 boxes, then the image. Beside
    it Pillow's size, and the proposals in numpy.
    """
    import tensorflow as tf

    from export import checked

    head = np.array([[0, 0, 9, 9], [3, 4, 40, 50]] * 4, np.float32).tobytes()
    seeds = [head + _encoded("JPEG"), head + _encoded("PNG")]

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


# By name; the number is the share of the inputs, by what one costs.
TARGETS: dict[str, tuple[Callable[[Path], Target], int]] = {
    "VOC xml": (voc_xml, 20),
    "COCO json": (coco_json, 20),
    ".mat v5": (mat_v5, 10),
    ".mat v7.3": (mat_v73, 10),
    "proposals .npz": (proposals_npz, 10),
    "proposals .json": (proposals_json, 10),
    "detections .npz": (detections_npz, 4),
    "dataset.json": (dataset_json, 4),
    "TFRecord shard": (tfrecord_shard, 2),
    "config.json": (config_json, 2),
    ".caffemodel": (caffemodel, 4),
    "images": (images, 2),
    "request": (request, 2),
}
