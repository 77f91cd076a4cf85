"""Who blocks whom: what keeps each standing vehicle from going on, on the road and inside junctions."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from tsc_marl.sim import network_file
from tsc_marl.sim.detector_coverage import interior
from tsc_marl.sim.engine import HALTING_MS, Vehicles
from tsc_marl.sim.signal_timing import CHANGE

REACH_M = 25.0
"""How far ahead on its road a vehicle looks for one that stands in its way, and for a signal."""
ROOM_M = 10.0
"""Room that a vehicle needs behind a junction before it drives in."""
APART_M = 2.5
"""Half the width of a vehicle and half that of a lane: a vehicle closer to the way ahead stands in it."""
STEP_M = 0.5
BESIDE_M = 5.0
"""Room before and behind a vehicle that it needs on the next lane to change there."""
STOPPED, RED, YIELDS, CHANGES = "stop of its own", "red", "gives way", "changes lane"


@dataclass(frozen=True)
class Hold:
    """What keeps a vehicle standing."""

    blockers: tuple[str, ...]
    """Vehicles that stand in its way."""
    reason: str
    """What else does: a stop of its own, red, others that go first, or a way that goes on from another lane."""
    signal: str = ""
    """The signal right in front of it, if any, and the link that it takes there."""
    link: int = -1


@dataclass(frozen=True)
class StandingVehicle:
    """A vehicle that stands, and why."""

    name: str
    lane: str
    junction: str
    """The junction inside which it stands; empty on a road."""
    pos_m: float
    waiting_s: float
    """How long it has stood."""
    body: np.ndarray
    """[P, 2] points from its rear to its front [m]."""
    hold: Hold


@dataclass(frozen=True)
class _Way:
    """A lane inside a junction."""

    junction: str
    link: int
    """Index of its link in the junction."""
    in_lane: str
    onward: str
    """The lane behind it, inside the junction or out of it."""


class JunctionWays:
    """The ways through all junctions of a network.

    Attributes:
        shapes: [K, 2] points of each lane [m].
    """

    def __init__(self, path: Path) -> None:
        self._net, _ = network_file.read(path)
        edges = self._net.getEdges(withInternal=True)
        self.shapes = {lane.getID(): np.array(lane.getShape())[:, :2] for edge in edges for lane in edge.getLanes()}
        self._ways: dict[str, _Way] = {}
        for edge in self._net.getEdges(withInternal=False):
            for connection in (c for some in edge.getOutgoing().values() for c in some):
                lanes = [lane.getID() for lane in interior(self._net, connection)]
                in_lane, out_lane = connection.getFromLane().getID(), connection.getToLane().getID()
                for lane, onward in zip(lanes, [*lanes[1:], out_lane], strict=True):
                    self._ways[lane] = _Way(edge.getToNode().getID(), connection.getJunctionIndex(), in_lane, onward)

    def junction(self, lane: str) -> str:
        """Return the junction that a lane is inside of; empty for a road."""
        return self._ways[lane].junction if lane in self._ways else ""

    def ahead(self, lane: str, next_lane: str) -> list[str]:
        """Return the lanes from a lane to the first one behind the junction; on a road, `next_lane` comes first."""
        lanes = [lane]
        onward = self._ways[lane].onward if lane in self._ways else next_lane
        while onward and onward not in lanes:
            lanes.append(onward)
            onward = self._ways[onward].onward if onward in self._ways else ""
        return lanes

    def meet(self, lane: str, other: str) -> bool:
        """Return whether two lanes inside a junction cross, join, or come from the same lane."""
        one, two = self._ways.get(lane), self._ways.get(other)
        if one is None or two is None or one.junction != two.junction:
            return False
        return one.in_lane == two.in_lane or self._net.getNode(one.junction).areFoes(one.link, two.link)


@functools.lru_cache(maxsize=2)
def junction_ways(path: Path) -> JunctionWays:
    """Return the ways through the junctions of a network file."""
    return JunctionWays(path)


def standing(ways: JunctionWays, lanes: Sequence[str], vehicles: Vehicles, calls: Any) -> dict[str, StandingVehicle]:
    """Return the vehicles that stand now by name, and what holds them.

    Args:
        ways: of the network.
        lanes: names of the lanes by their numbers.
        vehicles: all vehicles on the road.
        calls: `vehicle` of the running SUMO.
    """
    chosen = np.flatnonzero(vehicles.speed_ms < HALTING_MS).tolist()
    where = {vehicles.ids[i]: (lanes[int(vehicles.lane[i])], float(vehicles.pos_m[i])) for i in chosen}
    waiting_s = {vehicles.ids[i]: float(vehicles.waiting_s[i]) for i in chosen}
    bodies = _Bodies(ways, where, calls)
    return {
        name: StandingVehicle(
            name, lane, ways.junction(lane), pos_m, waiting_s[name], bodies.of[name], _hold(name, lane, bodies, calls)
        )
        for name, (lane, pos_m) in where.items()
    }


class _Bodies:
    """Where the standing vehicles stand, as points."""

    def __init__(self, ways: JunctionWays, where: Mapping[str, tuple[str, float]], calls: Any) -> None:
        self.ways, self.where = ways, where
        self.of = {
            name: _points(ways.shapes[lane], np.arange(pos_m - calls.getLength(name), pos_m + 1e-9, STEP_M))
            for name, (lane, pos_m) in where.items()
        }
        self._owners = [name for name, body in self.of.items() for _ in body]
        self._tree = KDTree(np.concatenate([np.zeros((0, 2)), *self.of.values()]))

    def in_the_way(self, name: str, next_lane: str) -> str:
        """Return the first vehicle that stands on the way of another through the junction; empty for none."""
        here, begin_m = self.where[name]
        ahead = self.ways.ahead(here, next_lane)
        for lane in ahead:
            shape = self.ways.shapes[lane]
            length_m = float(np.hypot(*np.diff(shape, axis=0).T).sum())
            seen_m = length_m if self.ways.junction(lane) else REACH_M if lane == here else ROOM_M
            way = _points(shape, np.arange(begin_m, min(length_m, begin_m + seen_m), STEP_M))
            for near in self._tree.query_ball_point(way, APART_M):
                for other in sorted({self._owners[k] for k in near}):
                    if other != name and self._blocks(other, lane, ahead, self.where[name]):
                        return other
            if length_m > begin_m + seen_m:
                break
            begin_m = 0.0
        return ""

    def beside(self, name: str, target: str) -> list[str]:
        """Return the vehicles that stand on another lane of the same road where this one would change to it."""
        pos_m, length_m = self.where[name][1], len(self.of[name]) * STEP_M
        low, high = pos_m - length_m - BESIDE_M, pos_m + BESIDE_M
        on = {other: its_pos_m for other, (lane, its_pos_m) in self.where.items() if lane == target}
        return [other for other, its_pos_m in on.items() if low < its_pos_m and its_pos_m - len(self.of[other]) * STEP_M < high]

    def _blocks(self, other: str, lane: str, ahead: Sequence[str], here: tuple[str, float]) -> bool:
        its_lane, its_pos_m = self.where[other]
        if its_lane == here[0]:
            return its_pos_m > here[1]
        return its_lane in ahead or self.ways.meet(lane, its_lane)


def _hold(name: str, lane: str, bodies: _Bodies, calls: Any) -> Hold:
    signal, link, away_m, state = next(iter(calls.getNextTLS(name)), ("", -1, np.inf, ""))
    if away_m > REACH_M or bodies.ways.junction(lane):
        signal, link, state = "", -1, ""
    if calls.getStopState(name) & 1:
        return Hold((), STOPPED, signal, link)
    links = calls.getNextLinks(name)
    leader, _ = calls.getLeader(name, REACH_M) or ("", 0.0)
    other = bodies.in_the_way(name, links[0][4] or links[0][0] if links else "")
    blockers = tuple(dict.fromkeys(x for x in (leader, other) if x in bodies.where))
    if not (blockers or bodies.ways.junction(lane)) and (target := _wanted_lane(name, lane, calls)):
        return Hold(tuple(bodies.beside(name, target)), CHANGES, signal, link)
    return Hold(blockers, RED if state == "r" or state in CHANGE else YIELDS, signal, link)


def _wanted_lane(name: str, lane: str, calls: Any) -> str:
    """Return the lane beside it that a vehicle on a road must change to, to go on with its route; empty for none."""
    edge, _, number = lane.rpartition("_")
    offset, goes_on = next((best[3:5] for best in calls.getBestLanes(name) if best[0] == lane), (0, True))
    return "" if goes_on or not offset else f"{edge}_{int(number) + np.sign(offset)}"


def _points(shape: np.ndarray, along_m: np.ndarray) -> np.ndarray:
    """Return the points [K, 2] at distances [K] along a line; before its start, on its first part prolonged."""
    steps = np.diff(shape, axis=0)
    lengths = np.maximum(np.hypot(*steps.T), 1e-9)
    ends = np.concatenate([[0.0], np.cumsum(lengths)])
    part = np.clip(np.searchsorted(ends, along_m, side="right") - 1, 0, len(steps) - 1)
    return shape[part] + steps[part] * ((along_m - ends[part]) / lengths[part])[:, None]


def circles(blockers: Mapping[str, Sequence[str]]) -> list[tuple[str, ...]]:
    """Return the groups of vehicles that block each other, in a circle or in several that share vehicles; largest first.

    Args:
        blockers: of each vehicle, those that stand in its way and are keys too.
    """
    names = list(blockers)
    number = {name: i for i, name in enumerate(names)}
    pairs = [(number[name], number[other]) for name, others in blockers.items() for other in others]
    row, column = np.array(pairs, dtype=int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(row)), (row, column)), shape=(len(names), len(names))).tocsr()
    _, group = connected_components(graph, connection="strong")
    sizes = np.bincount(group, minlength=1)
    return [tuple(names[i] for i in np.flatnonzero(group == k)) for k in np.argsort(-sizes, kind="stable") if sizes[k] > 1]
