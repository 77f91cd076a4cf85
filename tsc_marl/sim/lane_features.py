"""What detectors on the incoming lanes of signals show."""

import numpy as np

from tsc_marl.sim.engine import HALTING_MS, Vehicles
from tsc_marl.sim.signal_view import SignalContext, SignalView

LANE_FEATURES = ("queue", "approaching", "arriving", "speed", "waiting")
QUEUE_VEH, ARRIVING_VEH, WAITING_S = 10.0, 5.0, 100.0
"""Scales that bring the features near 1."""
GREEN_S = 60.0
"""Scale of the time in a phase."""


def time_in_phase(view: SignalView) -> np.ndarray:
    """Return [N, 2]: the time since a signal's last change was decided [60 s], at most 1, and whether it may change now."""
    since_s = view.now_s - np.array([timer.changed_s for timer in view.timers])
    may_change = [timer.may_change(view.now_s) for timer in view.timers]
    return np.column_stack([np.minimum(1.0, since_s / GREEN_S), may_change])


class LaneFeatures:
    """Features of the incoming lanes of all signals, signal after signal: `LANE_FEATURES`.

    A lane that can feed several signal lanes counts in equal shares (`DetectorCoverage`).
    """

    def __init__(self, context: SignalContext) -> None:
        self._network, self._detection_m = context.network, context.detection_m
        self._decision_s = context.timing.decision_s
        self.lanes = [len(signal.lanes) for signal in context.network.signals]
        self._slots = sum(self.lanes)

    def failed(self, lanes: np.ndarray) -> np.ndarray:
        """Return, per signal lane, the share of its detection distance on failed lanes; `lanes` is [L] bool."""
        return self._network.detector_coverage.covered_share(lanes, self._network.lane_length_m, self._detection_m)

    def __call__(self, vehicles: Vehicles) -> np.ndarray:
        """Return [features, all signal lanes]."""
        detection, length_m = self._network.detector_coverage, self._network.lane_length_m
        to_end_m = length_m[vehicles.lane] - vehicles.pos_m
        vehicle, column = np.nonzero(detection.offset_m[vehicles.lane] <= (self._detection_m - to_end_m)[:, None])
        lane = vehicles.lane[vehicle]
        slot, speed = detection.slot[lane, column], vehicles.speed_ms[vehicle]
        halting = speed < HALTING_MS
        arriving = detection.offset_m[lane, column] + to_end_m[vehicle] < speed * self._decision_s
        seen = np.array([halting, ~halting, ~halting & arriving, np.minimum(1.0, speed / self._network.lane_limit_ms[lane])])
        seen *= detection.weight[lane, column]
        index = (slot + self._slots * np.arange(len(seen))[:, None]).ravel()
        queue, moving, arriving, relative = np.bincount(index, seen.ravel(), len(seen) * self._slots).reshape(-1, self._slots)
        waiting = np.zeros(self._slots)
        np.maximum.at(waiting, slot, vehicles.waiting_s[vehicle])
        total = queue + moving
        speed = np.divide(relative, total, out=np.ones(self._slots), where=total > 0)
        waiting = np.minimum(waiting, 3 * WAITING_S) / WAITING_S
        return np.array([queue / QUEUE_VEH, moving / QUEUE_VEH, arriving / ARRIVING_VEH, speed, waiting])
