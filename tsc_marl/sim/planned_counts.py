"""Vehicles by signal link, completed by a plan where detectors have failed: the fallback of the classical controllers."""

import numpy as np

from tsc_marl.sim.link_counts import ApproachingVehicles, LinkCounts
from tsc_marl.sim.road_network import VEHICLE_M, edge_of
from tsc_marl.sim.signal_view import SignalView
from tsc_marl.sim.turning_counts import PlanningContext

SATURATION_VEH_H, PERMISSIVE = 1800.0, 0.4
"""Vehicles that a green lets out of a lane, and the share of them under a green that yields."""
LEAST_VEH_H = 1.0
"""Flow of a turn without vehicles, so that it gets green."""


class PlannedCounts(LinkCounts):
    """`LinkCounts` that expects vehicles on lanes whose detectors are known to have failed.

    The queue x of a link is fluid. The hourly flow q of the counting run (`turning_counts`, counted when a detector fails first)
    arrives, and the greens that the signal showed let the saturation flow s out: x <- max(0, x + q dt - s g), with g the seconds
    of green since the last decision. A turn's flow divides equally among its links, a lane's s as the flows of its links. The
    queue counts with the share of the detection distance that has failed. So a blind link is served at its share of a plan.
    """

    def __init__(self, context: PlanningContext) -> None:
        super().__init__(context.network)
        self._context = context
        net = context.network
        self.lane = np.zeros(self.size, dtype=int)
        """[L] number of the link's incoming lane in the network."""
        self._slot, slots = np.zeros(self.size, dtype=int), [lane for signal in net.signals for lane in signal.lanes]
        for first, signal in zip(self.first, net.signals, strict=True):
            for movement in signal.links:
                self.lane[first + movement.link] = net.lane_index[movement.in_lane]
                self._slot[first + movement.link] = slots.index(movement.in_lane)
        self._arriving: np.ndarray | None = None
        self._queue_veh, self._until_s = np.zeros(self.size), 0.0

    def reset(self, view: SignalView) -> None:
        """Start an episode: no vehicle is expected yet."""
        self._queue_veh, self._until_s = np.zeros(self.size), view.now_s

    def approaching(self, view: SignalView) -> ApproachingVehicles:
        """Return the detected vehicles that are bound for our links, and those that are expected, as a queue."""
        bound, expected = super().approaching(view), self.expected(view)
        link = np.repeat(np.arange(self.size), np.ceil(expected).astype(int))
        place = np.arange(len(link)) - np.searchsorted(link, link)
        return ApproachingVehicles(
            np.append(bound.link, link),
            np.append(bound.distance_m, VEHICLE_M * place),
            np.append(bound.halting, np.ones(len(link), dtype=bool)),
            np.append(bound.weight, np.minimum(1.0, expected[link] - place)),
        )

    def expected(self, view: SignalView) -> np.ndarray:
        """Return [L] veh, the vehicles that no detector shows because it has failed; ask once at each decision."""
        if not view.failed.any():
            return np.zeros(self.size)
        if self._arriving is None:
            self._arriving = self._planned_veh_s()
        passed_s, self._until_s = view.now_s - self._until_s, view.now_s
        leaving = [green * SATURATION_VEH_H / 3600 for green in self._green_s(view, passed_s)]
        by_lane = np.maximum(np.bincount(self.lane, self._arriving)[self.lane], LEAST_VEH_H / 3600)
        queue = self._queue_veh + self._arriving * passed_s - np.concatenate(leaving) * self._arriving / by_lane
        self._queue_veh = np.clip(queue, 0.0, self._context.detection_m / VEHICLE_M)
        net = self._context.network
        share = net.detector_coverage.covered_share(view.failed, net.lane_length_m, self._context.detection_m)
        return self._queue_veh * share[self._slot]

    def _green_s(self, view: SignalView, passed_s: float) -> list[np.ndarray]:
        """Return, per signal, the seconds since the last decision in which its links had green; a yielding one counts less."""
        greens = []
        for green, protected, timer in zip(self.green, self.protected, view.timers, strict=True):
            shown_s = min(passed_s, timer.green_s(view.now_s))
            greens.append(shown_s * np.where(protected, 1.0, PERMISSIVE * green)[timer.phase])
        return greens

    def _planned_veh_s(self) -> np.ndarray:
        """Return [L] veh/s, the planned flow of each link; 0 for those that no phase serves, and for crossings."""
        flows, net = self._context.turning_counts().vehicles_per_hour, self._context.network
        arriving = np.zeros(self.size)
        for i, (first, signal) in enumerate(zip(self.first, net.signals, strict=True)):
            served = [m for m in signal.links if self.green[i][:, m.link].any()]
            turns = [(i, edge_of(m.in_lane), edge_of(m.out_lane)) for m in served]
            for turn, movement in zip(turns, served, strict=True):
                arriving[first + movement.link] = max(LEAST_VEH_H, flows.get(turn, 0.0) / turns.count(turn))
        return arriving / 3600
