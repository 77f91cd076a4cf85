"""Waiting for the tracking store: it is said what for, and there is an end."""

import contextlib
import logging
import os
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from threading import Thread
from typing import TypeVar

from tsc_marl.errors import UserError

logger = logging.getLogger(__name__)

NOTICE_S = 5.0
"""Time [s] of silence, after which a line says what is waited for."""
GIVE_UP_S = 30.0
"""Longest time [s] that a command waits for one answer of the store."""

Result = TypeVar("Result")


def answer(action: Callable[[], Result], store: str, ends: bool) -> Result:
    """Return the result of an action on the store.

    Args:
        action: the action; it goes on in a thread of its own when nobody waits for it any more.
        store: name of the store.
        ends: whether to give up after `GIVE_UP_S`. A server may hang; SQLite ends its calls itself.

    Raises:
        UserError: when it gives up.
        Exception: that of the action.
    """
    outcome: Future[Result] = Future()

    def work() -> None:
        try:
            outcome.set_result(action())
        except BaseException as error:
            outcome.set_exception(error)

    Thread(target=work, daemon=True).start()
    if not wait([outcome], NOTICE_S).done:
        logger.warning(f"waiting for tracking store {store}{f', {GIVE_UP_S:.0f} s at most' if ends else ''}")
    if not wait([outcome], GIVE_UP_S - NOTICE_S if ends else None).done:
        todo = "start the server, or unset MLFLOW_TRACKING_URI"
        raise UserError(f"tracking store {store} has not answered for {GIVE_UP_S:.0f} s; {todo}")
    return outcome.result()


def users(path: Path) -> str:
    """Return the other processes of this machine that have a file or its journal open, as text."""
    wanted = {str(path.resolve()) + end for end in ("", "-journal", "-wal", "-shm")}
    lines = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended, or is another user's
            opened = {os.readlink(file) for file in (folder / "fd").iterdir()}
            if int(folder.name) != os.getpid() and opened & wanted:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                lines.append(f"process {folder.name} ({command[:60]})")
    return ", ".join(lines) or "no process that can be seen here"
