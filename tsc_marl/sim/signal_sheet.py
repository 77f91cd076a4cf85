"""Each signal of a network as an engineer reads it: its movements by approach and turn, and its phases."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sumolib.net import Net

from tsc_marl.sim import network_file, road_network
from tsc_marl.sim.green_phases import green_phases
from tsc_marl.sim.road_network import RoadNetwork
from tsc_marl.sim.scenario import Scenario
from tsc_marl.sim.signal_timing import GREEN
from tsc_marl.sim.street_programs import started, steps

if TYPE_CHECKING:
    import sumolib

COMPASS = ("north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west")
TURNS = {"s": "straight", "l": "left", "L": "half left", "r": "right", "R": "half right", "t": "back"}
STRAIGHT_ON = {"straight": 0, "half left": 1, "half right": 1, "left": 2, "right": 3, "back": 4}
"""Order of the turns in a sentence."""
MIDDLE_M = 4.0
"""A crossing no farther from the centre of its junction lies on no side of it."""
Point = tuple[float, float]


@dataclass(frozen=True)
class Way:
    """What a link of a signal serves: a turn from lane to lane, or a crossing."""

    link: int
    origin: str
    """The lane that it leads from; of a crossing, the crossing."""
    goal: str
    """The lane that it leads to; empty of a crossing."""
    approach: str
    """Where its traffic comes from, as a direction of the compass; of a crossing, on which side of the signal it lies."""
    turn: str
    """`straight`, `left` and so on; `crossing`."""
    street: str
    """Name of the road that it leads from; empty where the file has none."""
    before: Point
    """A point of the lane before the stop line [m]; of a crossing, one end."""
    stop: Point
    end: Point
    """Where it leaves the junction; of a crossing, the other end."""

    @property
    def is_crossing(self) -> bool:
        return self.turn == "crossing"

    @property
    def element(self) -> str:
        """What SUMO calls it."""
        return self.origin if self.is_crossing else f"{self.origin} > {self.goal}"


@dataclass(frozen=True)
class SignalSheet:
    """One signal."""

    name: str
    place: Point
    """[m]"""
    ways: tuple[Way, ...]
    steps: tuple[tuple[str, float], ...]
    """State and duration [s] of each step of its program."""
    phases: tuple[str, ...]
    """Those among which an agent chooses, in program order."""
    program: str
    """Name and type of its program."""
    fixed: str
    """Why it is no agent; empty for an agent."""

    @property
    def streets(self) -> list[str]:
        """Names of the roads that meet at it, those with most lanes first."""
        names = [way.street for way in self.ways if way.street]
        return sorted(set(names), key=lambda name: (-names.count(name), name))

    def green_s(self, phase: str) -> float:
        """Return how long the program shows a phase in a cycle [s]."""
        return sum(seconds for state, seconds in self.steps if state == phase)

    def movements(self, phase: str) -> list[str]:
        """Return what a phase serves, an entry for each approach: `north (Main Street): straight, left yields`."""
        served: dict[str, dict[str, bool]] = {}
        for way in self.ways:
            if phase[way.link] in GREEN:
                where = f"{way.approach} ({way.street})" if way.street and not way.is_crossing else way.approach
                turns = served.setdefault("crossings" if way.is_crossing else where, {})
                name = way.approach if way.is_crossing else way.turn
                turns[name] = turns.get(name, False) or (phase[way.link] == "g" and not way.is_crossing)
        return [
            f"{approach}: {', '.join(f'{turn} yields' if turns[turn] else turn for turn in _sorted(turns))}"
            for approach, turns in sorted(served.items(), key=lambda item: _rank(item[0]))
        ]

    def label(self, phase: str) -> str:
        """Return what a phase serves in short: `N-S straight+right, E (left)`; a turn that yields is in brackets.

        The turn back is left out beside others, and `walk` stands for crossings.
        """
        served: dict[str, dict[str, bool]] = {}
        for way in self.ways:
            if phase[way.link] in GREEN and not way.is_crossing:
                turns = served.setdefault(way.approach, {})
                turns[way.turn] = turns.get(way.turn, False) or phase[way.link] == "g"
        approaches: dict[str, list[str]] = {}
        for approach in sorted(served, key=_rank):
            turns = served[approach]
            named = [f"({turn})" if turns[turn] else turn for turn in _sorted(turns) if turn != "back" or len(turns) == 1]
            approaches.setdefault("+".join(named), []).append("".join(part[0].upper() for part in approach.split("-")))
        walks = ["walk"] if any(way.is_crossing and phase[way.link] in GREEN for way in self.ways) else []
        return ", ".join([f"{'-'.join(some)} {turns}" for turns, some in approaches.items()] + walks)


def _sorted(turns: dict[str, bool]) -> list[str]:
    return sorted(turns, key=lambda turn: (STRAIGHT_ON.get(turn, 0), _rank(turn)))


def _rank(where: str) -> int:
    name = where.partition(" (")[0]
    return COMPASS.index(name) if name in COMPASS else len(COMPASS)


def sheets(net: Net, roads: RoadNetwork, named: Sequence[str] = ()) -> list[SignalSheet]:
    """Return the signals of a network by name, those without a choice too.

    Args:
        net: as sumolib reads it.
        roads: the same as the agents see it.
        named: the signals that the scenario names as agents, empty where it names none.
    """
    agents = {signal.name for signal in roads.signals}
    signals = sorted(net.getTrafficLights(), key=lambda tls: tls.getID())
    return [_sheet(tls, tls.getID() in agents, bool(named)) for tls in signals if tls.getConnections()]


def of_scenario(scenario: Scenario) -> list[SignalSheet]:
    """Return the signals of a scenario by name.

    Raises:
        UserError: when the network cannot be read.
    """
    net, _ = network_file.read(scenario.net, scenario.additional)
    return sheets(net, road_network.of(scenario), scenario.signals)


def _sheet(tls: "sumolib.net.TLS", is_agent: bool, named: bool) -> SignalSheet:
    ways = tuple(sorted((way for link in tls.getConnections() if (way := _way(*link))), key=lambda way: way.link))
    name, program = started(tls)
    shown = tuple(steps(program))
    phases = green_phases(tls.getID(), shown, [way.link for way in ways if way.is_crossing]).phases
    why = "fewer than two green phases, so there is nothing to choose" if len(phases) < 2 else "it has no link for vehicles"
    if named and len(phases) > 1:
        why = "scenario.yaml names other signals as agents"
    xs, ys = zip(*(way.stop for way in ways), strict=True) if ways else ((0.0,), (0.0,))
    kind = f"{name}, {program.getType()}" if program else "none"
    place = (sum(xs) / len(xs), sum(ys) / len(ys))
    return SignalSheet(tls.getID(), place, ways, shown, phases, kind, "" if is_agent else why)


def _way(in_lane: "sumolib.net.lane.Lane", out_lane: "sumolib.net.lane.Lane", link: int) -> Way | None:
    """Return what a link serves; None for the second link of a crossing, which leads off it."""
    edge = in_lane.getEdge()
    crossing = next((lane for lane in (out_lane, in_lane) if lane.getEdge().getFunction() == "crossing"), None)
    if crossing is not None:
        shape = _points(crossing)
        centre = edge.getToNode().getCoord()
        middle = ((shape[0][0] + shape[-1][0]) / 2, (shape[0][1] + shape[-1][1]) / 2)
        away = (middle[0] - centre[0], middle[1] - centre[1])
        side = compass(*away) if math.hypot(*away) > MIDDLE_M else "middle"
        return Way(link, crossing.getEdge().getID(), "", side, "crossing", "", shape[0], middle, shape[-1])
    if edge.getID().startswith(":"):
        return None
    before, after = _points(in_lane), _points(out_lane)
    turn = next(c.getDirection() for c in in_lane.getOutgoing() if c.getToLane() is out_lane)
    approach = comes_from(in_lane)
    street = edge.getName() or ""
    return Way(
        link,
        in_lane.getID(),
        out_lane.getID(),
        approach,
        TURNS.get(turn or "", turn or ""),
        street,
        before[-2],
        before[-1],
        after[0],
    )


def comes_from(lane: "sumolib.net.lane.Lane") -> str:
    """Return where the traffic of a lane comes from, as a direction of the compass."""
    (ax, ay), (bx, by) = _points(lane)[-2:]
    return compass(ax - bx, ay - by)


def _points(lane: "sumolib.net.lane.Lane") -> list[Point]:
    return [(float(point[0]), float(point[1])) for point in lane.getShape() or ()]


def compass(x: float, y: float) -> str:
    """Return the direction of a vector to the east and north.

    >>> compass(0, 1), compass(-1, -1)
    ('north', 'south-west')
    """
    return COMPASS[round(math.atan2(x, y) / (math.pi / 4)) % len(COMPASS)]
