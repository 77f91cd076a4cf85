"""Vehicles by the signal link that they are bound for, which is what the classical controllers count."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from tsc_marl.sim.engine import HALTING_MS
from tsc_marl.sim.receiving_lanes import ReceivingLanes
from tsc_marl.sim.road_network import RoadNetwork
from tsc_marl.sim.signal_timing import GREEN
from tsc_marl.sim.signal_view import SignalView


@dataclass(frozen=True)
class ApproachingVehicles:
    """The vehicles whose next signal is one of ours, K of them."""

    link: np.ndarray
    """[K] the link that they will pass, in the flat numbering of `LinkCounts`."""
    distance_m: np.ndarray
    """[K] to its stop line."""
    halting: np.ndarray
    """[K] bool."""
    weight: np.ndarray
    """[K] 1 for a detected vehicle; for one that is only expected, less (`PlannedCounts`)."""


class LinkCounts:
    """The links of all signals, numbered signal after signal: L of them.

    Attributes:
        size: L.
        first: per signal, the number of its first link.
        green: per signal [P, L_i] bool, whether a phase gives a link green.
        protected: likewise, whether that green yields to nobody (SUMO's `G`, not `g`).
        following: [L, L] share of the vehicles of a link that are then bound for another: 1 / k where k links leave the
            signal lanes that are reached next; a sparse matrix.
    """

    def __init__(self, net: RoadNetwork) -> None:
        counts = [len(signal.phases[0]) for signal in net.signals]
        self.size = sum(counts)
        self.first = [sum(counts[:i]) for i in range(len(counts))]
        self.green = [np.array([[c in GREEN for c in state] for state in s.phases]) for s in net.signals]
        self.protected = [np.array([[c == "G" for c in state] for state in s.phases]) for s in net.signals]
        self._first = {signal.name: first for signal, first in zip(net.signals, self.first, strict=True)}
        leaving: dict[str, list[int]] = {}
        ways = [(first + m.link, m) for first, signal in zip(self.first, net.signals, strict=True) for m in signal.links]
        for link, movement in ways:
            leaving.setdefault(movement.in_lane, []).append(link)
        shares: dict[tuple[int, int], float] = {}  # a link of several movements has one entry for each link ahead
        for link, movement in ways:
            onward = [other for lane in movement.next_lanes for other in leaving[lane]]
            shares |= {(link, other): 1 / len(onward) for other in onward}
        places = np.array(list(shares), dtype=int).reshape(-1, 2).T
        self.following = sparse.csr_array((list(shares.values()), tuple(places)), shape=(self.size, self.size))
        self._links, self._receiving = np.array([link for link, _ in ways]), ReceivingLanes(net, [m for _, m in ways])

    def for_signal(self, flat: np.ndarray, i: int) -> np.ndarray:
        """Return signal i's part of a vector over all links."""
        return flat[self.first[i] : self.first[i] + self.green[i].shape[1]]

    def of_phases(self, flat: np.ndarray) -> list[np.ndarray]:
        """Return per signal [P], the sums of a vector over all links over those that each phase serves."""
        return [green @ self.for_signal(flat, i) for i, green in enumerate(self.green)]

    def approaching(self, view: SignalView) -> ApproachingVehicles:
        """Return the detected vehicles that are bound for our links."""
        rows = []
        for vehicle, speed_ms in zip(view.vehicles.ids, view.vehicles.speed_ms.tolist(), strict=True):
            ahead = view.next_signals(vehicle)
            if ahead and ahead[0][0] in self._first:
                signal, link, distance_m, _ = ahead[0]
                rows.append((self._first[signal] + link, distance_m, speed_ms < HALTING_MS))
        link, distance_m, halting = np.array(rows).reshape(-1, 3).T
        return ApproachingVehicles(link.astype(int), distance_m, halting.astype(bool), np.ones(len(link)))

    def filled(self, lane: np.ndarray) -> np.ndarray:
        """Return [L], the share of each link's receiving lanes that vehicles fill, at most 1, by the lane of each vehicle."""
        filled = np.zeros(self.size)
        filled[self._links] = np.minimum(1, self._receiving.count(lane) / self._receiving.capacity_veh)
        return filled

    def count(self, bound: ApproachingVehicles, which: np.ndarray) -> np.ndarray:
        """Return [L] veh: the vehicles `which` [K] bool picks, by their link."""
        return np.bincount(bound.link[which], bound.weight[which], minlength=self.size)
