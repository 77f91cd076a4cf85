"""Ctrl-C and SIGTERM: they stop a command in order, also where other code swallows the exception.

Imports, `__del__` and callbacks of C code may swallow a KeyboardInterrupt. So a stop is remembered too, and loops call `check`.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

STOPS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and how schedulers stop a job."""
AGAIN = b"stopping already: checkpoints are saved and processes ended; Ctrl-\\ ends at once without that\n"
_arrived: list[int] = []
"""The signal that stops this process, if any."""


class StopSignal(KeyboardInterrupt):
    """Ctrl-C or SIGTERM has arrived.

    A class of its own: CPython would end with signal SIGINT, not with our exit code, after a plain KeyboardInterrupt in an
    `exec`, and imports have many (dataclasses, named tuples).
    """


def install() -> None:
    """Let Ctrl-C and SIGTERM stop this process; called before the imports that take seconds."""
    for number in STOPS:
        signal.signal(number, _stop)


def ignore() -> None:
    """Let nothing stop this process any more: it has done its work and ends."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)


def is_stopping() -> bool:
    """Return whether Ctrl-C or SIGTERM has arrived since `install`."""
    return bool(_arrived)


def check() -> None:
    """Stop here when a stop has arrived.

    Raises:
        StopSignal: after Ctrl-C or SIGTERM.
    """
    if _arrived:
        raise StopSignal


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Hold a stop back to the end of the block. Threads other than the main one get no signals, so nothing is held there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[tuple[int, FrameType | None]] = []
    handlers: dict[int, Any] = {number: signal.getsignal(number) for number in STOPS}
    own = [number for number, handler in handlers.items() if callable(handler)]
    try:
        for number in own:
            signal.signal(number, lambda *stop: received.append(stop))
        yield
    finally:
        for number in own:
            signal.signal(number, handlers[number])
        if received:
            handlers[received[0][0]](*received[0])


@contextlib.contextmanager
def kept_from_children() -> Iterator[None]:
    """Start processes that never get Ctrl-C, from their first instruction on; this process gets a stop after the start.

    Children inherit the mask of signals. A second thread of this process has another one, hence the handler too.
    """
    with deferred():
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _stop(number: int, _frame: FrameType | None) -> None:
    """Raise at the first stop; later ones must not break off what the first one has saved."""
    if not _arrived:
        _arrived.append(number)
        raise StopSignal
    if number == signal.SIGINT:
        os.write(2, AGAIN)
