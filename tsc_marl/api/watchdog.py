"""The safety net of a pilot: notices faults, hands signals back to their own programs, and takes them again."""

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tsc_marl.bounds import Count, Positive, check
from tsc_marl.sim.fingerprint import listed
from tsc_marl.sim.road_network import RoadNetwork
from tsc_marl.sim.shared_signal import SharedSignal
from tsc_marl.sim.signal_view import SignalView

logger = logging.getLogger(__name__)
Choice = Callable[[], np.ndarray]
"""Returns phases `[N]`, without a call of the simulation."""
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


class Watch:
    """A watchdog in one episode.

    Attributes:
        faults: the signals that their own program drives, or shall drive, with the fault.

    Args:
        settings: of the watchdog.
        net: the signals.
        signals: the same, as they run.
        decision_s: time between two decisions [s].
        now: time of the simulation [s].
    """

    def __init__(
        self, settings: Watchdog, net: RoadNetwork, signals: Sequence[SharedSignal], decision_s: float, now: float
    ) -> None:  # fmt: skip
        self.faults: dict[str, str] = {}
        self._settings, self._signals = settings, signals
        self._late_s = settings.late_s or decision_s
        self._coverage = net.detector_coverage
        self._signal_of_slot = np.repeat(np.arange(len(signals)), [len(signal.lanes) for signal in net.signals])
        self._seen_s = np.full(len(signals), now)
        self._sound: dict[str, int] = defaultdict(int)
        self._thread: _Deciding | None = None

    def silent(self, view: SignalView) -> dict[str, str]:
        """Return the signals whose detectors have shown no vehicle for too long, with a fault each."""
        lanes, now = view.vehicles.lane, view.now_s
        slots = self._coverage.slot[lanes][np.isfinite(self._coverage.offset_m[lanes])]
        self._seen_s[self._signal_of_slot[slots]] = now
        empty_s = (now - self._seen_s).tolist()
        return {
            signal.name: f"no vehicle detected for {seconds:.0f} s"
            for signal, seconds in zip(self._signals, empty_s, strict=True)
            if seconds >= self._settings.silent_s
        }

    def ask(self, choose: Choice) -> tuple[np.ndarray | None, str]:
        """Return the phases `[N]`, or none and the fault. A choice that never ends is left behind, and is late until it ends."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = _Deciding(choose)
            self._thread.start()
            self._thread.join(self._late_s)
            if not self._thread.is_alive():
                return self._thread.phases, self._thread.fault
        return None, f"the policy is late: no phases after {self._late_s:g} s"

    def judge(self, faults: dict[str, str], now: float) -> None:
        """Hand back the signals with a fault; take those again that have had none for long enough."""
        lines: dict[str, list[str]] = defaultdict(list)
        for signal in self._signals:
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


class _Deciding(threading.Thread):
    """One call of a policy. It does not keep the program from ending."""

    def __init__(self, choose: Choice) -> None:
        super().__init__(name=THREAD, daemon=True)
        self._choose = choose
        self.phases: np.ndarray | None = None
        self.fault = ""

    def run(self) -> None:
        try:
            self.phases = self._choose()
        except Exception as error:  # whatever it is, the street goes on
            self.fault = f"the policy failed: {type(error).__name__}: {error}"
