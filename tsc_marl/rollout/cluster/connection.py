"""The way into a Ray cluster: its address, whether it answers, and the errors in one line."""

import contextlib
import logging
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tsc_marl.errors import UserError
from tsc_marl.rollout import interrupts

ANSWER_S = 10
"""Time that a cluster has to answer [s]."""
FORMS = re.compile(r"auto|(ray://)?(?P<place>[\w.-]+:\d+)")
STORE_BYTES = 500_000_000
"""Shared memory of a cluster that is started for measurements [bytes]."""
CURRENT = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
"""Address of the cluster that was started last on this machine, as Ray documents it."""


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """Connect to a cluster, unless the program has done so itself.

    Args:
        address: `auto`, `host:port` or `ray://host:port`.

    Raises:
        UserError: when Ray is not installed, the address is none, or nothing answers there.
    """
    with _installed(address):
        import grpc  # noqa: F401
        import ray

    if ray.is_initialized():
        yield
        return
    server = _resolved(address)
    _check_answers(server)
    try:
        with _own_signals():
            _silence()
            ray.init(server, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        todo = "if ray start says that it uses a token, set RAY_AUTH_MODE=token here too"
        raise UserError(f"cluster {server}: {' '.join(str(error).split())}; {todo}") from None
    try:
        yield
    finally:
        with _own_signals():
            ray.shutdown()


@contextlib.contextmanager
def on_this_machine(slots: int) -> Iterator[str]:
    """Start Ray on this machine with so many slots, however many cores there are, and yield its address: for measurements."""
    with _installed("on this machine"), _own_signals():
        import ray

        _silence()
        ray.init(
            "local",
            num_cpus=slots,
            object_store_memory=STORE_BYTES,
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False,
        )
    try:
        yield "auto"
    finally:
        with _own_signals():
            ray.shutdown()


def _silence() -> None:
    """Keep the logs of lost nodes, dozens of lines each, off the terminal; Ray's debugger does it in this way, no option does."""
    from ray._private import worker

    worker._worker_logs_enabled = False


@contextlib.contextmanager
def _installed(where: str) -> Iterator[None]:
    """Turn the absence of Ray into one line."""
    try:
        yield
    except ImportError as error:
        raise UserError(f"cluster {where} needs Ray ({error}); install it: pip install 'tsc_marl[cluster]'") from None


def _resolved(address: str) -> str:
    """Return the address with host and port."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or (CURRENT.read_text(encoding="utf-8").strip() if CURRENT.is_file() else "")
        if not address:
            raise UserError("cluster auto: no Ray runs on this machine; start it (ray start --head), or give host:port")
    if not FORMS.fullmatch(address) or address == "auto":
        raise UserError(f"cluster must be auto, host:port or ray://host:port; got {address}")
    return address


def _check_answers(address: str) -> None:
    """Refuse an address at which no server of Ray answers: Ray itself would wait for minutes, and end the process."""
    import grpc

    place = FORMS.fullmatch(address)
    assert place is not None
    with grpc.insecure_channel(place["place"]) as channel:
        try:
            grpc.channel_ready_future(channel).result(ANSWER_S)
        except grpc.FutureTimeoutError:
            todo = "check the address, and that Ray runs there (ray status)"
            raise UserError(f"cluster {address} does not answer within {ANSWER_S:g} s; {todo}") from None


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep our handlers of Ctrl-C and SIGTERM: Ray has its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers: dict[int, Any] = {number: signal.getsignal(number) for number in interrupts.STOPS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
