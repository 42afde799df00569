"""The flavour for other runtimes: the detections of TensorFlow, ONNX Runtime and OpenVINO."""

import json
import sys

import numpy as np
import pytest
import tensorflow as tf
import tiny

from export import convertible, saved_model
from export import onnx as export_onnx
from export.single_image import SingleImageDetector, check_settings
from ohem_tf import experiment, roi_pooling
from ohem_tf.errors import InputError
from ohem_tf.inference.detection import detect
from ohem_tf.inference.exported import ExportedPredictor
from ohem_tf.models.fast_rcnn import FastRCNN
from ohem_tf.models.position_sensitive import PositionSensitiveHead
from ohem_tf.settings import DetectionSettings

SETTINGS = DetectionSettings(
    shortest_sides=(64,), longest_side=96, score_threshold=0.01, max_detections=20
)
MODELS = [("max", 1), ("align", 1), ("position_sensitive", 1), ("max", 3), ("align", 3)]
RECORDS = [tiny.make_record(3, 96, 128, objects=2), tiny.make_record(4, 130, 90, objects=2)]


def model(pooling="max", maps=1, needs_proposals=False):
    """A detector whose scores and boxes differ from RoI to RoI."""
    made = tiny.faster_rcnn(pyramid=maps > 1)
    head = made.roi_head
    if pooling == "position_sensitive":
        head = PositionSensitiveHead(3, made.backbone.channels, 3, (16,))
        head.set_target_statistics(np.zeros((4, 4)), np.full((4, 4), 0.2))
    rng = np.random.default_rng(0)
    for layer in (head.cls_score, head.bbox_pred):
        layer.kernel.assign(rng.normal(0, 0.5, layer.kernel.shape))
    proposer = None if needs_proposals else made.proposer
    return FastRCNN(made.backbone, head, pooling=head.pooling or pooling, proposer=proposer)


def image_of(record):
    return tf.io.decode_png(record.encoded)


def assert_same(outputs, expected, image, atol=1e-3):
    """Outputs of `SingleImageDetector` are the detections `expected`, in pixels."""
    count = len(expected.scores)
    height, width = image.shape[:2]
    assert count > 5
    assert outputs["num_detections"] == count
    boxes = outputs["detection_boxes"][:count] * [height, width, height, width]
    np.testing.assert_allclose(boxes, expected.boxes, atol=atol)
    np.testing.assert_allclose(outputs["detection_scores"][:count], expected.scores, atol=atol)
    np.testing.assert_array_equal(outputs["detection_classes"][:count], expected.classes)
    for name in ("detection_scores", "detection_boxes", "detection_classes"):
        assert outputs[name].shape[0] == SETTINGS.max_detections
        assert not np.any(outputs[name][count:])


def onnx_runtime(path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra [onnx]")
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


def openvino(path):
    """Of an ONNX file, or of a SavedModel."""
    runtime = pytest.importorskip("openvino", reason="needs the extra [openvino]")
    precise = {"INFERENCE_PRECISION_HINT": "f32"}  # else bfloat16, where there are units for it
    compiled = runtime.compile_model(runtime.convert_model(path), "CPU", precise)
    return lambda inputs: {k.any_name: v for k, v in compiled(inputs).to_dict().items()}


def converted(module, folder):
    """Paths of a SavedModel and of what tf2onnx makes of it."""
    tf2onnx = pytest.importorskip("tf2onnx", reason="needs the extra [onnx]")
    tf.saved_model.save(module, str(folder), signatures=module.by_name())
    specs = module.detect.input_signature
    path = str(folder / "model.onnx")
    tf2onnx.convert.from_function(module.detect, specs, opset=18, output_path=path)
    return str(folder), path


@pytest.mark.parametrize(("pooling", "maps"), MODELS)
def test_its_detections_are_those_of_detect(pooling, maps):
    detector = model(pooling, maps)
    module = SingleImageDetector(detector, SETTINGS)
    for record in RECORDS:
        image = image_of(record)
        outputs = {name: x.numpy() for name, x in module.detect(image).items()}
        assert_same(outputs, detect(detector, image, None, SETTINGS), image)


def test_proposals_are_a_second_input_where_they_are_needed():
    detector = model(needs_proposals=True)
    settings = DetectionSettings(**{**vars(SETTINGS), "max_proposals": 15})
    module = SingleImageDetector(detector, settings)
    image, proposals = image_of(RECORDS[0]), RECORDS[0].proposals
    expected = detect(detector, image, proposals, settings)
    padded = np.pad(proposals, [[0, 3], [0, 0]])
    assert_same({k: v.numpy() for k, v in module.detect(image, padded).items()}, expected, image)
    assert module.detect(image, np.zeros((0, 4), np.float32))["num_detections"] == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ImportWarning")
@pytest.mark.parametrize(("pooling", "maps"), [*MODELS, ("needs proposals", 1)])
def test_other_runtimes_detect_the_same(pooling, maps, tmp_path):
    needs_proposals = pooling == "needs proposals"
    detector = model("max" if needs_proposals else pooling, maps, needs_proposals)
    folder, path = converted(SingleImageDetector(detector, SETTINGS), tmp_path)
    calls, expected = [], []
    for record in RECORDS:
        image = image_of(record)
        boxes = record.proposals if needs_proposals else None
        expected.append(detect(detector, image, boxes, SETTINGS))
        calls.append({"image": image.numpy()})
        if needs_proposals:
            calls[-1]["proposals"] = boxes

    def compare(run):
        for inputs, detections in zip(calls, expected, strict=True):
            assert_same(run(inputs), detections, inputs["image"])

    compare(onnx_runtime(path))
    # One ends before the next begins. OpenVINO gives the thread that compiles a stack for signals
    # of its own until the model is gone; of two models that overlap, the second leaves the freed
    # stack of the first, and the next signal, in any later test, ends the process.
    compare(openvino(path))
    compare(openvino(folder))


@pytest.mark.parametrize("pooling", ["max", "align"])
def test_its_pooling_is_that_of_training(pooling):
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(1, 6, 9, 4)).astype(np.float32)
    corners = np.sort(rng.uniform(0, 1, (50, 2, 2)), axis=1) * [6 * 16, 9 * 16]
    boxes = np.concatenate([corners.reshape(-1, 4), [[0, 0, 96, 144], [0, 0, 1, 1]]])
    boxes = tf.constant(boxes, tf.float32)
    pooler = FastRCNN(tiny.backbone(4), model().roi_head, pooling=pooling).roi_network.pooler
    found = convertible.ConvertiblePooler(pooler, longest_side=144)([maps], boxes)
    ids = np.zeros(len(boxes), np.int32)
    expected = roi_pooling.POOLING[pooling](maps, boxes, ids, pooler.pool_size, 16)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("threshold", [0.0, 0.25])
