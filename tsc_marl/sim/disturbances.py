"""What goes wrong on the street: surprise demand, a blocked lane, failing detectors, a signal that no longer obeys.

Detectors under test are disturbed, for trained policies and classical controllers alike; rewards and metrics never are.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from tsc_marl import plugins
from tsc_marl.bounds import NaturalNumber, Scale, Share, check
from tsc_marl.errors import UserError, unknown
from tsc_marl.sim import seeds
from tsc_marl.sim.engine import Vehicles
from tsc_marl.sim.road_network import RoadNetwork, edge_of
from tsc_marl.sim.simulation import Simulation

FROZEN_PREFIX = "frozen:"
"""Before the name of a vehicle that only a frozen detector still shows."""


@dataclass(frozen=True)
class Disturbance:
    """One way to disturb an episode; where and when is drawn from the episode's seed. The defaults disturb nothing."""

    demand: Scale = 1.0
    """Vehicles per vehicle expected; controllers that plan ahead have planned for 1."""
    blocked_s: NaturalNumber = 0
    """A vehicle breaks down and blocks its lane for so long, after a third of the window."""
    blind: Share = 0.0
    """Share of the lanes whose detectors show nothing."""
    frozen: Share = 0.0
    """Share of the lanes whose detectors show, from some moment in the first half on, what they showed then."""
    missed: Share = 0.0
    """Probability that a vehicle is not seen at a decision."""
    stuck: NaturalNumber = 0
    """Signals that run their fixed program whatever is asked."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        check(self, "disturbance.")

    @property
    def affects_detectors(self) -> bool:
        """Whether detectors are disturbed."""
        return bool(self.blind or self.frozen or self.missed)


SUITE = {
    "demand-0.7": Disturbance(demand=0.7),
    "demand-1.3": Disturbance(demand=1.3),
    "lane-blocked": Disturbance(blocked_s=600),
    "blind-20%": Disturbance(blind=0.2),
    "frozen-20%": Disturbance(frozen=0.2),
    "missed-20%": Disturbance(missed=0.2),
    "signal-stuck": Disturbance(stuck=1),
}
"""What `make evaluate ARGS=--disturbances` plays."""


def find(name: str) -> Disturbance:
    """Return a disturbance: a name of `SUITE`, or the import path `package.module:NAME` of a `Disturbance`.

    Raises:
        UserError: for a name without a disturbance.
    """
    if ":" not in name and name not in SUITE:
        raise unknown("disturbance", name, SUITE)
    disturbance = SUITE[name] if name in SUITE else plugins.imported(name, "disturbance")
    if not isinstance(disturbance, Disturbance):
        raise UserError(f"disturbance {name}: expected an object of {Disturbance.__module__}.Disturbance; got {disturbance!r}")
    return disturbance


class FaultyDetectors:
    """What the detectors show of the vehicles on the road during one episode.

    Args:
        disturbance: shares of failing lanes.
        net: the lanes.
        seed: of the episode.
        begin_s: start of the window.
        duration_s: its length.
    """

    def __init__(self, disturbance: Disturbance, net: RoadNetwork, seed: int, begin_s: float, duration_s: float) -> None:
        self._disturbance, self._rng = disturbance, seeds.stream(seed, seeds.DETECTOR_FAULTS)
        draw = self._rng.random(len(net.lane_length_m))
        self._blind = draw < disturbance.blind
        self._frozen = ~self._blind & (draw < disturbance.blind + disturbance.frozen)
        self._freezes_s = begin_s + self._rng.uniform(0, duration_s / 2, len(draw))
        self._shown: dict[int, Vehicles] = {}
        self._ahead: dict[str, Any] = {}

    def show(self, vehicles: Vehicles, now: float, api: Simulation) -> Vehicles:
        """Return the vehicles that the detectors show; those on a frozen lane stay as they were, under another name."""
        for lane in np.flatnonzero(self._frozen & (self._freezes_s <= now)).tolist():
            if lane not in self._shown:
                self._shown[lane] = self._freeze(_select(vehicles, vehicles.lane == lane), api)
        off = self._blind.copy()
        off[list(self._shown)] = True
        seen = ~off[vehicles.lane] & (self._rng.random(len(vehicles.ids)) >= self._disturbance.missed)
        return _concat([_select(vehicles, seen), *self._shown.values()])

    def next_signals(self, vehicle: str, api: Simulation) -> Any:
        """Return SUMO's `vehicle.getNextTLS`, as it was for a vehicle on a frozen lane."""
        return self._ahead[vehicle] if vehicle in self._ahead else api.vehicle.getNextTLS(vehicle)

    def _freeze(self, vehicles: Vehicles, api: Simulation) -> Vehicles:
        self._ahead |= {FROZEN_PREFIX + name: api.vehicle.getNextTLS(name) for name in vehicles.ids}
        return replace(vehicles, ids=[FROZEN_PREFIX + name for name in vehicles.ids])


class Breakdown:
    """A vehicle that stops on its lane: on the lane with the most vehicles of those that are long enough to brake.

    Where there are long edges with several lanes, one of those: the others can pass. SUMO's timeLoss does not count the
    stop itself.
    """

    ROOM_M, BEFORE_M = 60.0, 10.0

    def __init__(self, duration_s: int, net: RoadNetwork, from_s: float) -> None:
        self._duration_s, self._from_s = duration_s, from_s
        long = {lane: net.lane_length_m[i] - self.BEFORE_M for lane, i in net.lane_index.items() if not lane.startswith(":")}
        long = {lane: float(stop_m) for lane, stop_m in long.items() if stop_m > self.ROOM_M}
        several = {lane: stop_m for lane, stop_m in long.items() if f"{edge_of(lane)}_1" in net.lane_index}
        self._stops_m = several or long

    def apply(self, now: float, api: Simulation) -> None:
        """Stop a vehicle if it is time and there is one with enough room to brake."""
        if now < self._from_s:
            return
        for lane in sorted(self._stops_m, key=api.lane.getLastStepVehicleNumber, reverse=True):
            for vehicle in api.lane.getLastStepVehicleIDs(lane):
                if api.vehicle.getLanePosition(vehicle) < self._stops_m[lane] - self.ROOM_M and self._passes(vehicle, lane, api):
                    index = int(lane.rpartition("_")[2])
                    api.vehicle.setStop(vehicle, edge_of(lane), self._stops_m[lane], index, self._duration_s)
                    self._from_s = np.inf
                    return

    @staticmethod
    def _passes(vehicle: str, lane: str, api: Simulation) -> bool:
        """Return whether a vehicle goes on to another edge: one that ends here may leave before it stops."""
        return api.vehicle.getRoute(vehicle)[-1] != edge_of(lane)


def _select(vehicles: Vehicles, which: np.ndarray) -> Vehicles:
    columns = {field.name: getattr(vehicles, field.name)[which] for field in fields(Vehicles) if field.name != "ids"}
    return Vehicles([name for name, wanted in zip(vehicles.ids, which.tolist(), strict=True) if wanted], **columns)


def _concat(parts: list[Vehicles]) -> Vehicles:
    columns = {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Vehicles) if f.name != "ids"}
    return Vehicles([name for part in parts for name in part.ids], **columns)
