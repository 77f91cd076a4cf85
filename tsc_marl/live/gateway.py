"""The gateway to a street: readings in, requests of phases out, and signals handed back after a fault."""

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsc_marl.api.watchdog import Watch, Watchdog
from tsc_marl.errors import UserError
from tsc_marl.live.readings import Readings

if TYPE_CHECKING:  # it needs onnxruntime
    from tsc_marl.deployment.controller import StreetController, StreetSignal

MISSED = 2
"""Times between two decisions that may pass without readings."""
EARLY_S = 0.5
"""Readings that come so much before a decision is due are those of the decision [s]."""
EVERY_S = 60.0
"""Time between two lines about the signals, where the output is no terminal [s]."""
NO_PHASE = "its own program shows none of the phases now"


class RemoteSignal:
    """A signal on the street, as its readings show it.

    Attributes:
        name: of the signal.
        wanted: whether the policy should drive it.
        driven: whether it does: the street shows what the gateway asked for.
        heard_s: time of the last readings [s].
        clock_s: when they came [s], on the clock of this machine.
        decided_s: time of the readings of the last decision [s].

    Args:
        name: of the signal.
        now: time of its first readings [s].
    """

    def __init__(self, name: str, now: float) -> None:
        self.name, self.wanted, self.driven = name, True, True
        self.heard_s, self.clock_s, self.decided_s = now, time.monotonic(), float("-inf")

    def hear(self, street: "StreetSignal", state: str, now: float) -> None:
        """Compare what the signal shows with what it was asked for; follow it where its own program drives."""
        asked = {street.light(now - 1), street.light(now)}  # a state that is due in this second may show a little later
        if not (self.driven and self.wanted and state in asked):
            self.driven = street.follow(state, now) and self.wanted

    def gap_s(self, now: float) -> float:
        """Return the time without readings until those that come now [s]; the longer one of both clocks."""
        return max(now - self.heard_s, time.monotonic() - self.clock_s)


