"""Draws what OHEM does with images of a training run: docs/images/hard_rois.png.

    python -m benchmarks.hard_rois_picture --workdir=runs/quickstart/model --images=8 \
        --output=docs/images/hard_rois.png

All RoIs of an image, those that a training step selects with the weights of a checkpoint, and the
detections; an image to a row, see `ohem_tf.inference.roi_pictures`. TensorBoard shows the same
while a model trains.
"""

from __future__ import annotations

from absl import flags
from PIL import Image

from benchmarks.trained import Trained
from ohem_tf import experiment
from ohem_tf.errors import InputError, run
from ohem_tf.files import atomic
from ohem_tf.inference.predict import Predictor
from ohem_tf.training.fixed_images import FixedImages
from ohem_tf.workdir import checkpoint_path

_GAP, _COLORS = 6, 256  # pixels between rows; of the palette, for half the bytes


def draw(trained: Trained, chosen: list[int], side: int) -> Image.Image:
    """The images at the places `chosen` of the fixed images, one below the other."""
    stream = experiment.training_stream(trained.config, trained.records)
    sampler, chunk = trained.hard_mining(), trained.config.ohem.chunk
    images = FixedImages(trained.model, sampler, stream, max(chosen) + 1, chunk)
    detect = Predictor(trained.model, experiment.detection_settings(trained.config))
    mined = images.mined(step=0)
    rows = [images.picture(i, mined[i], detect, side) for i in chosen]
    height = sum(row.height + _GAP for row in rows) - _GAP
    page = Image.new("RGB", (max(row.width for row in rows), height), "white")
    top = 0
    for row in rows:
        page.paste(row, (0, top))
        top += row.height + _GAP
    return page


def define_flags() -> None:
    """Defines the flags."""
    flags.DEFINE_string("workdir", None, "Of a training with OHEM.")
    flags.DEFINE_string("checkpoint", "last", "last, best, or the path of one.")
    flags.DEFINE_list("images", ["0"], "Which of the fixed images, from 0.")
    flags.DEFINE_integer("side", 300, "Longer side of a panel, pixels.", lower_bound=50)
    flags.DEFINE_string("output", None, "A .png.")


def main(_: list[str]) -> None:
    """Entry point of the script."""
    given = flags.FLAGS
    if not given.workdir or not given.output:
        raise InputError("give --workdir=DIR and --output=FILE.png")
    trained = Trained(given.workdir)
    chosen = [int(image) for image in given.images if image.isdigit()]
    if not chosen or len(chosen) < len(given.images) or max(chosen) >= len(trained.records):
        raise InputError(f"--images: whole numbers from 0 to {len(trained.records) - 1}")
    trained.restore(checkpoint_path(given.workdir, given.checkpoint))
    with atomic(given.output) as temporary:
        page = draw(trained, chosen, given.side)
        page = page.quantize(palette=page.quantize(_COLORS), dither=Image.Dither.FLOYDSTEINBERG)
        page.save(temporary, "PNG", optimize=True)
    print(given.output)


if __name__ == "__main__":
    define_flags()
    run(main)
