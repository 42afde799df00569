"""Draws what the NMS on the losses does: docs/images/nms_on_losses.png.

    python -m docs.scripts.nms_on_losses --workdir=runs/quickstart/model --image=3 \
        --output=docs/images/nms_on_losses.png

One image of the training split and the losses of all its RoIs, by the weights of the last
checkpoint: the RoIs of the highest losses, those that the NMS selects, and both among all losses.
"""

from __future__ import annotations

import matplotlib
import numpy as np
from absl import flags
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from benchmarks.hard_set import measure
from benchmarks.trained import Trained
from ohem_tf.errors import InputError, run
from ohem_tf.files import atomic
from ohem_tf.models.batches import unbatch
from ohem_tf.workdir import checkpoint_path

_COLOURS = 200  # of the palette, for a small file


def draw(image: np.ndarray, mined: dict[str, np.ndarray], path: str) -> None:
    """Writes the picture.

    Args:
      image: [H, W, 3] float32 RGB in 0..255.
      mined: of `benchmarks.hard_set.measure`; boxes in pixels of this image.
      path: a .png.
    """
    losses, selected = mined["losses"], mined["selected"]
    order = np.argsort(-losses, kind="stable")
    highest = order[: len(selected)]
    top = float(losses.max())
    figure = Figure(figsize=(12, 3.4), dpi=75, layout="constrained")
    figure.get_layout_engine().set(h_pad=0.12)  # inches; titles over a hidden axis stick out
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.1))
    for axis, chosen, title in (
        (left, highest, f"the {len(highest)} highest losses"),
        (middle, selected, f"{len(selected)} after the NMS on the losses"),
    ):
        axis.imshow(image.astype(np.uint8))
        axis.set_title(title)
        axis.axis("off")
        for i in chosen[::-1]:  # the hardest on top
            ymin, xmin, ymax, xmax = mined["boxes"][i]
            colour = matplotlib.colormaps["autumn_r"](losses[i] / top)
            corner, size = (xmin - 0.5, ymin - 0.5), (xmax - xmin, ymax - ymin)
            axis.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=1.2))
    rank = np.arange(1, len(losses) + 1)
    right.plot(rank, losses[order], color="0.5", label="all RoIs")
    places = np.flatnonzero(np.isin(order, selected))
    right.plot(rank[places], losses[order][places], "|", color="red", label="selected by the NMS")
    right.axvline(len(highest) + 0.5, color="0.3", linestyle=":", label="the highest, without NMS")
    right.set(xlabel="RoIs by falling loss", ylabel="loss", xscale="log", ylim=(0, 1.05 * top))
    right.legend(frameon=False)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    page = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    with atomic(path) as temporary:
        page.quantize(_COLOURS).save(temporary, "PNG", optimize=True)


def define_flags() -> None:
    """Defines the flags."""
    flags.DEFINE_string("workdir", None, "Of a training with OHEM.")
    flags.DEFINE_string("checkpoint", "last", "last, best, or the path of one.")
    flags.DEFINE_integer("image", 0, "Which image of the training stream, from 0.", lower_bound=0)
    flags.DEFINE_string("output", None, "A .png.")


def main(_: list[str]) -> None:
    """Entry point of the script."""
    given = flags.FLAGS
    if not given.workdir or not given.output:
        raise InputError("give --workdir=DIR and --output=FILE.png")
    trained = Trained(given.workdir)
    sampler = trained.hard_mining()
    if given.image >= len(trained.records):
        raise InputError(f"--image: a number from 0 to {len(trained.records) - 1}")
    trained.restore(checkpoint_path(given.workdir, given.checkpoint))
    batches = trained.batches(given.image + 1).skip(given.image)
    (mined,) = measure(trained.model, sampler, batches)
    image = unbatch(next(iter(batches)))[0]
    scaled = mined["boxes"] * float(image["scale"])
    draw(image["image"].numpy(), {**mined, "boxes": scaled}, given.output)
    of_all = np.sum(mined["losses"] > mined["losses"][mined["selected"]].min())
    print(
        f"{given.output}: {len(mined['losses'])} RoIs; the {len(mined['selected'])} selected are "
        f"among the {of_all + 1} hardest"
    )


def cli() -> None:
    """Entry point with the flags."""
    define_flags()
    run(main)


if __name__ == "__main__":
    cli()
