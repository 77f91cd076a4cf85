"""What a signal can see and do, read from the network file alone: no SUMO runs here."""

import functools
from collections import defaultdict
from collections.abc import Iterable, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tsc_marl.errors import UserError, unknown
from tsc_marl.sim import network_file, shortest_ways, signal_limits
from tsc_marl.sim.city_detectors import CityDetectors, SeenRoad, seen_road
from tsc_marl.sim.detector_coverage import DetectorCoverage, detector_coverage
from tsc_marl.sim.green_phases import GreenPhases, green_phases, never_served
from tsc_marl.sim.scenario import Scenario
from tsc_marl.sim.shortest_ways import LanesDownstream
from tsc_marl.sim.signal_limits import ALL, NO_LIMITS, Limits, SignalLimits
from tsc_marl.sim.signal_timer import SignalTimer
from tsc_marl.sim.signal_timing import GREEN, Crossing, PhaseChanges, Timing, phase_changes
from tsc_marl.sim.street_programs import BY_THE_CLOCK, StreetProgram, responsive, started, steps

if TYPE_CHECKING:
    import sumolib

DETECTION_M, STUB_M = 200.0, 50.0
VEHICLE_M = 7.5
"""Road that a queued vehicle takes."""
FOOTWAYS = ("crossing", "walkingarea")
"""What SUMO calls the edges inside a junction on which persons walk."""
SWITCHED = "WAUT {} changes programs by the clock: the agents' lights do not follow it"


@dataclass(frozen=True)
class Link:
    """One link of a signal: from an incoming lane to an outgoing lane."""

    link: int
    """Index of its character in the signal's state string."""
    in_lane: str
    out_lane: str
    next_lanes: dict[str, float]
    """Incoming lanes of other signals that are reached next, without turning back, by name; from the start of `out_lane` to
    theirs [m], junction interiors left out."""
    receiving: tuple[str, ...]
    """`out_lane`, and the lanes behind it that start within `STUB_M`."""
    turn: str
    """SUMO's direction: s straight, l and L left, r and R right, t back."""


@dataclass(frozen=True)
class Signal:
    """One signalised intersection that has a choice: at least two phases."""

    name: str
    phases: tuple[str, ...]
    """SUMO state strings of its phases (`green_phases`), one character a link."""
    lanes: tuple[str, ...]
    """Incoming controlled lanes, in the order of their first link."""
    links: tuple[Link, ...]
    program: str
    """The programID of its own program by the clock; of the one that SUMO starts, where no clock can run it."""
    neighbours: tuple[str, ...]
    """Signals reached by road without passing another one, either way, by name."""
    x: float
    y: float
    crossings: tuple[Crossing, ...]
    """Its pedestrian crossings, by link."""
    limits: SignalLimits = NO_LIMITS

    def changes(self, timing: Timing) -> PhaseChanges:
        """Return what it shows between its phases."""
        return phase_changes(self.phases, timing, self.crossings, self.limits)

    def timer(self, timing: Timing, start_s: float) -> SignalTimer:
        """Return its state machine from a time [s] on.

        Raises:
            UserError: when the timing and its limits cannot be kept together.
        """
        return SignalTimer(self.name, self.phases, timing, start_s, self.crossings, self.limits)


@dataclass(frozen=True)
class RoadNetwork:
    """A road network as the signals see it. Lanes are numbered by `lane_index`."""

    signals: tuple[Signal, ...]
    """Sorted by name, which is SUMO's own order."""
    fixed: tuple[str, ...]
    """Signals that keep their program: those with fewer than two green phases, and those that the scenario does not name."""
    lane_index: dict[str, int]
    lane_length_m: np.ndarray
    """[L]"""
    lane_limit_ms: np.ndarray
    """[L] speed limit in m/s."""
    approach: dict[str, str]
    """Per edge, junction interiors too, the approach that a vehicle's delay there is charged to: the next edge downstream that
    ends at a signal, else one behind."""
    charged_signal: np.ndarray
    """[L] the number of that approach's signal; of a crossing, and of where persons wait for it, that of its own signal."""
    detector_coverage: DetectorCoverage
    responsive: tuple[StreetProgram, ...]
    """Programs that do not run by the clock, of the signals that have a choice and of the others."""
    notes: tuple[str, ...]
    """What a user should know of how the signals are treated, a line each."""
    seen: SeenRoad | None = None
    """What the city's detectors see; None for all within the distance of detection."""

    def signal_charged_on(self, edge: str) -> int:
        """Return the number of the signal that is charged for what is lost on an edge."""
        return int(self.charged_signal[self.lane_index[f"{edge}_0"]])