def test_a_score_may_equal_the_threshold(threshold):
    settings = DetectionSettings(score_threshold=threshold, max_detections=3)
    scores = tf.constant([[0.5, 0.25, 0.25], [0.0, 0.9, 0.1]])
    boxes = tf.tile(tf.constant([[[0.0, 0, 9, 9]], [[50.0, 0, 59, 9]]]), [1, 3, 1])
    _, found, classes, count = convertible.select(scores, boxes, settings)
    assert count == 3
    np.testing.assert_allclose(found, [0.9, 0.25, 0.25])
    np.testing.assert_array_equal(classes, [1, 1, 2])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shortest_sides", (48, 64)),
        ("flip", True),
        ("rounds", 2),
        ("nms", "gaussian"),
        ("voting", True),
    ],
)
def test_settings_beyond_one_pass_are_refused(field, value):
    with pytest.raises(InputError, match=rf"config\.detection\.{field} is .*single_image takes"):
        check_settings(DetectionSettings(**{field: value}))


@pytest.fixture(scope="module")
def single_image(tmp_path_factory, config, workdir):
    """The folder of a version that takes proposals."""
    output = str(tmp_path_factory.mktemp("exports"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "load_model", lambda *_: model(needs_proposals=True))
        return saved_model.export(config, workdir, output, flavour="single_image")


def test_the_flavour_is_one_plain_signature(single_image, config, workdir, tmp_path):
    loaded = tf.saved_model.load(single_image)
    assert set(loaded.signatures) == {"serving_default"}
    given = loaded.signatures["serving_default"].structured_input_signature[1]
    assert set(given) == {"image", "proposals"}
    with pytest.raises(InputError, match=r"is not an export of export\.saved_model"):
        ExportedPredictor(single_image)
    with pytest.raises(InputError, match="--dtype=bfloat16: --flavour=single_image computes in"):
        saved_model.export(config, workdir, str(tmp_path), dtype="bfloat16", flavour="single_image")
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ImportWarning")
def test_the_binary_converts_and_checks(single_image, tmp_path, capsys, monkeypatch):
    onnx = pytest.importorskip("onnx", reason="needs the extra [onnx]")
    output = tmp_path / "new" / "model.onnx"
    assert export_onnx.convert(single_image, str(output)) == 1.0
    assert "20 of 20 detections are the same within 0.001" in capsys.readouterr().out
    facts = {x.key: x.value for x in onnx.load(output).metadata_props}
    assert tuple(json.loads(facts["classes"])) == tiny.CLASSES
    output.unlink()
    monkeypatch.setattr(export_onnx, "agreement", lambda *_: (17, 20, 0.0))
    with pytest.raises(InputError, match="detects something else as ONNX; not written"):
        export_onnx.convert(single_image, str(output))
    assert not list(output.parent.iterdir())


def test_agreement_is_of_sets():
    def outputs(*rows):
        rows = np.array([*rows, *[[0.0] * 6] * (4 - len(rows))], np.float32)
        return {
            "detection_boxes": rows[:, :4],
            "detection_scores": rows[:, 4],
            "detection_classes": rows[:, 5],
            "num_detections": np.float32(np.count_nonzero(rows[:, 5])),
        }

    a, b, c = [0, 0, 0.5, 0.5, 0.9, 1], [0, 0, 0.5, 0.5, 0.8, 2], [0.2, 0, 0.5, 0.5, 0.7, 1]
    near = [0, 0, 0.5, 0.5004, 0.9, 1]
    assert export_onnx.agreement(outputs(a, b), outputs(b, a)) == (2, 2, 0.0)
    assert export_onnx.agreement(outputs(a), outputs(near))[2] == pytest.approx(4e-4, rel=1e-3)
    assert export_onnx.agreement(outputs(a, b), outputs(a, c, b))[:2] == (2, 3)
    assert export_onnx.agreement(outputs(a), outputs(b))[:2] == (0, 1)
    assert export_onnx.agreement(outputs(), outputs()) == (0, 0, 0.0)


def test_what_is_missing_is_named(exported, single_image, tmp_path, monkeypatch):
    output = str(tmp_path / "model.onnx")
    for folder in (exported, str(tmp_path / "nowhere")):  # the other flavour, and none
        with pytest.raises(InputError, match=r"no version, .*with --flavour=single_image"):
            export_onnx.convert(folder, output)
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(InputError, match=r"needs onnx, .*pip install -e '\.\[onnx\]'"):
        export_onnx.convert(single_image, output)