class Gateway:
    """A policy, the signals of a street that it drives, and a watchdog.

    Readings may come for all signals in one message, or from each controller for its own. Calls may come from many threads.

    Args:
        controller: of a folder that `deploy` wrote.
        settings: of the watchdog.
    """

    def __init__(self, controller: "StreetController", settings: Watchdog) -> None:
        self.recipe = controller.recipe
        self.decision_s = float(controller.timing["decision_s"])
        self._controller = controller
        self._signals: dict[str, RemoteSignal] = {}
        self._watch: Watch[dict[str, int]] = Watch(settings, self.decision_s)
        self._lock = threading.Lock()
        self._decisions, self._taken_s, self._last = 0, 0.0, dict[str, int]()

    def take(self, readings: Readings) -> dict[str, Any]:
        """Decide where a decision is due; return `requests`, `lights` and `fallback`, by signal, and `next_s`.

        Args:
            readings: of some signals. Of an earlier time than the last, they start these signals anew.
        """
        with self._lock:
            now = readings.time_s
            gaps = {name: self._hear(name, state, now) for name, state in readings.shown.items()}
            due = [name for name in gaps if now - self._signals[name].decided_s >= self.decision_s - EARLY_S]
            if due:
                self._decide(readings, due, gaps)
            return self._answer(now, list(gaps))

    def _hear(self, name: str, state: str, now: float) -> float:
        """Take in what a signal shows; return the time without its readings before [s]."""
        signal = self._signals.get(name)
        if signal is None or now < signal.heard_s:
            signal = self._signals[name] = RemoteSignal(name, now)
            self._controller.restart(name, now)
            self._watch.faults.pop(name, None)
        gap_s = signal.gap_s(now)
        signal.heard_s, signal.clock_s = now, time.monotonic()
        signal.hear(self._controller.signals[name], state, now)
        return gap_s

    def _decide(self, readings: Readings, due: list[str], gaps: dict[str, float]) -> None:
        now, begun = readings.time_s, time.perf_counter()
        given = readings.model_dump(include={"lanes", "links", "receiving", "priority"}, exclude_none=True)
        chosen, fault = self._watch.ask(lambda: self._controller.choose(now, given, None, tuple(due)))
        faults = self._watch.silent({name: self._sees(name, readings) for name in due}, now)
        faults |= {name: f"no readings for {gaps[name]:.0f} s" for name in due if gaps[name] > MISSED * self.decision_s}
        signals = [self._signals[name] for name in due]
        self._watch.judge(signals, dict.fromkeys(due, fault) if fault else faults, now)
        for signal in signals:
            signal.decided_s = now
            signal.driven &= signal.wanted
            if signal.driven and chosen:
                self._controller.signals[signal.name].request(chosen[signal.name], now)
        self._decisions, self._taken_s, self._last = self._decisions + 1, time.perf_counter() - begun, chosen or {}

    def _sees(self, name: str, readings: Readings) -> bool:
        """Whether the detectors of a signal show a vehicle; those that failed show none."""
        own = (readings.lanes[lane] for lane in self.recipe["signals"][name]["lanes"] if lane in readings.lanes)
        return any(lane.halting + lane.moving > 0 for lane in own if lane.failed < 1)

    def _answer(self, now: float, names: list[str]) -> dict[str, Any]:
        driven = {name: self._controller.signals[name] for name in names if self._signals[name].driven}
        return {
            "time_s": now,
            "requests": {name: street.phase for name, street in driven.items()},
            "lights": {name: [[now, street.light(now)], *street.stages] for name, street in driven.items()},
            "fallback": {name: self._watch.faults.get(name, NO_PHASE) for name in names if name not in driven},
            "next_s": min(self._signals[name].decided_s for name in names) + self.decision_s,
        }

    def state(self) -> dict[str, Any]:
        """Return what a person or a monitor wants to know: signals, who drives them, faults, the last decision.

        A signal is in fallback also while its readings stay away. It waits before the first ones.
        """
        signals = dict(self._signals)
        faults = dict(self._watch.faults)
        for name, signal in signals.items():
            if (silent_s := time.monotonic() - signal.clock_s) > MISSED * self.decision_s:
                faults[name] = f"no readings for {silent_s:.0f} s"
        rows = {name: self._row(signals.get(name), faults.get(name)) for name in self.recipe["signals"]}
        kinds = [row["by"] for row in rows.values()]
        return {
            "network": self.recipe["network"],
            "status": next((kind for kind in ("fallback", "own program", "waiting") if kind in kinds), "policy"),
            "signals": rows,
            "decisions": self._decisions,
            "last_decision": {"requests": self._last, "milliseconds": round(self._taken_s * 1000, 2)},
            "decision_s": self.decision_s,
        }

    def _row(self, signal: RemoteSignal | None, fault: str | None) -> dict[str, Any]:
        if signal is None:
            return {"by": "waiting"}
        by = "fallback" if fault else "policy" if signal.driven else "own program"
        phase = self._controller.signals[signal.name].phase
        return {"by": by, "phase": phase, "time_s": signal.heard_s} | ({"fault": fault} if fault else {})


def summary(gateway: Gateway) -> str:
    """Return who drives the signals, in a line."""
    state = gateway.state()
    drivers = [row["by"] for row in state["signals"].values()]
    counts = ", ".join(f"{drivers.count(kind)} {kind}" for kind in dict.fromkeys(drivers))
    return f"{counts}; {state['decisions']} decisions, the last in {state['last_decision']['milliseconds']} ms"


def open_folder(folder: Path, settings: Watchdog) -> Gateway:
    """Return the gateway of a folder that `deploy` wrote.

    Raises:
        UserError: when there is none, it cannot be read, or onnxruntime is missing.
    """
    try:
        from tsc_marl.deployment.controller import StreetController

        return Gateway(StreetController(folder, 0), settings)
    except ImportError as error:
        raise UserError(f"a gateway needs onnxruntime ({error}); pip install 'tsc_marl[deploy]'") from None
    except Exception as error:  # onnxruntime has kinds of its own for a damaged file
        why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"folder {folder} cannot be read ({why}); write another: make deploy NET=<network>") from None
