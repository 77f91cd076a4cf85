"""What an engineer should know of a network before trusting it: faults of plans and roads, each with the element's id."""

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from sumolib.net import Net

from tsc_marl.evaluation import signal_log
from tsc_marl.sim.green_phases import never_served
from tsc_marl.sim.road_network import DETECTION_M, VEHICLE_M, RoadNetwork, edge_of
from tsc_marl.sim.signal_sheet import SignalSheet, Way

STUB_M = 2 * VEHICLE_M
"""A lane of a shorter road holds one vehicle."""
MOST_LINES = 3
"""Of a kind in the terminal."""


@dataclass(frozen=True)
class Finding:
    """One warning."""

    kind: str
    signal: str
    element: str
    """What SUMO calls it."""
    text: str

    @property
    def rank(self) -> int:
        """0 for the worst kind."""
        return list(KINDS).index(self.kind)


KINDS = {
    "no green": "movements that no step of the program lets go: who wants to pass there waits for ever",
    "conflict": "movements that cross and both have a green that yields to nobody: unsafe",
    "crossing": "crossings without a green for pedestrians",
    "no way on": "lanes that end at a signal without a movement: vehicles on them must change lanes",
    "stub": f"roads at a signal shorter than {STUB_M:.0f} m: one vehicle fills a lane",
    "short": f"approaches shorter than the detection of {DETECTION_M:.0f} m: longer queues are out of sight",
}
"""What each kind means, the worst first."""


def find(net: Net, roads: RoadNetwork, sheets: Sequence[SignalSheet]) -> list[Finding]:
    """Return all warnings on a network, by kind, the worst first."""
    faults = [finding for sheet in sheets for finding in (*_never(sheet), *_conflicts(net, sheet), *_lanes(net, sheet))]
    faults += _short(net, roads)
    return sorted(faults, key=lambda finding: (finding.rank, finding.signal))


def lines(faults: Sequence[Finding], where: str) -> Iterator[str]:
    """Yield the warnings as short lines, a few of each kind; `where` names the page with all of them."""
    for kind, group in itertools.groupby(faults, lambda finding: finding.kind):
        own = list(group)
        yield f"warning: {len(own)} {KINDS[kind]}"
        for finding in own[:MOST_LINES]:
            yield f"  signal {finding.signal}: {finding.text}"
        if len(own) > MOST_LINES:
            yield f"  and {len(own) - MOST_LINES} more: {where}"


def _never(sheet: SignalSheet) -> Iterator[Finding]:
    by_link: dict[int, list[Way]] = defaultdict(list)
    for way in sheet.ways:
        by_link[way.link].append(way)
    for link in never_served(sheet.steps, sorted(by_link)):
        for way in by_link[link]:
            kind, what = ("crossing", "crossing") if way.is_crossing else ("no green", "movement")
            where = f"{what} {way.element} (link {link}, {way.approach}, {way.turn})"
            yield Finding(kind, sheet.name, way.element, f"{where} is red in every step of program {sheet.program}")


def _conflicts(net: Net, sheet: SignalSheet) -> Iterator[Finding]:
    states = [state for state, _ in sheet.steps]
    elements = {way.link: way.element for way in sheet.ways}
    for a, b in sorted(set(signal_log.conflicts(net, sheet.name))):
        if wrong := next((state for state in states if max(a, b) < len(state) and state[a] == state[b] == "G"), None):
            both = " and ".join(f"{elements.get(link, '?')} (link {link})" for link in (a, b))
            yield Finding("conflict", sheet.name, elements.get(a, ""), f"{both} are both G in {wrong}")


def _lanes(net: Net, sheet: SignalSheet) -> Iterator[Finding]:
    ways = [way for way in sheet.ways if not way.is_crossing]
    for name in dict.fromkeys(edge_of(lane) for way in ways for lane in (way.origin, way.goal)):
        length_m = net.getEdge(name).getLength()
        if length_m < STUB_M:
            yield Finding("stub", sheet.name, name, f"road {name} is {length_m:.1f} m long")
    for edge in dict.fromkeys(edge_of(way.origin) for way in ways):
        for lane in net.getEdge(edge).getLanes():
            if lane.allows("passenger") and not lane.getOutgoing():
                yield Finding("no way on", sheet.name, lane.getID(), f"lane {lane.getID()} has no movement")


def _short(net: Net, roads: RoadNetwork) -> Iterator[Finding]:
    lanes = [(signal.name, lane) for signal in roads.signals for lane in signal.lanes]
    seen_m = roads.detector_coverage.reach_m(roads.lane_length_m)
    reach_m: dict[tuple[str, str], float] = {}
    for (signal, lane), metres in zip(lanes, seen_m.tolist(), strict=True):
        reach_m[signal, edge_of(lane)] = max(metres, reach_m.get((signal, edge_of(lane)), 0.0))
    approaches = {edge for _, edge in reach_m}
    for (signal, edge), metres in reach_m.items():
        if metres < DETECTION_M:
            ends = "another signal is before it" if _is_behind_signal(net, edge, approaches) else "the network ends there"
            yield Finding("short", signal, edge, f"approach {edge} is {metres:.0f} m long; {ends}")


def _is_behind_signal(net: Net, name: str, approaches: Collection[str]) -> bool:
    """Return whether vehicles reach an approach from another one, without turning back."""
    waiting, seen = [net.getEdge(name)], {name}
    while waiting:
        edge = waiting.pop()
        for before in edge.getIncoming():
            if before.getID() not in seen and before.getFromNode() is not edge.getToNode():
                if before.getID() in approaches:
                    return True
                seen.add(before.getID())
                waiting.append(before)
    return False
