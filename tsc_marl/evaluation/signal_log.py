"""A second opinion on the lights: what SUMO wrote down, the network file's right of way, and the numbers of the timing.

Nothing here is shared with `sim`, which makes the lights: a mistake there must not excuse itself.
"""

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import sumolib

from tsc_marl.sim.signal_limits import NO_LIMITS, SignalLimits, each
from tsc_marl.sim.signal_timing import Timing


@dataclass(frozen=True)
class Violation:
    """What a signal must not have shown."""

    second: int
    """Index in the log, from 0."""
    rule: str
    """What is wrong, with links and numbers."""


def read(path: Path) -> dict[str, list[str]]:
    """Return, per signal, the states that SUMO logged, one a second.

    Raises:
        ValueError: when a second is missing.
    """
    logged: dict[str, list[str]] = defaultdict(list)
    last: dict[str, float] = {}
    for _, element in ElementTree.iterparse(path):
        if element.tag == "tlsState":
            name, time_s = element.attrib["id"], float(element.attrib["time"])
            if not time_s.is_integer():  # lights change at whole seconds
                continue
            if time_s - last.get(name, time_s - 1) != 1:
                raise ValueError(f"{path}: the log of signal {name} goes from second {last[name]} to {time_s}")
            last[name] = time_s
            logged[name].append(element.attrib["state"])
            element.clear()
    return dict(logged)


def greens_ended(states: Sequence[str]) -> int:
    """Return how many greens of single links ended."""
    return sum(sum(map(_ends, before, now)) for before, now in itertools.pairwise(states) if before != now)


def timing_violations(
    states: Sequence[str], timing: Timing, cut: bool = False, crossings: Mapping[int, float] | None = None,
    limits: SignalLimits = NO_LIMITS,
) -> Iterator[Violation]:  # fmt: skip
    """Yield what breaks the timing: yellow, all-red, least green, longest red, the order of colours, and crossings' own times.

    Args:
        states: one a second.
        timing: what must be kept.
        cut: the log starts in the middle of a cycle, so nobody knows when its first green began.
        crossings: length [m] of the pedestrian crossings, by link.
        limits: those of the signal that hold for all its phases; `phase_log` has the others.
    """
    own_yellow_s, change_s = change_times(timing, limits)
    least_green_s = min(each(limits.min_green_s, 1, timing.min_green_s))
    clearing_s = {link: math.ceil(length_m / timing.walking_ms) for link, length_m in (crossings or {}).items()}
    yield from _clearance_violations(states, own_yellow_s, change_s, clearing_s)
    for link, chars in enumerate(zip(*states, strict=True)):
        colours = re.sub("[^Gy]", "r", "".join(chars).replace("g", "G"))
        name, least_s, yellow_s, limits_s = f"link {link}", least_green_s, own_yellow_s, [timing.max_red_s]
        if link in clearing_s:
            name, least_s, yellow_s = f"crossing {link}", max(least_s, timing.min_walk_s), 0
            limits_s.append(timing.max_crossing_red_s)
        longest_s = min(filter(None, limits_s), default=None)
        for wrong in re.finditer("r(?=y)|y(?=G)", colours):
            yield Violation(wrong.end(), f"{name} goes from {wrong[0]} to {colours[wrong.end()]}")
        for run in re.finditer("G+|y+|r+", colours):
            colour, length_s = run[0][0], len(run[0])
            begun, ended = run.start() > 0 or not cut, run.end() < len(colours)
            if colour == "G" and begun and ended and length_s < least_s:
                yield Violation(run.start(), f"green of {name} lasts {length_s} s, the least is {least_s} s")
            if colour == "y" and length_s > yellow_s:
                yield Violation(run.start(), f"yellow of {name} lasts {length_s} s, not {yellow_s} s")
            if colour == "r" and longest_s and "G" in colours and length_s > longest_s:
                yield Violation(run.start(), f"red of {name} lasts {length_s} s, the longest is {longest_s} s")


def change_times(timing: Timing, limits: SignalLimits) -> tuple[int, int]:
    """Return yellow, and the shortest time from the end of a vehicles' green to the next one [s]."""
    yellow_s, all_red_s = (
        own if own is not None else of_all
        for own, of_all in ((limits.yellow_s, timing.yellow_s), (limits.all_red_s, timing.all_red_s))
    )
    pairs = [given for i, row in enumerate(limits.intergreen) for k, given in enumerate(row) if i != k]
    shortest_s = min((yellow_s + all_red_s if given is None else given for given in pairs), default=yellow_s + all_red_s)
    return yellow_s, max(yellow_s, shortest_s)


def _clearance_violations(
    states: Sequence[str], yellow_s: int, change_s: int, clearing_s: Mapping[int, int]
) -> Iterator[Violation]:
    """Yield what is wrong after the end of a green: yellow and red of its links, and greens that start too early."""
    for second, (before, now) in enumerate(itertools.pairwise(states), 1):
        ending = [] if before == now else [link for link, (a, b) in enumerate(zip(before, now, strict=True)) if _ends(a, b)]
        needed_s = max((change_s, *(clearing_s.get(link, 0) for link in ending)))
        for ahead, state in enumerate(states[second : second + needed_s] if ending else ()):
            for link in ending:
                expected = "y" if ahead < yellow_s and link not in clearing_s else "r"
                if state[link] != expected and ahead < clearing_s.get(link, change_s):
                    yield Violation(
                        second + ahead, f"link {link} shows {state[link]}, not {expected}, {ahead} s after its green ended"
                    )
            for link, (a, b) in enumerate(zip(before, state, strict=True)):
                if a not in "Gg" and b in "Gg":
                    yield Violation(second + ahead, f"green of link {link} starts {ahead} s after others ended, not {needed_s} s")


