"""A corridor: the way past some signals, for a time-space diagram."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tsc_marl.bounds import check_list
from tsc_marl.errors import UserError, unknown
from tsc_marl.sim import network_file
from tsc_marl.sim.detector_coverage import interior
from tsc_marl.sim.road_network import RoadNetwork, Signal, edge_of
from tsc_marl.sim.scenario import Scenario
from tsc_marl.viz.vehicle_paths import VehiclePaths

if TYPE_CHECKING:
    import sumolib

BEFORE_M, BEHIND_M = 200.0, 80.0
"""How much of the road before the first stop line and behind the last belongs to the corridor."""
MOST_STOPS = 6
"""Signals of a corridor that nobody named."""
STRAIGHT = "s"


@dataclass(frozen=True)
class Stop:
    """A stop line on the corridor."""

    signal: int
    """Number of the signal."""
    at_m: float
    """From the start of the corridor."""
    reached_s: float
    """Time from the start of the corridor at the speed limits."""
    links: tuple[int, ...]
    """Links of the signal that go on along the corridor."""


@dataclass(frozen=True)
class Corridor:
    """The way along some roads."""

    begin_m: dict[str, float]
    """Where each edge begins, from the start of the corridor."""
    length_m: float
    stops: tuple[Stop, ...]


def along(scenario: Scenario, net: RoadNetwork, names: Sequence[str]) -> Corridor:
    """Return the shortest way past signals, in the order given.

    Raises:
        UserError: for fewer than two signals, one that is not there, one given twice, or where no road leads on.
    """
    check_list("plots", tuple(names))
    signals = {signal.name: signal for signal in net.signals}
    for name in names:
        if name not in signals:
            raise unknown("signal", name, signals)
    if len(names) < 2:
        raise UserError(f"plots takes no signal, or two or more as one drives past them; got {names[0]}")
    roads = network_file.read(scenario.net)[0]
    edges: list[str] = []
    for name, onward in itertools.pairwise(names):
        starts = [edges[-1]] if edges else _ends(signals[name], "out_lane")
        leg = _shortest(roads, starts, _ends(signals[onward], "in_lane"))
        if not leg:
            raise UserError(f"plots: no road leads from signal {name} to signal {onward}; give signals as one drives")
        edges += leg[1:] if edges else [_entry(signals[name], leg[0]), *leg]
    return _measured(roads, net, edges)


def busiest(scenario: Scenario, net: RoadNetwork, paths: VehiclePaths) -> Corridor:
    """Return the way with the most vehicles past several signals, straight on where there is one; past one signal else.

    It starts with the busiest way between two signals and grows at the end where more vehicles go on.
    """
    roads = network_file.read(scenario.net)[0]
    straight = {(edge_of(link.in_lane), edge_of(link.out_lane)) for signal in net.signals for link in signal.links
                if link.turn == STRAIGHT}  # fmt: skip
    legs = _legs(net, paths)
    if not (chosen := {leg: vehicles for leg, vehicles in legs.items() if leg[:2] in straight} or legs):
        first, *_ = sorted(straight) or [(edge_of(link.in_lane), edge_of(link.out_lane)) for link in net.signals[0].links]
        return _measured(roads, net, first)
    way = [max(sorted(chosen), key=lambda leg: chosen[leg])]
    while len(way) < MOST_STOPS - 1:
        passed = {leg[0] for leg in way} | {way[-1][-1]}
        signals = {_signal_at(net, edge) for edge in passed}
        onward = [leg for leg in chosen if leg[0] == way[-1][-1] and _signal_at(net, leg[-1]) not in signals]
        before = [leg for leg in chosen if leg[-1] == way[0][0] and _signal_at(net, leg[0]) not in signals]
        if not onward and not before:
            break
        best = max(sorted(onward + before), key=lambda leg: chosen[leg])
        way = [*way, best] if best in onward else [best, *way]
    return _measured(roads, net, [way[0][0], *(edge for leg in way for edge in leg[1:])])


def _signal_at(net: RoadNetwork, edge: str) -> int:
    return int(net.charged_signal[net.lane_index[f"{edge}_0"]])


def _legs(net: RoadNetwork, paths: VehiclePaths) -> Counter[tuple[str, ...]]:
    """Return how many vehicles drove from the approach of a signal to that of the next, by the edges of the way."""
    lanes, vehicle = list(net.lane_index), paths.vehicle
    changes = np.flatnonzero((np.diff(paths.lane, prepend=-1) != 0) | (np.diff(vehicle, prepend=-1) != 0))
    approaches = {edge_of(link.in_lane) for signal in net.signals for link in signal.links}
    legs: Counter[tuple[str, ...]] = Counter()
    for _, rows in itertools.groupby(changes.tolist(), key=lambda i: vehicle[i]):
        names = [edge_of(lanes[paths.lane[i]]) for i in rows]
        route = [edge for edge, _ in itertools.groupby(name for name in names if not name.startswith(":"))]
        at = [i for i, edge in enumerate(route) if edge in approaches]
        legs.update(tuple(route[a : b + 1]) for a, b in itertools.pairwise(at))
    return legs


def _ends(signal: Signal, which: str) -> list[str]:
    return list(dict.fromkeys(edge_of(getattr(link, which)) for link in signal.links))


def _entry(signal: Signal, edge: str) -> str:
    """Return the approach of the signal from which one drives most nearly straight on to an edge."""
    links = [link for link in signal.links if edge_of(link.out_lane) == edge]
    return edge_of(min(links, key=lambda link: link.turn != STRAIGHT).in_lane)


def _shortest(roads: "sumolib.net.Net", starts: Sequence[str], ends: Sequence[str]) -> list[str]:
    """Return the edges of the shortest way from one of some edges to one of others, both included; none where there is none."""
    pairs = itertools.product(map(roads.getEdge, starts), map(roads.getEdge, ends))
    ways = [(way, metres) for way, metres in (roads.getShortestPath(a, b) for a, b in pairs) if way]
    return [edge.getID() for edge in min(ways, key=lambda pair: pair[1])[0]] if ways else []


def _measured(roads: "sumolib.net.Net", net: RoadNetwork, edges: Sequence[str]) -> Corridor:
    """Return the corridor along some edges from approach to approach, with the road before the first and behind the last."""
    edges = [*_before(roads, net, edges[0]), *edges]
    behind = _behind(net, edges[-1])
    begin_m: dict[str, float] = {}
    stops: list[Stop] = []
    at_m = reached_s = 0.0
    for edge, onward in itertools.zip_longest(edges, [*edges[1:], *behind]):
        lane = roads.getEdge(edge).getLane(0)
        begin_m[edge] = at_m
        at_m += lane.getLength()
        reached_s += lane.getLength() / lane.getSpeed()
        stops += [Stop(i, at_m, reached_s, links) for i, links in _onward_links(net, edge, onward)]
        if onward is not None:
            inside_m = _inside(roads, edge, onward, at_m, begin_m)
            at_m += inside_m
            reached_s += inside_m / lane.getSpeed()
    for edge in behind:
        begin_m[edge] = at_m
        at_m += min(BEHIND_M, roads.getEdge(edge).getLength())
    return Corridor(begin_m, at_m, tuple(stops))


def _before(roads: "sumolib.net.Net", net: RoadNetwork, edge: str) -> list[str]:
    """Return the edges that lead to the first approach, to a signal or for `BEFORE_M`; at a fork the one with the most lanes."""
    way, long_m = [edge], roads.getEdge(edge).getLength()
    while long_m < BEFORE_M:
        others = [other for other in roads.getEdge(way[0]).getIncoming() if net.approach[other.getID()] == edge]
        others = [other for other in others if other.getID() not in way]
        if not others:
            break
        way.insert(0, max(others, key=lambda other: other.getLaneNumber()).getID())
        long_m += roads.getEdge(way[0]).getLength()
    return way[:-1]


def _behind(net: RoadNetwork, edge: str) -> list[str]:
    """Return the road behind the last stop line, straight on where there is one."""
    links = [link for signal in net.signals for link in signal.links if edge_of(link.in_lane) == edge]
    return [edge_of(min(links, key=lambda link: link.turn != STRAIGHT).out_lane)] if links else []


def _inside(roads: "sumolib.net.Net", edge: str, onward: str, at_m: float, begin_m: dict[str, float]) -> float:
    """Add the edges inside the junction between two roads; return how long the way through it is."""
    longest_m = 0.0
    for connection in roads.getEdge(edge).getOutgoing().get(roads.getEdge(onward), []):
        inside_m = 0.0
        for lane in interior(roads, connection):
            begin_m.setdefault(lane.getEdge().getID(), at_m + inside_m)
            inside_m += lane.getLength()
        longest_m = max(longest_m, inside_m)
    return longest_m


def _onward_links(net: RoadNetwork, edge: str, onward: str | None) -> list[tuple[int, tuple[int, ...]]]:
    """Return the signal at the end of an edge, if any, with its links along the corridor; at its end, those straight on."""
    for i, signal in enumerate(net.signals):
        if own := [link for link in signal.links if edge_of(link.in_lane) == edge]:
            along = [link.link for link in own if (link.turn == STRAIGHT if onward is None else edge_of(link.out_lane) == onward)]
            return [(i, tuple(along or [link.link for link in own]))]
    return []