def edge_of(lane: str) -> str:
    """Return the edge that a lane belongs to."""
    return lane.rpartition("_")[0]


def of(scenario: Scenario, detection_m: float = DETECTION_M) -> RoadNetwork:
    """Return the road network of a scenario.

    Raises:
        UserError: as `read` does.
    """
    net = read(scenario.net, detection_m, scenario.additional, scenario.signals, scenario.limits)
    if scenario.detectors is None:
        return net
    files = (scenario.net, *scenario.additional, *scenario.detectors.files)
    return _with_detectors(scenario, scenario.detectors, detection_m, tuple(file.stat().st_mtime_ns for file in files))


@functools.lru_cache(maxsize=1024)
def _with_detectors(
    scenario: Scenario, detectors: CityDetectors, detection_m: float, _changed_ns: tuple[int, ...]
) -> RoadNetwork:  # fmt: skip
    net = of(replace(scenario, detectors=None), detection_m)
    slots = [signal.name for signal in net.signals for _ in signal.lanes]
    seen = seen_road(detectors, net.lane_index, net.lane_length_m, net.detector_coverage, slots)
    return replace(net, seen=seen, notes=(*net.notes, _note_of_detectors(net, seen)))


def read(
    path: Path, detection_m: float = DETECTION_M, additional: tuple[Path, ...] = (), agents: tuple[str, ...] = (),
    limits: Limits = (),
) -> RoadNetwork:  # fmt: skip
    """Read a SUMO network file, and the signal programs in additional files.

    Args:
        path: the network file.
        detection_m: how far upstream of the stop line vehicles are detected.
        additional: additional files.
        agents: the signals that agents drive, empty for all that have a choice.
        limits: of signals.

    Raises:
        UserError: when the file is not a SUMO network, it has a value that cannot be, or no signal in it has a choice; when one
            of `agents` is not there, or has none; when limits do not fit their signal.
    """
    return _read(path, detection_m, additional, agents, limits, tuple(file.stat().st_mtime_ns for file in (path, *additional)))


@functools.lru_cache(maxsize=1024)
def _read(
    path: Path, detection_m: float, additional: tuple[Path, ...], agents: tuple[str, ...], limits: Limits,
    _changed_ns: tuple[int, ...],
) -> RoadNetwork:  # fmt: skip
    net, switched = network_file.read(path, additional)
    signals_of_file = {tls.getID(): tls for tls in sorted(net.getTrafficLights(), key=lambda tls: tls.getID())}
    choices = {
        name: green_phases(name, steps(started(tls)[1]), [crossing.link for crossing in _crossings(tls)])
        for name, tls in signals_of_file.items()
    }
    programs = {name: choice.phases for name, choice in choices.items()}
    able = [name for name, phases in programs.items() if len(phases) > 1 and _connections_by_link(signals_of_file[name])]
    names, left_out = _agents(path, agents, able, programs)
    for name in names:
        _check_length(path, net.getTLS(name), programs[name])
    lanes = [lane for edge in net.getEdges(withInternal=True) for lane in edge.getLanes()]
    index = {lane.getID(): i for i, lane in enumerate(lanes)}
    ends_at = _approaches(net, names)
    approach, adjacency = shortest_ways.charged_approach(net, ends_at), shortest_ways.adjacency(net, ends_at)
    controlled = {in_lane.getID() for name in names for in_lane, _, _ in _connections_by_link(net.getTLS(name))}
    downstream = LanesDownstream(net, controlled, STUB_M)
    own, rank = responsive(net, programs), {name: i for i, name in enumerate(names)}
    clocks = {name: started(net.getTLS(name))[0] for name in names} | {p.signal: BY_THE_CLOCK for p in own if p.has_clock}
    signals = tuple(
        _signal(net.getTLS(name), programs[name], clocks[name], adjacency[name], controlled, downstream) for name in names
    )
    signals = _limited(path, signals, limits)
    return RoadNetwork(
        signals=signals,
        fixed=tuple(name for name in programs if name not in names),
        lane_index=index,
        lane_length_m=np.array([lane.getLength() for lane in lanes]),
        lane_limit_ms=np.array([lane.getSpeed() for lane in lanes]),
        approach=approach,
        charged_signal=_charged(net, lanes, {edge: rank[ends_at[nearest]] for edge, nearest in approach.items()}, rank),
        responsive=own,
        notes=(*_notes(net, choices, names, left_out), *(SWITCHED.format(name) for name in switched)),
        detector_coverage=detector_coverage(net, index, [lane for signal in signals for lane in signal.lanes], detection_m),
    )


