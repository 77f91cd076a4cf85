"""The movements at the signals of a network: approach and turn, the lanes that they leave from, the links that serve them.

The capacity of a lane is `SATURATION_VEH_H` times its share of green; a green that yields counts as `PERMISSIVE` of one. Yellow
counts as red, as in the Highway Capacity Manual, where it makes up for the start of the queue. Lanes with a turn in common are a
lane group: vehicles choose among them, so they have one capacity together.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tsc_marl.sim import network_file
from tsc_marl.sim.lights import Lights
from tsc_marl.sim.planned_counts import PERMISSIVE, SATURATION_VEH_H
from tsc_marl.sim.road_network import VEHICLE_M, RoadNetwork, edge_of
from tsc_marl.sim.scenario import Scenario
from tsc_marl.sim.signal_sheet import COMPASS, STRAIGHT_ON, TURNS, comes_from

if TYPE_CHECKING:
    import sumolib

SERVED = {"G": 1.0, "g": PERMISSIVE}
"""Share of the saturation flow that a colour lets through."""


@dataclass(frozen=True)
class Movement:
    """A turn from an approach of a signal."""

    signal: int
    """Number of the signal."""
    road: str
    """The edge that ends at the stop line."""
    street: str
    """Name of that road; empty where the file has none."""
    approach: str
    """Where its traffic comes from, as a direction of the compass."""
    turn: str
    """`straight`, `left` and so on."""
    links: tuple[tuple[str, int], ...]
    """Lane and link of the signal of each connection; -1 for one that no signal stops."""
    storage_veh: float
    """Room on the lanes that it leaves from, up to where they begin."""

    @property
    def lanes(self) -> list[str]:
        """The lanes that it leaves from."""
        return list(dict.fromkeys(lane for lane, _ in self.links))


@dataclass(frozen=True)
class NetworkMovements:
    """The M movements of all signals, approach after approach."""

    each: tuple[Movement, ...]
    number: dict[tuple[str, str], int]
    """Number of the movement that leads from an edge to the next."""
    storage_veh: dict[str, float]
    """Room on all lanes of an approach, by its edge, back to the junction before."""

    def capacity_veh_h(self, lights: Sequence[Lights], duration_s: int) -> np.ndarray:
        """Return [M], the capacity of the lane group of each movement; nan where no signal stops one of its links.

        Args:
            lights: [N] what the signals showed.
            duration_s: length of the window.
        """
        links, place = defaultdict[str, list[int]](list), dict[str, int]()
        for k, movement in zip(self.lane_groups(), self.each, strict=True):
            for lane, link in movement.links:
                links[lane].append(link)
                place[lane] = k
        of_group = np.zeros(len(self.each))
        for lane, k in place.items():
            of_group[k] += SATURATION_VEH_H * _green_share(links[lane], lights[self.each[k].signal], duration_s)
        return of_group[self.lane_groups()]

    def lane_groups(self) -> list[int]:
        """Return [M], the number of the first movement that uses lanes together with each."""
        group = list(range(len(self.each)))
        user: dict[str, int] = {}
        for k, movement in enumerate(self.each):
            joined = {group[user[lane]] for lane in movement.lanes if lane in user} | {k}
            group = [min(joined) if of in joined else of for of in group]
            user |= dict.fromkeys(movement.lanes, k)
        return group


def _green_share(links: Sequence[int], lights: Lights, duration_s: int) -> float:
    """Return the share of the time in which a lane has green; a green that yields counts in part."""
    if min(links) < 0:
        return float("nan")
    lasts_s = np.diff([*lights.second, duration_s])
    of_state = np.array([max(SERVED.get(state[link], 0.0) for link in links) for state in lights.states])
    return float(lasts_s @ of_state[lights.shown]) / duration_s


def of(scenario: Scenario, net: RoadNetwork) -> NetworkMovements:
    """Return the movements of a network."""
    roads = network_file.read(scenario.net, scenario.additional)[0]
    signal_of = {edge_of(link.in_lane): i for i, signal in enumerate(net.signals) for link in signal.links}
    rank = {name: (i, COMPASS.index(comes_from(roads.getEdge(name).getLane(0))), name) for name, i in signal_of.items()}
    order = [roads.getEdge(name) for name in sorted(rank, key=lambda name: rank[name])]
    each, number, storage_veh = list[Movement](), dict[tuple[str, str], int](), dict[str, float]()
    for edge in order:
        into = _lanes_into(edge)
        name, signal, approach = edge.getID(), signal_of[edge.getID()], comes_from(edge.getLane(0))
        for turn, ways in sorted(_turns(edge).items(), key=lambda item: STRAIGHT_ON.get(item[0], len(STRAIGHT_ON))):
            number |= {(name, way.getTo().getID()): len(each) for way in ways}
            links = tuple((way.getFromLane().getID(), way.getTLLinkIndex()) for way in ways)
            lanes = {way.getFromLane() for way in ways}
            room_veh = _room_veh(lane for lane, last in into.items() if last in lanes)
            each.append(Movement(signal, name, edge.getName() or "", approach, turn, links, room_veh))
        storage_veh[name] = _room_veh(into)
    return NetworkMovements(tuple(each), number, storage_veh)


def _room_veh(lanes: Iterable["sumolib.net.lane.Lane"]) -> float:
    return sum(lane.getLength() for lane in lanes) / VEHICLE_M


def _turns(edge: "sumolib.net.edge.Edge") -> dict[str, list["sumolib.net.connection.Connection"]]:
    """Return the connections at the end of an edge by their turn, those of pedestrians left out."""
    turns = defaultdict(list)
    for following, ways in edge.getOutgoing().items():
        for way in ways if not following.getFunction() else ():
            turns[TURNS.get(way.getDirection(), way.getDirection())].append(way)
    return turns


def _lanes_into(edge: "sumolib.net.edge.Edge") -> dict[Any, Any]:
    """Return the lanes back to the junction before, each with the lane at the stop line into which it goes on straight ahead."""
    into = {lane: lane for ways in _turns(edge).values() for lane in (way.getFromLane() for way in ways)}
    road = _road(edge)
    for after, before in itertools.pairwise(road):
        ways = sorted(
            before.getOutgoing().get(after, []), key=lambda way: math.dist(_end(way.getFromLane(), -1), _end(way.getToLane(), 0))
        )
        for way in ways:
            if way.getToLane() in into:
                into.setdefault(way.getFromLane(), into[way.getToLane()])
    return into


def _end(lane: Any, point: int) -> tuple[float, float]:
    return lane.getShape()[point][:2]


def _road(edge: "sumolib.net.edge.Edge") -> list["sumolib.net.edge.Edge"]:
    """Return an approach with the edges before it, back to where roads meet or part."""
    road, before = [edge], _others(edge, edge.getIncoming())
    while len(before) == 1 and before[0] not in road and len(_others(before[0], before[0].getOutgoing())) == 1:
        road.append(before[0])
        before = _others(before[0], before[0].getIncoming())
    return road


def _others(edge: "sumolib.net.edge.Edge", beside: Iterable["sumolib.net.edge.Edge"]) -> list["sumolib.net.edge.Edge"]:
    """Return edges before or after an edge without those of pedestrians, and without the way back."""
    ends = {edge.getFromNode(), edge.getToNode()}
    return [other for other in beside if not other.getFunction() and {other.getFromNode(), other.getToNode()} != ends]
