"""The split that a run was evaluated on: its objects, its images, and what its proposals cover."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ohem_tf.checking.recall import Recall
from ohem_tf.checking.stored import entry
from ohem_tf.data.ground_truth import of_record
from ohem_tf.data.joined import check_classes, open_split, split_expression
from ohem_tf.data.reader import RecordReader
from ohem_tf.errors import InputError
from ohem_tf.progress import tqdm
from ohem_tf.reporting.runs import Run


@dataclasses.dataclass(frozen=True)
class Split:
    """A split of records.

    Attributes:
      name: what `joined.open_split` takes.
      directory: of the records.
      records: it.
      ground_truth: see `data.ground_truth.ground_truth`.
      recall: of the proposals that the model of the run takes from the records; None if it takes
        none.
    """

    name: str
    directory: str
    records: RecordReader
    ground_truth: Sequence[Mapping[str, Any]]
    recall: Recall | None

    def reader(self) -> Callable[[str, str], bytes]:
        """What gives the bytes of the image file of (name of the split, image id)."""
        numbers = {image["image_id"]: number for number, image in enumerate(self.ground_truth)}
        return lambda _, image_id: self.records.record(numbers[image_id]).encoded


def read_split(run: Run, directory: str | None) -> Split:
    """Reads the split that a run was evaluated on, with progress.

    Args:
      run: evaluated.
      directory: of the records; None: where they were in training.

    Raises:
      InputError: it is not there, or holds other classes or images.
    """
    data = run.config["data"]
    directory = data["dir"] if directory is None else directory
    name = split_expression(directory, run.split)
    records = open_split(directory, name, f"the split of {run.workdir}")
    check_classes(f"--records: {directory}", records.classes, run.workdir, run.classes)
    own = run.config["proposals"] != "records"
    recall = None if own or not records.has_proposals else Recall(records.classes)
    most = data["max_proposals"] or None
    ground_truth = []
    for index in tqdm(range(len(records)), desc=f"reading {name}", unit="image"):
        record = records.record(index)
        ground_truth.append(of_record(record))
        if recall is not None:
            objects = entry(record, name, records.classes).objects
            recall.add(objects, record.proposals[:most])
    if [image["image_id"] for image in ground_truth] != list(run.image_ids):
        raise InputError(
            f"--records: {directory}: {name} does not hold the images that {run.workdir} was "
            "evaluated on; give the records that it was, or evaluate again"
        )
    return Split(name, directory, records, ground_truth, recall)
