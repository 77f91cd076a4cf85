"""The safety net of a pilot: notices faults, hands signals back to their own programs, and takes them again."""

import logging
import math
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from tsc_marl.bounds import Count, Positive, check
from tsc_marl.sim.fingerprint import listed

logger = logging.getLogger(__name__)
Phases = TypeVar("Phases")
THREAD = "decision of a policy"


@dataclass(frozen=True)
class Watchdog:
    """When signals go back to their own programs, and when the policy drives again."""

    silent_s: Positive = 300.0
    """Without a vehicle on its approaches for so long [s], a signal's detectors count as silent."""
    late_s: Positive | None = None
    """Real time that a decision may take [s]; None for the time between two decisions."""
    recovery: Count = 3
    """Decisions in a row without a fault before the policy drives again."""

    def __post_init__(self) -> None:
        """Refuse values out of bounds."""
        check(self, "watchdog.")


class WatchedSignal(Protocol):
    """A signal that a policy and the signal's own program drive in turn."""

    wanted: bool
    """Whether the policy should drive."""

    @property
    def name(self) -> str:
        """Name of the signal."""
        ...

    @property
    def driven(self) -> bool:
        """Whether the policy drives; it follows `wanted` at the next moment that allows it."""
        ...


class Watch(Generic[Phases]):
    """A watchdog in one episode.

    Attributes:
        faults: the signals that their own program drives, or shall drive, with the fault.

    Args:
        settings: of the watchdog.
        decision_s: time between two decisions [s].
    """

    def __init__(self, settings: Watchdog, decision_s: float) -> None:
        self.faults: dict[str, str] = {}
        self._settings, self._late_s = settings, settings.late_s or decision_s
        self._seen_s: dict[str, float] = {}
        self._sound: dict[str, int] = defaultdict(int)
        self._thread: _Deciding[Phases] | None = None

    def silent(self, detected: Mapping[str, bool], now: float) -> dict[str, str]:
        """Return the signals whose detectors have shown no vehicle for too long, with a fault each.

        Args:
            detected: by signal, whether its detectors show a vehicle now.
            now: time of the simulation, or of the street [s].
        """
        for name, vehicle in detected.items():
            if vehicle or now < self._seen_s.get(name, math.inf):
                self._seen_s[name] = now
        empty_s = {name: now - self._seen_s[name] for name in detected}
        return {
            name: f"no vehicle detected for {seconds:.0f} s"
            for name, seconds in empty_s.items()
            if seconds >= self._settings.silent_s
        }

    def ask(self, choose: Callable[[], Phases]) -> tuple[Phases | None, str]:
        """Return the phases, or none and the fault. A choice that never ends is left behind, and is late until it ends."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = _Deciding(choose)
            self._thread.start()
            self._thread.join(self._late_s)
            if not self._thread.is_alive():
                return self._thread.phases, self._thread.fault
        return None, f"the policy is late: no phases after {self._late_s:g} s"

    def judge(self, signals: Iterable[WatchedSignal], faults: Mapping[str, str], now: float) -> None:
        """Hand back the signals with a fault; take those again that have had none for long enough."""
        lines: dict[str, list[str]] = defaultdict(list)
        for signal in signals:
            name, fault = signal.name, faults.get(signal.name)
            self._sound[name] = 0 if fault else self._sound[name] + 1
            if fault and name not in self.faults:
                self.faults[name], signal.wanted = fault, False
                lines[f"back to the signal's own program: {fault}"].append(name)
            elif name in self.faults and self._sound[name] >= self._settings.recovery:
                signal.wanted = True
                if signal.driven:  # since the first moment that allowed it
                    lines[f"the policy drives again, after: {self.faults.pop(name)}"].append(name)
        for line, names in lines.items():
            logger.warning("second %.0f, signals %s: %s", now, listed(names), line)


class _Deciding(threading.Thread, Generic[Phases]):
    """One call of a policy. It does not keep the program from ending."""

    def __init__(self, choose: Callable[[], Phases]) -> None:
        super().__init__(name=THREAD, daemon=True)
        self._choose = choose
        self.phases: Phases | None = None
        self.fault = ""

    def run(self) -> None:
        try:
            self.phases = self._choose()
        except Exception as error:  # whatever it is, the street goes on
            self.fault = f"the policy failed: {type(error).__name__}: {error}"
