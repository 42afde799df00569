"""Requests to the exported graph: bad ones are answered with their field, and the next one runs."""

import io

import numpy as np
import pytest
import tensorflow as tf
import tiny
from PIL import Image

RECORD = tiny.make_record(1, 96, 128, objects=2)
BOXES = RECORD.proposals


def encoded(kind, height=40, width=50, mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


JPEG, PNG = encoded("JPEG"), encoded("PNG")


def changed(row, values):
    boxes = BOXES.copy()
    boxes[row] = values
    return boxes


BAD = {
    "no bytes": (b"", BOXES, "image_bytes: neither a JPEG nor a PNG"),
    "text": (b"hello", BOXES, "image_bytes: neither a JPEG nor a PNG"),
    "GIF": (encoded("GIF"), BOXES, "image_bytes: neither a JPEG nor a PNG"),
    "BMP": (encoded("BMP"), BOXES, "image_bytes: neither a JPEG nor a PNG"),
    "start of a PNG": (PNG[:20], BOXES, "image_bytes"),
    "half a PNG": (PNG[: len(PNG) // 2], BOXES, "image_bytes_truncated_or_damaged"),
    "PNG without its end": (PNG[:-12], BOXES, "image_bytes_truncated_or_damaged"),
    "start of a JPEG": (JPEG[:3], BOXES, "image_bytes_truncated_or_damaged"),
    "header of a JPEG": (JPEG[:200], BOXES, "image_bytes_truncated_or_damaged"),
    "half a JPEG": (JPEG[: len(JPEG) // 2], BOXES, "image_bytes_truncated_or_damaged"),
    "JPEG without its end": (JPEG[:-2], BOXES, "image_bytes_truncated_or_damaged"),
    "large PNG": (encoded("PNG", 251, 200), BOXES, "image_bytes: expected 1 to 50000 pixels"),
    "large JPEG": (encoded("JPEG", 251, 200), BOXES, "image_bytes: expected 1 to 50000 pixels"),
    "NaN": (PNG, changed(3, [1, np.nan, 9, 9]), "proposals: NaN or infinite"),
    "infinite": (PNG, changed(0, [1, 2, np.inf, 9]), "proposals: NaN or infinite"),
    "ymax < ymin": (PNG, changed(0, [9, 2, 8, 9]), "proposals: ymax < ymin or xmax < xmin"),
    "xmax < xmin": (PNG, changed(5, [2, 9, 8, 3]), "proposals: ymax < ymin or xmax < xmin"),
}


def ask(loaded, data, boxes, signature="serving_default"):
    inputs = {"image_bytes": tf.constant([data]), "proposals": tf.constant(boxes, tf.float32)[None]}
    outputs = loaded.signatures[signature](**inputs)
    return {name: value.numpy()[0] for name, value in outputs.items()}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_names_the_field_and_the_next_one_works(name, loaded):
    data, boxes, words = BAD[name]
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        ask(loaded, data, boxes)
    assert ask(loaded, RECORD.encoded, BOXES)["num_detections"] == 20


def test_a_large_image_is_refused_by_its_header_alone(loaded):
    """The file ends behind the header: whoever decoded it first would call it truncated."""
    png = encoded("PNG", 251, 200)[:40]
    jpeg = encoded("JPEG", 251, 200)
    jpeg = jpeg[: jpeg.index(b"\xff\xda") + 20]  # up to the start of the image data
    bomb = bytearray(png)
    bomb[16:24] = b"\x7f\xff\xff\xff" * 2  # 2^31 - 1 pixels a side
    for data in (png, jpeg, bytes(bomb)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="expected 1 to 50000 pixels"):
            ask(loaded, data, BOXES)


def test_shapes_that_do_not_fit_are_refused(loaded):
    two = tf.constant([PNG, PNG])
    with pytest.raises(tf.errors.InvalidArgumentError, match="of another number of images"):
        loaded.signatures["serving_default"](
            image_bytes=two, proposals=tf.constant(BOXES, tf.float32)[None]
        )
    with pytest.raises(tf.errors.InvalidArgumentError, match="images: expected 1 to 50000 pixels"):
        loaded.signatures["from_tensors"](
            images=tf.zeros([1, 0, 7, 3], tf.uint8), proposals=tf.zeros([1, 0, 4])
        )


def test_boxes_over_the_edge_count_as_clipped(loaded):
    over = changed(0, [-7, -1e30, 500, 20])
    inside = changed(0, [0, 0, 96, 20])
    found, wanted = (ask(loaded, RECORD.encoded, boxes) for boxes in (over, inside))
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize(
    "boxes",
    [
        np.zeros((0, 4)),
        np.zeros((3, 4)),
        [[5, 5, 5, 9]],
        [[-9, -9, 0, 0]],
        [[200, 5, 300, 9]],
    ],
)
def test_without_proposals_nothing_is_found(loaded, boxes):
    found = ask(loaded, RECORD.encoded, boxes)
    assert found["num_detections"] == 0
    assert not any(np.any(value) for value in found.values())


def test_rows_without_area_do_not_change_what_is_found(loaded):
    wanted = ask(loaded, RECORD.encoded, BOXES)
    between = np.insert(BOXES, [0, 4, len(BOXES)], 0.0, axis=0)
    first = np.pad(BOXES, ((0, 3), (0, 0)), constant_values=BOXES[0, 0])  # as the server fills up
    for boxes in (between, first):
        for name, value in ask(loaded, RECORD.encoded, boxes).items():
            np.testing.assert_array_equal(value, wanted[name])


def test_one_pixel_is_an_image(loaded):
    found = ask(loaded, encoded("PNG", 1, 1), [[0, 0, 1, 1]])
    assert found["num_detections"] > 0
    assert np.all(found["detection_boxes"] <= 1.0)
    assert ask(loaded, encoded("JPEG", 1, 1), np.zeros((0, 4)))["num_detections"] == 0


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_every_png_is_read_as_rgb(loaded, mode):
    data = encoded("PNG", mode=mode)
    as_rgb = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").save(as_rgb, "PNG")
    boxes = BOXES * 0.3
    wanted = ask(loaded, as_rgb.getvalue(), boxes)
    found = ask(loaded, data, boxes)
    np.testing.assert_array_equal(found["detection_boxes"], wanted["detection_boxes"])


def test_a_batch_of_no_images(loaded):
    outputs = loaded.signatures["serving_default"](
        image_bytes=tf.constant([], tf.string), proposals=tf.zeros([0, 5, 4])
    )
    assert outputs["detection_boxes"].shape == (0, 20, 4)


def test_of_two_merged_requests_the_good_one_fails_with_the_bad_one(loaded):
    """Why the server's batching ships off (serving/batching.config)."""
    serve = loaded.signatures["serving_default"]
    boxes = tf.constant(BOXES, tf.float32)[None]
    good, bad = [RECORD.encoded], [PNG[:-12]]
    with pytest.raises(tf.errors.InvalidArgumentError, match="image_bytes"):
        serve(image_bytes=tf.constant(good + bad), proposals=tf.concat([boxes, boxes], axis=0))
    assert serve(image_bytes=tf.constant(good), proposals=boxes)["num_detections"][0] == 20