def _note_of_detectors(net: RoadNetwork, seen: SeenRoad) -> str:
    lanes = [lane for signal in net.signals for lane in signal.lanes]
    reached = seen.reached(net.detector_coverage)
    blind = [lane for lane, has_detector in zip(lanes, reached.tolist(), strict=True) if not has_detector]
    without = f"; none before the stop line of {len(blind)}, such as {blind[0]}" if blind else ""
    return (
        f"policies see what the scenario's detectors see, on the way to {len(lanes) - len(blind)} of {len(lanes)} lanes{without}"
    )


def _agents(path: Path, wanted: tuple[str, ...], able: list[str], all_names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the signals that are agents, and those that have a choice and are left out."""
    if not able:
        raise UserError(
            f"{path}: no signal with at least two green phases, so there is nothing to control "
            f"(signals found: {', '.join(all_names) or 'none'}); add some with netconvert --tls.guess, or use another network"
        )
    for name in wanted:
        if name not in all_names:
            raise UserError(f"{path}: {unknown('signal', name, able)}")
        if name not in able:
            raise UserError(f"{path}: signal {name} has fewer than two green phases, so it cannot be an agent; name others")
    return [name for name in able if not wanted or name in wanted], [name for name in able if wanted and name not in wanted]


def _limited(path: Path, signals: tuple[Signal, ...], limits: Limits) -> tuple[Signal, ...]:
    """Return the signals with their limits, which must leave every link a phase that serves it."""
    names = [signal.name for signal in signals]
    for name, _ in limits:
        if name not in (ALL, *names):
            raise UserError(f"{path}: limits: {unknown('agent', name, names)}")
    return tuple(
        replace(signal, limits=_checked_limits(signal, signal_limits.of_signal(limits, signal.name))) for signal in signals
    )


def _checked_limits(signal: Signal, limits: SignalLimits) -> SignalLimits:
    limits.check_size(signal.name, len(signal.phases))
    allowed, serving = set(limits.allowed(len(signal.phases))), defaultdict(set)
    for phase, state in enumerate(signal.phases):
        for link, char in enumerate(state):
            if char in GREEN:
                serving[link].add(phase)
    if red := [link for link in sorted(serving) if not serving[link] & allowed]:
        ways = {link.link: f" ({link.in_lane} -> {link.out_lane})" for link in signal.links}
        named = ", ".join(f"{link}{ways.get(link, '')}" for link in red)
        others = ", ".join(map(str, sorted(set().union(*(serving[link] for link in red)))))
        raise UserError(
            f"signal {signal.name}: limits.phases {', '.join(map(str, limits.phases))} never give links {named} green; "
            f"add phases that do, of {others}"
        )
    return limits


def _check_length(path: Path, tls: "sumolib.net.TLS", phases: tuple[str, ...]) -> None:
    needed, shortest = _connections_by_link(tls)[-1][2] + 1, min(map(len, phases))
    if shortest < needed:
        raise UserError(
            f"{path}: signal {tls.getID()} has {needed} links, but a phase of program {started(tls)[0]} has only {shortest} "
            "states; correct the tlLogic, or make the file again with netconvert"
        )


def _notes(net: "sumolib.net.Net", choices: dict[str, GreenPhases], names: list[str], left_out: list[str]) -> tuple[str, ...]:
    notes: list[str] = []
    if left_out:
        notes.append(
            f"signals that keep their program, since the scenario names {len(names)} as agents: "
            f"{len(left_out)}, such as {left_out[0]}"
        )
    for name, choice in choices.items():
        if name in left_out:
            continue
        tls = net.getTLS(name)
        _, program = started(tls)
        notes += choice.notes
        if name not in names:
            notes.append(f"signal {name} has fewer than two green phases: it is no agent and keeps its program")
        if program and program.getType() != "static":
            notes.append(f"signal {name} has a program of type {program.getType()}, not static: see fixed_time and own_program")
        links_of_all = {link for _, _, link in _connections_by_link(tls)} | {crossing.link for crossing in _crossings(tls)}
        if red := never_served(steps(program), sorted(links_of_all)):
            links = ", ".join(map(str, red))
            notes.append(f"signal {name} never gives links {links} green: who wants to pass there waits for ever")
    return tuple(notes)


def _signal(
    tls: "sumolib.net.TLS", phases: tuple[str, ...], program: str, neighbours: tuple[str, ...], controlled: Set[str],
    downstream: LanesDownstream,
) -> Signal:  # fmt: skip
    connections = _connections_by_link(tls)
    own = {in_lane.getID() for in_lane, _, _ in connections}
    away_m = downstream((out_lane.getID() for _, out_lane, _ in connections), own)
    others = controlled - own
    movements = tuple(_link(in_lane, out_lane, link, others, away_m[out_lane.getID()]) for in_lane, out_lane, link in connections)
    x, y = _coord(tls)
    lanes = tuple(dict.fromkeys(movement.in_lane for movement in movements))
    return Signal(tls.getID(), phases, lanes, movements, program, neighbours, x, y, _crossings(tls))


def _link(
    in_lane: "sumolib.net.lane.Lane", out_lane: "sumolib.net.lane.Lane", link: int, others: Set[str], away_m: dict[str, float]
) -> Link:
    next_lanes = {lane: away_m[lane] for lane in sorted(away_m.keys() & others)}
    receiving = tuple(lane for lane, metres in away_m.items() if metres < STUB_M)
    return Link(link, in_lane.getID(), out_lane.getID(), next_lanes, receiving, _turn(in_lane, out_lane))


def _turn(in_lane: "sumolib.net.lane.Lane", out_lane: "sumolib.net.lane.Lane") -> str:
    return next(c.getDirection() for c in in_lane.getOutgoing() if c.getToLane() is out_lane)


def _connections_by_link(tls: "sumolib.net.TLS") -> list[list]:
    """Return (incoming lane, outgoing lane, link) of the roads, by link; pedestrian crossings left out."""
    links = [link for link in tls.getConnections() if not link[0].getID().startswith(":")]
    return sorted(links, key=lambda link: link[2])


def _charged(
    net: "sumolib.net.Net", lanes: Iterable["sumolib.net.lane.Lane"], of_edge: dict[str, int], rank: dict[str, int]
) -> np.ndarray:
    """Return the number of the signal of each lane: where persons walk at a junction, that of its crossings."""
    of_junction = {
        _junction(lane.getEdge()): number
        for name, number in rank.items() for ends in net.getTLS(name).getConnections() for lane in ends[:2]
        if lane.getEdge().getFunction() == "crossing"
    }  # fmt: skip
    edges = [lane.getEdge() for lane in lanes]
    own = [of_junction.get(_junction(edge)) if edge.getFunction() in FOOTWAYS else None for edge in edges]
    return np.array([of_edge[edge.getID()] if number is None else number for edge, number in zip(edges, own, strict=True)])


def _junction(edge: "sumolib.net.edge.Edge") -> str:
    """Return the junction that an edge lies in."""
    return edge.getID()[1:].rpartition("_")[0]


def _crossings(tls: "sumolib.net.TLS") -> tuple[Crossing, ...]:
    """Return the crossings, by link; of several with one link the longest.

    A crossing may have a link for each direction: one leads onto it, the other is written as if it led off it.
    """
    length_m: dict[int, float] = {}
    for in_lane, out_lane, link in tls.getConnections():
        for lane in (in_lane, out_lane):
            if lane.getEdge().getFunction() == "crossing":
                length_m[link] = max(lane.getLength(), length_m.get(link, 0.0))
    return tuple(Crossing(link, length_m[link]) for link in sorted(length_m))


def _coord(tls: "sumolib.net.TLS") -> tuple[float, float]:
    return _connections_by_link(tls)[0][0].getEdge().getToNode().getCoord()


def _approaches(net: "sumolib.net.Net", names: list[str]) -> dict[str, str]:
    """Map the edges that end at a signal with a choice to its name."""
    return {in_lane.getEdge().getID(): name for name in names for in_lane, _, _ in _connections_by_link(net.getTLS(name))}
