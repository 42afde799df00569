"""Progress of long work, with an ETA: a bar on a terminal, and elsewhere a plain line now and then.

A log then holds no carriage returns, and a line every half a minute instead of thousands.
"""

from __future__ import annotations

import sys
from typing import Any

import tqdm as library

_SECONDS = 30.0  # between two lines
_SHORT = 5.0  # seconds; work that is done by then has no line at all
_LINE = "{desc}: {n_fmt} of {total_fmt} {unit}s, {elapsed} so far, {remaining} left{postfix}"
_ENDLESS = "{desc}: {n_fmt} {unit}s, {elapsed} so far{postfix}"


class tqdm(library.tqdm):
    """As tqdm's own on a terminal, cut to its width."""

    disable: bool

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """As tqdm's; elsewhere than on a terminal `leave` and the intervals have no effect."""
        stream = options.get("file") or sys.stderr
        self._plain = not stream.isatty()
        if self._plain:
            options |= {"leave": True, "mininterval": _SECONDS, "maxinterval": _SECONDS}
            options |= {"miniters": 1, "delay": _SHORT, "bar_format": _LINE}
        else:
            options["dynamic_ncols"] = True
        super().__init__(*arguments, **options)
        if self._plain and self.total is None:
            self.bar_format = _ENDLESS

    @staticmethod
    def status_printer(file: Any) -> Any:
        """What writes a line."""
        if file.isatty():
            return library.tqdm.status_printer(file)

        def write(text: str) -> None:
            if text:
                file.write(f"{text}\n")
                file.flush()

        return write

    def moveto(self, n: int) -> None:
        """To the line of another bar, on a terminal."""
        if not self._plain:
            super().moveto(n)

    def close(self) -> None:
        """Ends it, with a last line."""
        if self.disable or not self._plain:
            super().close()
            return
        self.disable = True
        self._decr_instances(self)
        if self.n > self.last_print_n and self.last_print_t >= self.start_t + self.delay:
            self.display()


def say(line: str) -> None:
    """Prints a line, above the bars that are on the terminal."""
    if sys.stderr.isatty():
        library.tqdm.write(line)
    else:
        print(line, flush=True)
