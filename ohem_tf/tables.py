"""Results beside the paper's: python -m ohem_tf.tables --workdirs=A,B --output=DIR.

Each of A, B ... is the workdir of an evaluated run, or a file in one that `ohem_tf.evaluate
--output` wrote. Prints the tables, and writes DIR/tables.md, DIR/tables.json and a CSV per table.

The paper's number stands beside a run only if all of its setting is that of the row in
configs/paper.py: sampler, N, B, schedule, network, data sets (known by their folders' names: voc07,
voc12, coco), scales, last checkpoint, every other field of training and test that matters. What
differs stands under "other changes".
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from absl import flags

from ohem_tf.errors import InputError, run
from ohem_tf.files import make_folder
from ohem_tf.paper import tables


def define_flags() -> None:
    """Defines the flags (not at import: binaries share names, and scripts import this module)."""
    flags.DEFINE_list("workdirs", None, "Workdirs of evaluated runs, or metrics files in them.")
    flags.DEFINE_string("output", None, "Folder for the tables.")


def main(argv: Sequence[str]) -> None:
    """Entry point of the binary."""
    given = flags.FLAGS
    if not given.workdirs or not given.output:
        raise InputError("give --workdirs=A,B and --output=DIR")
    made = tables.build(tables.read_runs(given.workdirs))
    make_folder(given.output, "output")
    tables.write(made, given.output)
    print(tables.markdown(made))
    print(f"{os.path.join(given.output, 'tables.md')}, tables.json, and a .csv per table")


def cli() -> None:
    """Console script."""
    define_flags()
    run(main)


if __name__ == "__main__":
    cli()
