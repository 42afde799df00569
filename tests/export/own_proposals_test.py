"""A model that proposes regions by itself: trained, exported and asked with images alone."""

import os

import numpy as np
import pytest
import tensorflow as tf
import tiny

import ohem_tf
from benchmarks import loopback_server
from export import MODEL_NAME, saved_model
from export.remote import RemoteDetector
from ohem_tf import experiment
from ohem_tf.data.pipeline import TrainingStream
from ohem_tf.data.reader import RecordReader
from ohem_tf.errors import InputError
from ohem_tf.inference.detection import detect
from ohem_tf.inference.exported import ExportedPredictor
from ohem_tf.inference.predict import Predictor
from ohem_tf.models.proposers import Proposer
from ohem_tf.settings import DetectionSettings

RECORD = tiny.make_record(3, 96, 128, objects=2)
SETTINGS = DetectionSettings(
    shortest_sides=(64, 80), longest_side=128, score_threshold=0.01, max_detections=20
)


class Grid(Proposer):
    """Squares of 32 resized pixels every 16, clipped to the image."""

    def boxes(self, predicted, size, scale, training):
        y, x = tf.meshgrid(tf.range(0, size[0], 16), tf.range(0, size[1], 16), indexing="ij")
        corners = tf.reshape(tf.stack([y, x], axis=-1), [-1, 2])
        far = tf.minimum(corners + 32, size)
        return tf.cast(tf.concat([corners, far], axis=1), tf.float32) / scale


def model():
    with_proposals = tiny.model()
    return ohem_tf.FastRCNN(with_proposals.backbone, with_proposals.roi_head, proposer=Grid())


def image():
    return tf.io.decode_png(RECORD.encoded)


def grid_of_image():
    return Grid().boxes(None, tf.constant([64, 85]), tf.constant(64 / 96), training=False)


def assert_same(found, expected, atol=1e-3):
    assert len(expected.scores) == 20
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=atol)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    np.testing.assert_array_equal(found.classes, expected.classes)


def test_its_proposals_are_those_at_the_smallest_scale():
    expected = detect(tiny.model(), image(), grid_of_image(), SETTINGS)
    assert_same(detect(model(), image(), None, SETTINGS), expected)
    predictor = Predictor(model(), SETTINGS)
    assert not predictor.needs_proposals
    assert_same(predictor(image().numpy(), RECORD.proposals), expected)  # its own all the same


def test_a_model_that_needs_proposals_says_so():
    with pytest.raises(InputError, match="proposals: this model needs them"):
        detect(tiny.model(), image(), None, SETTINGS)
    with pytest.raises(InputError, match="proposals: this model needs them"):
        Predictor(tiny.model(), SETTINGS)(image().numpy())


def test_it_trains_on_records_whatever_their_proposals(dataset):
    batches = TrainingStream(RecordReader(dataset, "train"), 2, 3, (48, 64), 96, "random").dataset()
    trained = []
    for drop in (False, True):
        one = model()
        one.compile(ohem_tf.CaffeSGD(0.01))
        batch = next(iter(batches))
        if drop:
            batch["proposals_mask"] = tf.zeros_like(batch["proposals_mask"])
        metrics = one.train_step(batch)
        trained.append([float(metrics["loss/hard"]), *(w.numpy().sum() for w in one.weights)])
    assert trained[0] == pytest.approx(trained[1])


@pytest.fixture(scope="module")
def exported(tmp_path_factory, config, workdir):
    """An export of such a model, as export.saved_model makes it."""
    output = str(tmp_path_factory.mktemp("exports"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "load_model", lambda *_: model())
        return saved_model.export(config, workdir, output)


def test_the_export_takes_images_alone(exported, config):
    settings = experiment.detection_settings(config)
    expected = Predictor(model(), settings)(image().numpy())
    loaded = tf.saved_model.load(exported)
    inputs = loaded.signatures["serving_default"].structured_input_signature[1]
    assert set(inputs) == {"image_bytes"}
    assert set(loaded.signatures["from_tensors"].structured_input_signature[1]) == {"images"}
    assert_same(ExportedPredictor(exported)(image().numpy()), expected)
    with loopback_server.grpc_server(loopback_server.Backend(loaded)) as address:
        remote = RemoteDetector(address, MODEL_NAME, deadline=20.0)
        assert not remote.needs_proposals
        (found,) = remote.detect([RECORD.encoded])
        assert_same(found, expected)


def test_the_warm_up_request_has_no_proposals(exported):
    from tensorflow_serving.apis import prediction_log_pb2

    path = os.path.join(exported, "assets.extra", "tf_serving_warmup_requests")
    for line in tf.data.TFRecordDataset(path):
        log = prediction_log_pb2.PredictionLog.FromString(line.numpy())
        assert set(log.predict_log.request.inputs) == {"image_bytes"}
