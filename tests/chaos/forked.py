"""Many small trials in forked children of this process, which has imported everything once."""

import contextlib
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

MEMORY_BYTES = 12 * 2**30
GRACE_S = 60
"""Longest time in which a child must end after Ctrl-C."""


@dataclass(frozen=True)
class Answer:
    """What a child left."""

    number: int
    code: int | None
    """None: it did not end in time, and not by Ctrl-C either."""
    out: str
    err: str
    stopped: bool
    """Whether it was still running at its limit, and got Ctrl-C."""


@dataclass
class _Child:
    number: int
    limit: float
    stopped: bool = False


def run_forked(
    tasks: Iterable[tuple[int, Callable[[], int | None]]], folder: Path, limit_s: float, lanes: int
) -> Iterator[Answer]:
    """Run tasks in forked children; yield their answers. A task returns its exit code.

    Args:
        tasks: with their numbers.
        folder: for their output.
        limit_s: after this time a child gets Ctrl-C, and `GRACE_S` later it is killed.
        lanes: children side by side.
    """
    folder.mkdir(parents=True, exist_ok=True)
    waiting, running = iter(tasks), dict[int, _Child]()
    while True:
        while len(running) < lanes and (following := next(waiting, None)) is not None:
            number, task = following
            running[_fork(task, folder / str(number))] = _Child(number, time.monotonic() + limit_s)
        if not running:
            return
        for pid, child in list(running.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            late = time.monotonic() > child.limit
            if done or (late and child.stopped):
                if not done:
                    _end(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                yield _answer(running.pop(pid), status if done else None, folder / str(child.number))
            elif late:
                _end(pid, signal.SIGINT)
                child.stopped, child.limit = True, time.monotonic() + GRACE_S
        time.sleep(0.002)


def _end(pid: int, number: int) -> None:
    """Send a signal to the process group that a child leads."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _answer(child: _Child, status: int | None, log: Path) -> Answer:
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in (log.with_suffix(".out"), log.with_suffix(".err"))]
    for path in (log.with_suffix(".out"), log.with_suffix(".err")):
        path.unlink()
    return Answer(child.number, None if status is None else os.waitstatus_to_exitcode(status), *texts, child.stopped)


def _fork(task: Callable[[], int | None], log: Path) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code: object = 1
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        null = os.open(os.devnull, os.O_RDONLY)
        out, err = (os.open(log.with_suffix(end), os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for end in (".out", ".err"))
        for old, new in ((null, 0), (out, 1), (err, 2)):
            os.dup2(old, new)
        try:
            code = task() or 0
        except SystemExit as ended:
            code = ended.code or 0
            if not isinstance(code, int):
                print(code, file=sys.stderr)
                code = 1
        except BaseException:
            traceback.print_exc()
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code if isinstance(code, int) else 1)
