"""Detectors that fail."""

from dataclasses import fields, replace
from typing import Any

import numpy as np

from tsc_marl.sim import seeds
from tsc_marl.sim.engine import Vehicles
from tsc_marl.sim.road_network import RoadNetwork
from tsc_marl.sim.simulation import Simulation

COLUMNS = tuple(field.name for field in fields(Vehicles) if field.name not in ("ids", "parked"))
"""The arrays of `Vehicles`, in its order."""
FROZEN_PREFIX = "frozen:"
"""Before the name of a vehicle that only a frozen detector still shows."""
LOOPS_M, LOOP_REACH_M = (0.0, 40.0), 5.0
"""Distances of loops from the stop line; a loop shows the vehicles whose front is so near."""


class FaultyDetectors:
    """Shows the vehicles that the detectors see, during one episode.

    Args:
        net: the lanes.
        seed: of the episode.
        begin_s: start of the window [s].
        duration_s: its length [s].
        blind: share of the lanes whose detectors show nothing.
        frozen: share of the lanes whose detectors freeze in the first half.
        missed: probability that a vehicle is not seen at a decision.
        loops: share of the signals with loops at `LOOPS_M` alone: vehicles elsewhere are not seen.
        connected: share of the vehicles that are seen at all.

    Attributes:
        failed: [L] bool, the lanes whose detectors are known to have failed: the blind ones. Nobody knows which ones freeze.
    """

    def __init__(
        self, net: RoadNetwork, seed: int, begin_s: float, duration_s: float,
        blind: float = 0.0, frozen: float = 0.0, missed: float = 0.0, loops: float = 0.0, connected: float = 1.0,
    ) -> None:  # fmt: skip
        self._missed, self._rng = missed, seeds.stream(seed, seeds.DETECTOR_FAULTS)
        draw = self._rng.random(len(net.lane_length_m))
        self.failed = draw < blind
        self._frozen = ~self.failed & (draw < blind + frozen)
        self._freezes_s = begin_s + self._rng.uniform(0, duration_s / 2, len(draw))
        self._shown: dict[int, Vehicles] = {}
        self._ahead: dict[str, Any] = {}
        self._length_m, self._offset_m = net.lane_length_m, net.detector_coverage.offset_m.min(axis=1)
        self._has_loops = (seeds.stream(seed, seeds.LOOPS).random(len(net.signals)) < loops)[net.charged_signal]
        self._share, self._connects = connected, seeds.stream(seed, seeds.CONNECTED)
        self._connected: dict[str, bool] = {}

    def show(self, vehicles: Vehicles, now: float, api: Simulation) -> Vehicles:
        """Return the vehicles that the detectors show; those on a frozen lane stay as they were, under another name.

        Args:
            vehicles: all vehicles on the road.
            now: SUMO's clock [s].
            api: the running simulation.
        """
        vehicles = select(vehicles, self._over_loops(vehicles) & self._are_connected(vehicles))
        for lane in np.flatnonzero(self._frozen & (self._freezes_s <= now)).tolist():
            if lane not in self._shown:
                self._shown[lane] = self._freeze(select(vehicles, vehicles.lane == lane), api)
        off = self.failed.copy()
        off[list(self._shown)] = True
        seen = ~off[vehicles.lane] & (self._rng.random(len(vehicles.ids)) >= self._missed)
        return _concat([select(vehicles, seen), *self._shown.values()])

    def next_signals(self, vehicle: str, api: Simulation) -> Any:
        """Return SUMO's `vehicle.getNextTLS`, as it was for a vehicle on a frozen lane."""
        return self._ahead[vehicle] if vehicle in self._ahead else api.vehicle.getNextTLS(vehicle)

    def _over_loops(self, vehicles: Vehicles) -> np.ndarray:
        """Return [M] bool: the vehicles near a loop, or where other detectors are."""
        away_m = self._offset_m[vehicles.lane] + self._length_m[vehicles.lane] - vehicles.pos_m
        near = np.abs(away_m[:, None] - LOOPS_M).min(axis=1) <= LOOP_REACH_M
        return near | ~self._has_loops[vehicles.lane]

    def _are_connected(self, vehicles: Vehicles) -> np.ndarray:
        """Return [M] bool; drawn when a vehicle is seen first."""
        for name in vehicles.ids:
            if name not in self._connected:
                self._connected[name] = self._connects.random() < self._share
        return np.array([self._connected[name] for name in vehicles.ids], dtype=bool)

    def _freeze(self, vehicles: Vehicles, api: Simulation) -> Vehicles:
        self._ahead |= {FROZEN_PREFIX + name: api.vehicle.getNextTLS(name) for name in vehicles.ids}
        return replace(vehicles, ids=[FROZEN_PREFIX + name for name in vehicles.ids])


def select(vehicles: Vehicles, which: np.ndarray) -> Vehicles:
    """Return some of the vehicles.

    Args:
        vehicles: M vehicles.
        which: [M] bool.
    """
    columns = (getattr(vehicles, name)[which] for name in COLUMNS)
    return Vehicles([name for name, wanted in zip(vehicles.ids, which.tolist(), strict=True) if wanted], *columns)


def _concat(parts: list[Vehicles]) -> Vehicles:
    columns = (np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS)
    return Vehicles([name for part in parts for name in part.ids], *columns)
