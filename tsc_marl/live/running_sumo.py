"""A pilot as one more client of a SUMO that others started."""

import contextlib
import math
import threading
import time
from typing import Any

from tsc_marl import console
from tsc_marl.api.pilot import Pilot
from tsc_marl.errors import UserError
from tsc_marl.rollout import interrupts
from tsc_marl.sim import engine

ORDER = 1000
"""Place among the clients of SUMO: after those of others, which count from 1."""
PATIENCE_S = 10.0
"""How long SUMO may take to answer, and to make the steps in which the signals go back [s]."""
EMPTY_S = 60.0
"""How long SUMO expects no vehicle before that is the end [s]."""


class _Drive(threading.Thread):
    """Steps SUMO and the pilot. In a thread of its own, so that Ctrl-C breaks off no answer of SUMO.

    Attributes:
        stop: to be set; the signals go back to their own programs, then the thread ends.
        ended: set at its end. An interrupted `join` would take a thread for ended that is not.
        error: what it failed with.
        line: what it does now.
    """

    def __init__(self, pilot: Pilot, api: Any) -> None:
        super().__init__(name="client of SUMO", daemon=True)
        self._pilot, self._api = pilot, api
        self.stop, self.ended = threading.Event(), threading.Event()
        self.error: Exception | None = None
        self.line = "before the first second"
        self._begin_s = self._now = self._empty_since_s = math.nan
        self._decisions, self._taken_s, self._closed = 0, 0.0, False

    def run(self) -> None:
        try:
            with contextlib.closing(self._api):  # SUMO ends when it loses a client that has not said so
                self._drive(self._api)
        except engine.connection_errors():
            self._closed = True
        except Exception as error:  # the main thread raises it
            self.error = error
        finally:
            self.ended.set()

    def _drive(self, api: Any) -> None:
        end_s = api.simulation.getEndTime()
        end_s, leaving = end_s if end_s > 0 else math.inf, False
        while True:
            self._step(api)
            if leaving and not self._pilot.driven:
                return
            if not leaving and (self.stop.is_set() or self._now >= end_s or self._is_empty(api)):
                leaving = True
                self._pilot.release()
            else:
                api.simulationStep()

    def _step(self, api: Any) -> None:
        begun = time.perf_counter()
        choices = self._pilot.step(api)
        self._now = api.simulation.getTime()
        if math.isnan(self._begin_s):
            self._begin_s = self._now
        if choices is not None:
            self._decisions, self._taken_s = self._decisions + 1, time.perf_counter() - begun
            driven, all_signals = len(self._pilot.driven), len(self._pilot.signals)
            self.line = (
                f"second {self._now:.0f}: {api.vehicle.getIDCount()} vehicles; policy {driven} signals, own programs "
                f"{all_signals - driven}; last decision {self._taken_s * 1000:.0f} ms"
            )

    def _is_empty(self, api: Any) -> bool:
        """Whether SUMO has expected no vehicle for long."""
        if api.simulation.getMinExpectedNumber() > 0 or math.isnan(self._empty_since_s):
            self._empty_since_s = self._now
        return self._now - self._empty_since_s >= EMPTY_S

    def summary(self) -> str:
        """Return what was done, in a line."""
        if math.isnan(self._begin_s):
            return "SUMO closed before its first second"
        faults = "; ".join(f"{name}: {fault}" for name, fault in self._pilot.faults.items())
        return (
            f"{'SUMO closed' if self._closed else 'left SUMO'} after second {self._now:.0f}: {self._decisions} decisions in "
            f"{self._now - self._begin_s:.0f} s; faults at the end: {faults or 'none'}"
        )


def drive(pilot: Pilot, host: str, port: int) -> None:
    """Drive the signals of a running SUMO until its end, or until this process is stopped.

    At the end of the simulation, after Ctrl-C and after SIGTERM, the signals go back to their own programs.

    Args:
        pilot: with a watchdog.
        host: where SUMO runs.
        port: its `--remote-port`.

    Raises:
        UserError: when SUMO does not answer within 10 s, or the pilot cannot drive it.
    """
    with console.working(f"waiting for SUMO on {host}:{port} and its other client") as update:
        api = engine.join(host, port, ORDER, PATIENCE_S)
        client = _Drive(pilot, api)
        client.start()
        try:
            while not client.ended.wait(0.2):
                update(client.line)
                interrupts.check()
        except KeyboardInterrupt:
            _leave(client, api)
            raise
    if client.error is not None:
        raise client.error
    console.say(client.summary())


def _leave(client: _Drive, api: Any) -> None:
    client.stop.set()
    if not client.ended.wait(PATIENCE_S):
        engine.hang_up(api)
        client.ended.wait()
        raise UserError("SUMO made no step in which the signals could go back to their own programs") from None
    console.say(client.summary())
