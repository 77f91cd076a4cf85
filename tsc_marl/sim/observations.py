"""What each signal sees. `lanes` is ours; sumo-rl's vector, and your own, are in sumo_rl_view."""

from collections.abc import Sequence

import numpy as np

from tsc_marl.sim.engine import HALTING_MS, Vehicles
from tsc_marl.sim.roadnet import RoadNet
from tsc_marl.sim.signals import SignalTimer

LANE_FEATURES = ("queue", "approaching", "arriving", "speed", "waiting")
QUEUE_VEH, ARRIVING_VEH, WAITING_S, GREEN_S = 10.0, 5.0, 100.0, 60.0
"""Scales that bring the features near 1."""


class LanesObservation:
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
    A lane that can feed several signal lanes counts in equal shares (`roadnet.Detection`).
    """

    def __init__(self, net: RoadNet, detection_m: float, decision_s: int) -> None:
        self._net, self._detection_m, self._decision_s = net, detection_m, decision_s
        self._lanes = [len(signal.lanes) for signal in net.signals]
        self._slots = sum(self._lanes)
        self._width = max(self._lanes)
        self._phases = max(len(signal.phases) for signal in net.signals)
        self._row = np.concatenate([i * self._width + np.arange(n) for i, n in enumerate(self._lanes)])
        self.size = self._width * len(LANE_FEATURES) + self._phases + 2
        lane = [np.arange(self._width) < n for n in self._lanes]
        phase = [np.arange(self._phases) < len(signal.phases) for signal in net.signals]
        self.real = np.stack(
            [np.concatenate([np.repeat(a, len(LANE_FEATURES)), b, [True, True]]) for a, b in zip(lane, phase, strict=True)]
        )
        """[N, F] bool: the columns that are not padding."""

    def __call__(self, vehicles: Vehicles, timers: Sequence[SignalTimer], now: float) -> np.ndarray:
        """Return [N, F] float32."""
        n = len(timers)
        obs = np.zeros((n, self.size), dtype=np.float32)
        lanes = np.zeros((n * self._width, len(LANE_FEATURES)), dtype=np.float32)
        lanes[self._row] = self._lane_features(vehicles)
        split = self._width * len(LANE_FEATURES)
        obs[:, :split] = lanes.reshape(n, split)
        obs[np.arange(n), [split + timer.phase for timer in timers]] = 1
        obs[:, -2] = np.minimum(1.0, np.array([timer.since_change_s(now) for timer in timers]) / GREEN_S)
        obs[:, -1] = [timer.may_change(now) for timer in timers]
        return obs

    def _lane_features(self, vehicles: Vehicles) -> np.ndarray:
        """Return [all signal lanes, features]."""
        detection, lane = self._net.detection, vehicles.lane
        counts = detection.start[lane + 1] - detection.start[lane]
        vehicle = np.repeat(np.arange(len(lane)), counts)
        first = np.cumsum(counts) - counts
        entry = np.arange(len(vehicle)) - first[vehicle] + detection.start[lane][vehicle]
        distance = detection.offset_m[entry] + (self._net.lane_length_m[lane] - vehicles.pos_m)[vehicle]
        near = distance <= self._detection_m
        vehicle, entry, distance = vehicle[near], entry[near], distance[near]
        slot, weight = detection.slot[entry], detection.weight[entry]
        speed = vehicles.speed_ms[vehicle]
        halting = speed < HALTING_MS
        relative = np.minimum(1.0, speed / self._net.lane_limit_ms[lane][vehicle])
        total = self._sum(slot, weight)
        waiting = np.zeros(self._slots)
        np.maximum.at(waiting, slot, vehicles.waiting_s[vehicle])
        return np.stack(
            [
                self._sum(slot, weight * halting) / QUEUE_VEH,
                self._sum(slot, weight * ~halting) / QUEUE_VEH,
                self._sum(slot, weight * (~halting & (distance < speed * self._decision_s))) / ARRIVING_VEH,
                np.where(total > 0, self._sum(slot, weight * relative) / np.maximum(total, 1e-9), 1.0),
                np.minimum(waiting, 3 * WAITING_S) / WAITING_S,
            ],
            axis=1,
        )

    def _sum(self, slot: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return np.bincount(slot, weights=weight, minlength=self._slots)