def _ends(before: str, now: str) -> bool:
    return before in "Gg" and now not in "Gg"


class StreetSignals:
    """The signals of a network file: right of way, and the programs that SUMO starts, which are the last ones.

    Args:
        path: the network file.
        additional: files that may have further programs.
    """

    def __init__(self, path: Path, additional: Sequence[Path] = ()) -> None:
        net = sumolib.net.readNet(str(path), withInternal=True, withPrograms=True)
        self.programs = {tls.getID(): [*tls.getPrograms().values()][-1] for tls in net.getTrafficLights() if tls.getPrograms()}
        self.programs |= dict(program for file in additional for program in _programs(file) if program[0] in self.programs)
        self.conflicts = {name: conflicts(net, name) for name in self.programs}
        """Pairs of links of a signal that may not both have a green that yields to nobody."""
        self.crossings_m = {name: _crossing_lengths(net, name) for name in self.programs}
        """Length of the pedestrian crossings of a signal, by link."""

    def violations(self, signal: str, states: Sequence[str]) -> Iterator[Violation]:
        """Yield each state that no controller may show: crossing greens, or greens that no phase of the file has together."""
        allowed = _greens(self.programs[signal])
        for state in dict.fromkeys(states):
            second = states.index(state)
            for a, b in self.conflicts[signal]:
                if state[a] == state[b] == "G":
                    own = any(phase.state[a] == phase.state[b] == "G" for phase in self.programs[signal].getPhases())
                    where = ", as in the program of the network file" if own else ""
                    yield Violation(
                        second, f"links {a} and {b} cross, and both have a green that yields to nobody{where}: {state}"
                    )
            greens = {(link, char) for link, char in enumerate(state) if char in "Gg"}
            if not any(greens <= phase for phase in allowed):
                yield Violation(second, f"no phase of the network file has the greens of {state}")

    def program_violations(self, signal: str, states: Sequence[str], begin_s: int, by_the_clock: bool) -> Iterator[Violation]:
        """Yield the first second in which the states differ from the file's program.

        Args:
            signal: its name.
            states: one a second.
            begin_s: SUMO's time of the first.
            by_the_clock: every phase has its duration, whatever the type of the program; else only a static one is checked.
        """
        program = self.programs[signal]
        if by_the_clock or program.getType() == "static":
            cycle = [phase.state for phase in program.getPhases() for _ in range(round(phase.duration))]
            begun_s = begin_s - round(float(program.getOffset()))
            for second, state in enumerate(states):
                expected = cycle[(begun_s + second) % len(cycle)]
                if state != expected:
                    yield Violation(second, f"shows {state}, the program of the network file has {expected}")
                    return


def _programs(path: Path) -> Iterator[tuple[str, "sumolib.net.TLSProgram"]]:
    """Yield the signal programs in an additional file by signal."""
    for logic in ElementTree.parse(path).getroot().iter("tlLogic"):
        program = sumolib.net.TLSProgram(logic.get("programID"), logic.get("offset", "0"), logic.get("type", "static"))
        for phase in logic.iter("phase"):
            program.addPhase(phase.attrib["state"], float(phase.attrib["duration"]))
        yield logic.attrib["id"], program


def _greens(program: "sumolib.net.TLSProgram") -> list[set[tuple[int, str]]]:
    """Return the green links of each phase with their kind; the rings of NEMA run side by side, so its phases are one."""
    greens = [{(link, char) for link, char in enumerate(phase.state) if char in "Gg"} for phase in program.getPhases()]
    return [set().union(*greens)] if program.getType() == "NEMA" else greens


def conflicts(net: "sumolib.net.Net", signal: str) -> list[tuple[int, int]]:
    """Return pairs of links that cross by the right of way; two that only merge into one lane are left out."""
    links = []
    for in_lane, out_lane, link in net.getTLS(signal).getConnections():
        if in_lane.getEdge().getFunction() == "crossing":  # the right of way has one entry for both directions
            ways = in_lane.getIncomingConnections()
        else:
            ways = [way for way in in_lane.getOutgoing() if way.getToLane() == out_lane]
        node = in_lane.getEdge().getToNode()
        links += [(link, node, node.getLinkIndex(way), way.getToLane()) for way in ways]
    return [
        (a, b)
        for (a, node, i, lane), (b, other, j, onto) in itertools.combinations(links, 2)
        if node == other and min(i, j) >= 0 and lane != onto and node.areFoes(i, j)
    ]


def _crossing_lengths(net: "sumolib.net.Net", signal: str) -> dict[int, float]:
    """Return the lengths [m] of the crossings, by link of either direction; the longest where a link serves several."""
    lanes = [(link, lane) for *ends, link in net.getTLS(signal).getConnections() for lane in ends]
    crossings = [(link, lane) for link, lane in lanes if lane.getEdge().getFunction() == "crossing"]
    return {link: max(lane.getLength() for other, lane in crossings if other == link) for link, _ in crossings}
