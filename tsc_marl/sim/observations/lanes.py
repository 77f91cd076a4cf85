"""The observation `lanes`: queues and arrivals of each lane, and the phase."""

import numpy as np

from tsc_marl.sim.engine import HALTING_MS, Vehicles
from tsc_marl.sim.observations.base import Observation
from tsc_marl.sim.signal_view import SignalContext, SignalView

LANE_FEATURES = ("queue", "approaching", "arriving", "speed", "waiting")
QUEUE_VEH, ARRIVING_VEH, WAITING_S, GREEN_S = 10.0, 5.0, 100.0, 60.0
"""Scales that bring the features near 1."""


class LanesObservation(Observation):
    """Per incoming lane, within the detection distance of the stop line, as loops or cameras could count it.

    | feature | meaning | unit |
    |---|---|---|
    | queue | halting vehicles | 10 veh |
    | approaching | moving vehicles | 10 veh |
    | arriving | moving vehicles that reach the stop line before the next decision at their present speed | 5 veh |
    | speed | mean speed over the limit, 1 when the lane is empty | - |
    | waiting | longest time since a vehicle last moved | 100 s |

    then the present phase as one-hot, the time since its start was decided [60 s], and whether it may change now.
    Lanes and phases are padded with zeros to the largest signal, so that a column means the same everywhere.
    A lane that can feed several signal lanes counts in equal shares (`DetectorCoverage`).
    """

    low = 0.0

    def __init__(self, context: SignalContext) -> None:
        super().__init__(context)
        net, self._detection_m, self._decision_s = context.network, context.detection_m, context.timing.decision_s
        self._lanes = [len(signal.lanes) for signal in net.signals]
        self._slots = sum(self._lanes)
        self._width = max(self._lanes)
        self._phases = max(len(signal.phases) for signal in net.signals)
        self.size = self._width * len(LANE_FEATURES) + self._phases + 2
        lane = [np.arange(self._width) < n for n in self._lanes]
        phase = [np.arange(self._phases) < len(signal.phases) for signal in net.signals]
        self.real = np.stack(
            [np.concatenate([np.repeat(a, len(LANE_FEATURES)), b, [True, True]]) for a, b in zip(lane, phase, strict=True)]
        )
        """[N, F] bool: the columns that are not padding."""
        first = [i * self.size + len(LANE_FEATURES) * np.arange(n) for i, n in enumerate(self._lanes)]
        self._place = np.arange(len(LANE_FEATURES))[:, None] + np.concatenate(first)
        """[features, all signal lanes] where each goes in the flat observation."""

    def __call__(self, view: SignalView) -> np.ndarray:
        """Return [N, F] float32."""
        obs = np.zeros((len(view.timers), self.size), dtype=np.float32)
        obs.ravel()[self._place] = self._lane_features(view.vehicles)
        split = self._width * len(LANE_FEATURES)
        for row, timer in zip(obs, view.timers, strict=True):
            row[split + timer.phase] = 1
        obs[:, -2:] = [
            (min(1.0, timer.since_change_s(view.now_s) / GREEN_S), timer.may_change(view.now_s)) for timer in view.timers
        ]
        return obs

    def _lane_features(self, vehicles: Vehicles) -> np.ndarray:
        """Return [features, all signal lanes]."""
        detection, length_m = self.network.detector_coverage, self.network.lane_length_m
        to_end_m = length_m[vehicles.lane] - vehicles.pos_m
        vehicle, column = np.nonzero(detection.offset_m[vehicles.lane] <= (self._detection_m - to_end_m)[:, None])
        lane = vehicles.lane[vehicle]
        slot, speed = detection.slot[lane, column], vehicles.speed_ms[vehicle]
        halting = speed < HALTING_MS
        arriving = detection.offset_m[lane, column] + to_end_m[vehicle] < speed * self._decision_s
        seen = np.array([halting, ~halting, ~halting & arriving, np.minimum(1.0, speed / self.network.lane_limit_ms[lane])])
        seen *= detection.weight[lane, column]
        index = (slot + self._slots * np.arange(len(seen))[:, None]).ravel()
        queue, moving, arriving, relative = np.bincount(index, seen.ravel(), len(seen) * self._slots).reshape(-1, self._slots)
        waiting = np.zeros(self._slots)
        np.maximum.at(waiting, slot, vehicles.waiting_s[vehicle])
        total = queue + moving
        speed = np.divide(relative, total, out=np.ones(self._slots), where=total > 0)
        waiting = np.minimum(waiting, 3 * WAITING_S) / WAITING_S
        return np.array([queue / QUEUE_VEH, moving / QUEUE_VEH, arriving / ARRIVING_VEH, speed, waiting])
