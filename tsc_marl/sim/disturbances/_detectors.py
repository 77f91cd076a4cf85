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
    """

    def __init__(
        self, net: RoadNetwork, seed: int, begin_s: float, duration_s: float,
        blind: float = 0.0, frozen: float = 0.0, missed: float = 0.0,
    ) -> None:  # fmt: skip
        self._missed, self._rng = missed, seeds.stream(seed, seeds.DETECTOR_FAULTS)
        draw = self._rng.random(len(net.lane_length_m))
        self._blind = draw < blind
        self._frozen = ~self._blind & (draw < blind + frozen)
        self._freezes_s = begin_s + self._rng.uniform(0, duration_s / 2, len(draw))
        self._shown: dict[int, Vehicles] = {}
        self._ahead: dict[str, Any] = {}

    def show(self, vehicles: Vehicles, now: float, api: Simulation) -> Vehicles:
        """Return the vehicles that the detectors show; those on a frozen lane stay as they were, under another name.

        Args:
            vehicles: all vehicles on the road.
            now: SUMO's clock [s].
            api: the running simulation.
        """
        for lane in np.flatnonzero(self._frozen & (self._freezes_s <= now)).tolist():
            if lane not in self._shown:
                self._shown[lane] = self._freeze(select(vehicles, vehicles.lane == lane), api)
        off = self._blind.copy()
        off[list(self._shown)] = True
        seen = ~off[vehicles.lane] & (self._rng.random(len(vehicles.ids)) >= self._missed)
        return _concat([select(vehicles, seen), *self._shown.values()])

    def next_signals(self, vehicle: str, api: Simulation) -> Any:
        """Return SUMO's `vehicle.getNextTLS`, as it was for a vehicle on a frozen lane."""
        return self._ahead[vehicle] if vehicle in self._ahead else api.vehicle.getNextTLS(vehicle)

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
