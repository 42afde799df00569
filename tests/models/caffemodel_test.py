"""Reading .caffemodel files, from bytes that tiny_caffe.py writes."""

import hypothesis
import hypothesis.extra.numpy
import numpy as np
import pytest
import tiny_caffe
from hypothesis import strategies as st

from ohem_tf.errors import InputError
from ohem_tf.models import caffemodel

KERNEL = np.arange(120, dtype=np.float32).reshape(4, 5, 3, 2) - 7.25
BIAS = np.float32([0.5, -2.0, 0.0, 1e-30])


def read(tmp_path, content):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(content)
    return caffemodel.read(path)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("v1", [True, False])
def test_both_layouts_packed_or_not(tmp_path, v1, double, packed):
    options = {"v1": v1, "double": double, "packed": packed}
    conv = tiny_caffe.layer("conv1", [KERNEL, BIAS], **options)
    fc = tiny_caffe.layer("fc6", [KERNEL[0, 0], BIAS[:3]], kind="InnerProduct", **options)
    found = read(tmp_path, tiny_caffe.net(conv, fc))
    assert list(found) == ["conv1", "fc6"]  # not the ReLU
    np.testing.assert_array_equal(found["conv1"][0], KERNEL)
    ones = (1, 1) if v1 else ()
    assert found["fc6"][0].shape == (*ones, 3, 2)
    np.testing.assert_array_equal(found["fc6"][0].reshape(3, 2), KERNEL[0, 0])
    assert found["conv1"][1].shape == ((1, 1, 1, 4) if v1 else (4,))
    expected = BIAS if not double else BIAS.astype(np.float64)
    np.testing.assert_array_equal(found["conv1"][1].ravel(), expected)


def test_data_in_several_pieces_as_protobuf_allows(tmp_path):
    """A packed piece, three values that are not packed, another packed piece; dims not packed."""
    pieces = [
        tiny_caffe.blob(BIAS[:2])[:10],  # key, length, two floats
        tiny_caffe.blob(np.float32([5, 6, 7]), packed=False)[:15],
        tiny_caffe.blob(BIAS[2:])[:10],
    ]
    shape = tiny_caffe.bytes_field(7, tiny_caffe.number_field(1, 1) + tiny_caffe.number_field(1, 7))
    content = tiny_caffe.bytes_field(1, b"fc") + tiny_caffe.bytes_field(7, b"".join(pieces) + shape)
    found = read(tmp_path, tiny_caffe.bytes_field(100, content))
    np.testing.assert_array_equal(found["fc"][0], [[*BIAS[:2], 5, 6, 7, *BIAS[2:]]])


@hypothesis.given(
    array=hypothesis.extra.numpy.arrays(
        np.float32,
        st.sampled_from([(), (0,), (1,), (127,), (128,), (300,), (2, 3), (1, 0, 2), (3, 2, 5, 4)]),
        elements=st.floats(width=32, allow_nan=False),
        fill=st.just(1.5),
    ),
    packed=st.booleans(),
)
@hypothesis.settings(max_examples=50, deadline=None)
def test_any_array_comes_back(tmp_path_factory, array, packed):
    content = tiny_caffe.net(tiny_caffe.layer("x", [array, array], packed=packed))
    for found in read(tmp_path_factory.mktemp("x"), content)["x"]:
        assert found.shape == array.shape
        np.testing.assert_array_equal(found, array)


def refusal(tmp_path, content):
    with pytest.raises(InputError) as caught:
        read(tmp_path, content)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'net.caffemodel'}: ")
    assert "\n" not in message
    return message


def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path):
    first = tiny_caffe.net(tiny_caffe.layer("conv1", [KERNEL[:1, :1], BIAS[:1]]))
    second = tiny_caffe.layer("conv2", [KERNEL[:1, :1], BIAS[:1]])
    for end in range(1, len(second)):
        assert "cut off" in refusal(tmp_path, first + second[:end])


OTHER_FILES = {
    "empty": b"",
    "prototxt": b'name: "VGG_ILSVRC_16_layers"\nlayer {\n  name: "conv1_1"\n}\n',
    "html": b"<!DOCTYPE html><html><body>404: Not Found</body></html>",
    "npz": b"PK\x03\x04\x14\x00\x00\x00\x00\x00",
    "hdf5": b"\x89HDF\r\n\x1a\n\x00\x00",
    "zeros": bytes(100),
    "endless": b"\xff" * 100,
    "without_weights": tiny_caffe.net(),
    # Before 2014: V1LayerParameter.layer 1 {name 1, type 2, blobs 50}.
    "v0": tiny_caffe.bytes_field(
        2,
        tiny_caffe.bytes_field(
            1,
            tiny_caffe.bytes_field(1, b"conv1")
            + tiny_caffe.bytes_field(50, tiny_caffe.blob(KERNEL, legacy=True)),
        ),
    ),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_other_files_are_refused(tmp_path, kind):
    message = refusal(tmp_path, OTHER_FILES[kind])
    assert "expected" in message
    assert "upgrade_net_proto_binary" in message or kind not in ("v0", "without_weights")


def test_what_is_no_file_is_refused(tmp_path):
    for path in (tmp_path / "absent.caffemodel", tmp_path):
        with pytest.raises(InputError, match=str(path)):
            caffemodel.read(path)


def test_a_shape_that_does_not_fit_the_values_names_the_layer(tmp_path):
    wrong = bytearray(tiny_caffe.net(tiny_caffe.layer("conv1", [KERNEL, BIAS])))
    at = wrong.rindex(b"\x3a\x03\x0a\x01\x04")  # the bias: shape {dim: 4}
    wrong[at + 4] = 5
    message = refusal(tmp_path, bytes(wrong))
    assert "layer 'conv1', blob 1: 4 values for the shape [5]" in message
