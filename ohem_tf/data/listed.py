"""What a raw format lists of a split, and images of which nothing has been read yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from ohem_tf.data import checks
from ohem_tf.limits import DEFAULT, Limits


class Listed(Protocol):
    """An image and the file of its own that annotates it; picklable."""

    @property
    def image_id(self) -> str:
        """The id of the image in the records."""

    def read(self, limits: Limits = DEFAULT) -> checks.Entry:
        """Reads the annotation.

        Raises:
          InputError: it cannot be read.
        """

    def path(self) -> str | None:
        """The image, None if it is missing."""

    def files(self) -> str:
        """What `read` reads, for messages."""


@dataclasses.dataclass(frozen=True)
class Labelled:
    """An image that was found with its annotation file; one of them may be missing.

    Attributes:
      image_id: of the image.
      image: path of the image.
      annotation: path of the file that annotates it.
      reader: makes an entry of it; a function of a module, or a partial of one.
    """

    image_id: str
    image: str | None
    annotation: str | None
    reader: Callable[[Labelled, Limits], checks.Entry]

    def read(self, limits: Limits = DEFAULT) -> checks.Entry:
        """Reads the annotation; see `Listed.read`."""
        return self.reader(self, limits)

    def path(self) -> str | None:
        """See `Listed.path`."""
        return self.image

    def files(self) -> str:
        """See `Listed.files`."""
        return self.annotation or self.image or self.image_id


class Listing(NamedTuple):
    """What a raw format finds of a split.

    Attributes:
      images: with their annotations, read or still to be read.
      classes: names in the order that the data gives them; empty where it gives none.
      problems: of the split as a whole, such as images that nobody has annotated.
      category_ids: {class name: category id} (COCO).
    """

    images: Sequence[checks.Entry | Listed]
    classes: tuple[str, ...] = ()
    problems: tuple[checks.Problem, ...] = ()
    category_ids: dict[str, int] = {}  # noqa: RUF012 - never changed
