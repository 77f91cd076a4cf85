"""What a person sees in the terminal: lines, tables, the progress of a training."""

import logging
import sys
import time
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

WIDTH = 150
"""Of tables in a file, in characters; those that need more are wider."""


class Progress:
    """One line, rewritten in a terminal, repeated every few seconds elsewhere."""

    EVERY_S = 20.0

    def __init__(self, label: str, total: int, done: int) -> None:
        self._label, self._total, self._first = label, total, done
        self._start = self._said = time.monotonic()
        self._live = sys.stdout.isatty()

    def update(self, done: int, figures: Mapping[str, float]) -> None:
        """Show the figures of the last update."""
        left = (time.monotonic() - self._start) / max(1, done - self._first) * (self._total - done)
        known = [name for name in ("entropy", "epsilon") if f"policy/{name}" in figures]
        explores = f"{known[0]} {figures[f'policy/{known[0]}']:.2f}  " if known else ""
        line = (
            f"{self._label}  episode {done:4d}/{self._total}  delay {figures['delay']:7.1f} s  "
            f"reward {figures['reward']:9.0f}  {explores}"
            f"s/episode: sim {figures['seconds/simulation']:.2f} act {figures['seconds/acting']:.2f} "
            f"learn {figures['seconds/learning']:.2f}  to go {left / 60:4.1f} min"
        )
        last = done >= self._total
        if self._live:
            print(f"\r{line}", end="\n" if last else "", flush=True)
        elif last or time.monotonic() - self._said >= self.EVERY_S:
            self._said = time.monotonic()
            print(line, flush=True)


def show(table: Table, minor: Sequence[str] = ()) -> None:
    """Print a table: whole into a file, in a terminal without as many of its `minor` columns as there is no room for."""
    live, hidden = sys.stdout.isatty(), list[str]()
    spare = [name for name in minor if name in {column.header for column in table.columns}]
    console = Console(width=None if live else WIDTH, highlight=False, markup=False)  # [s] is a unit, not markup

    def needed() -> int:
        return console.measure(table, options=console.options.update_width(10 * WIDTH)).maximum

    while live and spare and needed() > console.width:
        hidden.append(spare.pop(0))
        kept = [column for column in table.columns if column.header != hidden[-1]]
        rows, table = table.rows, Table(*kept, title=table.title, title_justify=table.title_justify)
        table.rows = rows
    if not live and all(column.no_wrap for column in table.columns):
        console.width = max(WIDTH, needed())
    console.print(table)
    if hidden:
        say(f"a wider terminal shows also {', '.join(' '.join(name.split()) for name in hidden)}")


class LogHandler(logging.Handler):
    """Prints the message of a log record, alone."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print."""
        say(record.getMessage())


def show_log() -> None:
    """Print the program's log, from INFO on."""
    logger = logging.getLogger("tsc_marl")
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(LogHandler())


def say(line: str) -> None:
    """Print a line; in a terminal, over the progress line."""
    print(f"\r\x1b[2K{line}" if sys.stdout.isatty() else line, flush=True)
