"""Output in the terminal: lines, tables, log messages, progress."""

import logging
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)  # fmt: skip
from rich.progress import Progress as Bar
from rich.table import Column, Table

WIDTH = 150
"""Of tables in a file, in characters; those that need more are wider."""
EVERY_S = 20.0
"""Time between two lines of progress, where the output is no terminal."""
BEAT_S = 2.5
"""Time between two lines of a step whose end nobody knows, where the output is no terminal."""
FLAGS = {"-q": logging.WARNING, "-v": logging.DEBUG}
"""Flags of the command line, and the least level of the messages that they let through."""
SPECIAL = set('"$`\\!')
"""Characters that a shell changes within double quotes."""
logger = logging.getLogger(__name__)
_bars: list[Bar] = []


class Terminal(Console):
    """Prints plainly, and leaves it to the command line what a closed pipe means."""

    def on_broken_pipe(self) -> None:
        """Go on with the error; rich would end the process with exit code 1."""
        raise  # what rich handles just now


class Progress:
    """Progress of a task: a bar in a terminal, a line every 20 s elsewhere.

    Args:
        label: name of the task.
        total: number of its parts.
        done: parts that are finished already.
        unit: name of a part.
    """

    def __init__(self, label: str, total: int, done: int, unit: str, bar: Bar | None) -> None:
        self._label, self._total, self._first, self._done, self._unit, self._bar = label, total, done, done, unit, bar
        self._start = self._printed = time.monotonic()
        self._id = bar.add_task(label, total=total, completed=done, text="") if bar is not None else None

    def advance(self) -> None:
        """Count one more part as finished."""
        self.update(self._done + 1)

    def update(self, done: int, text: str = "") -> None:
        """Show how many parts are finished, and a text beside."""
        last, self._done = self._done < self._total <= done, done
        if self._bar is not None and self._id is not None:
            self._bar.update(self._id, completed=done, text=text)
        elif last or time.monotonic() - self._printed >= EVERY_S:
            self._printed = time.monotonic()
            left_min = (time.monotonic() - self._start) / max(1, done - self._first) * (self._total - done) / 60
            to_go = f"{left_min:.1f} min" if done > self._first else "?"
            logger.info(f"{self._label}  {self._unit} {done:4d}/{self._total}  to go {to_go}  {text}".rstrip())


@contextmanager
def progress(label: str, total: int, done: int = 0, unit: str = "episode") -> Iterator[Progress]:
    """Show the progress of a task; messages appear above the bar. Before `show_log`, nothing is printed."""
    if not (sys.stdout.isatty() and _shows(logging.INFO)):
        yield Progress(label, total, done, unit, None)
        return
    columns: tuple[ProgressColumn, ...] = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=10),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
    )
    with Bar(*columns, transient=True, console=Terminal(highlight=False, markup=False)) as bar:
        _bars.append(bar)
        try:
            yield Progress(label, total, done, unit, bar)
        finally:
            _bars.remove(bar)


@contextmanager
def working(label: str, every_s: float = BEAT_S) -> Iterator[Callable[[str], None]]:
    """Show that a step goes on whose end nobody knows: its seconds in a terminal, a line now and then elsewhere.

    Args:
        label: what goes on.
        every_s: time between two lines [s].

    Yields a function that shows another label.
    """
    if sys.stdout.isatty() and _shows(logging.INFO):
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        with Bar(*columns, transient=True, console=Terminal(highlight=False, markup=False)) as bar:
            task = bar.add_task(label, total=None)
            _bars.append(bar)
            try:
                yield lambda text: bar.update(task, description=text)
            finally:
                _bars.remove(bar)
        return
    start, over, labels = time.monotonic(), threading.Event(), [label]

    def beat() -> None:
        while not over.wait(every_s):
            say(f"{labels[-1]}  {time.monotonic() - start:.0f} s")

    thread = threading.Thread(target=beat, daemon=True)
    say(label)
    thread.start()
    try:
        yield lambda text: labels.__setitem__(0, text)
    finally:
        over.set()
        thread.join()


def show(table: Table, minor: Sequence[str] = ()) -> None:
    """Print a table; before `show_log`, nothing is printed.

    Args:
        table: whole in a file; a terminal too narrow for it shows fewer columns.
        minor: headers of the columns that a narrow terminal leaves out, the first of them first.
    """
    if not _shows(logging.CRITICAL):
        return
    live, hidden = sys.stdout.isatty(), list[str]()
    spare = [name for name in minor if name in {column.header for column in table.columns}]
    console = Terminal(width=None if live else WIDTH, highlight=False, markup=False)  # [s] is a unit, not markup

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


def say(line: str) -> None:
    """Print a line; in a terminal, above the progress bar. With `-q`, and before `show_log`, nothing is printed."""
    logger.info(line)


def make_line(verb: str, **variables: str | Sequence[str]) -> str:
    r"""Return the line `make VERB NAME=value` as a user types it; make hands the values to a shell of its own.

    >>> make_line("evaluate", NET="cross", POLICY=["jointq", "max_pressure"]), make_line("compare", NET="my town")
    ('make evaluate NET=cross POLICY="jointq max_pressure"', 'make compare NET="\'my town\'"')
    """
    line = f"make {verb}"
    for name, value in variables.items():
        inner = shlex.join([value] if isinstance(value, str) else value).replace("$", "$$")
        is_word = isinstance(value, str) and shlex.quote(inner) == inner
        line += (
            f" {name}={inner}"
            if is_word
            else f' {name}="{inner}"'
            if not set(inner) & SPECIAL
            else f" {name}={shlex.quote(inner)}"
        )
    return line


def _print(line: str) -> None:
    if _bars:
        _bars[-1].console.print(line, highlight=False, markup=False, soft_wrap=True)
    else:
        print(line, flush=True)


class LogHandler(logging.Handler):
    """Prints the message of a log record, alone."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print."""
        _print(record.getMessage())


def level(words: Sequence[str]) -> int:
    """Return the least level of the messages that a command line asks for with `-q` or `-v`."""
    return next((FLAGS[word] for word in words if word in FLAGS), logging.INFO)


def show_log(least: int = logging.INFO) -> None:
    """Print messages, tables and progress of the package from now on.

    Args:
        least: level of the least important messages that are printed.
    """
    package = logging.getLogger("tsc_marl")
    package.setLevel(least)
    if not _shows(logging.CRITICAL):
        package.addHandler(LogHandler())


def _shows(importance: int) -> bool:
    """Return whether `show_log` was called, and for messages of this level."""
    package = logging.getLogger("tsc_marl")
    return package.isEnabledFor(importance) and any(isinstance(handler, LogHandler) for handler in package.handlers)


def shortened(name: str, longest: int) -> str:
    """Return a name with at most so many characters: begin and end.

    >>> shortened("cluster_1757124350_1757124352", 12), shortened("A0", 12)
    ('cluste…24352', 'A0')
    """
    return name if len(name) <= longest else f"{name[: longest // 2]}…{name[longest // 2 + 1 - longest :]}"
