"""Signal programs of compatible movements: an agent may choose among more phases than a fixed cycle has.

The links of an approach that share a lane move together. A phase is a largest set of such streams in which no two cross. Left
turns from a lane that others share yield to the opposite approach, as in SUMO's own programs.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np

if TYPE_CHECKING:
    import sumolib

OPPOSITE = math.radians(130)
"""Between the directions of two approaches."""
YELLOW_S = 3


@dataclass(frozen=True)
class JunctionLink:
    """A connection over a junction."""

    index: int
    """Of its character in the signal's state."""
    number: int
    """In the junction's right of way."""
    edge: str
    lane: str
    onto: str
    """The lane behind the junction."""
    turn: str
    """SUMO's direction."""
    angle: float
    """In which vehicles arrive [rad]."""
    foes: frozenset[int]
    """Numbers of the links that cross it."""
    yields_to: frozenset[int]
    """Numbers of the links that go first."""

    def crosses(self, other: "JunctionLink") -> bool:
        """Return whether the paths meet; SUMO names some pairs at one of the two links only."""
        return other.number in self.foes or self.number in other.foes


def junction_links(node: "sumolib.net.node.Node", junction: ElementTree.Element) -> list[JunctionLink]:
    """Return the links of a signal's junction.

    Args:
        node: the junction.
        junction: its element in the network file, with the right of way.
    """
    right_of_way = {int(request.attrib["index"]): request for request in junction.iter("request")}
    links = []
    for connection in node.getConnections():
        if connection.getTLLinkIndex() >= 0:
            lane, onto, edge = connection.getFromLane(), connection.getToLane(), connection.getFrom()
            (x, y), (to_x, to_y) = edge.getShape()[-2:]
            number = node.getLinkIndex(connection)
            foes, first = (_numbers(right_of_way[number].attrib[key]) for key in ("foes", "response"))
            links.append(JunctionLink(
                connection.getTLLinkIndex(), number, edge.getID(), lane.getID(), onto.getID(),
                connection.getDirection().lower(), math.atan2(to_y - y, to_x - x), foes, first,
            ))  # fmt: skip
    return sorted(links, key=lambda link: link.index)


def _numbers(bits: str) -> frozenset[int]:
    return frozenset(k for k, bit in enumerate(reversed(bits)) if bit == "1")


def phases(links: Sequence[JunctionLink], most: int, right_on_red: bool, rng: np.random.Generator) -> list[str]:
    """Return the states of up to `most` phases that serve every link; fewer than two where nothing crosses."""
    streams = _streams(links)
    clear = [[not _conflict(a, b) for b in streams] for a in streams]
    able = [
        chosen
        for size in range(1, len(streams) + 1)
        for chosen in itertools.combinations(range(len(streams)), size)
        if all(clear[a][b] for a, b in itertools.combinations(chosen, 2))
    ]
    largest = [chosen for chosen in able if not any(set(chosen) < set(other) for other in able)]
    alone = [tuple(k for k, stream in enumerate(streams) if stream[0].edge == edge) for edge in _edges(links)]
    picked = _cover(largest, [chosen for chosen in alone if chosen not in largest], most, rng)
    if len(largest) < 2:
        return []
    states = [_state(links, [link for k in chosen for link in streams[k]], right_on_red) for chosen in picked]
    return list(dict.fromkeys(states))


def is_safe(links: Sequence[JunctionLink], states: Sequence[str]) -> bool:
    """Return whether no two links that cross have a green that yields to nobody; links that merge into one lane do not count."""
    crossing = [(a.index, b.index) for a, b in itertools.combinations(links, 2) if a.onto != b.onto and a.crosses(b)]
    return not any(state[a] == state[b] == "G" for state in states for a, b in crossing)


def program(signal: str, states: Sequence[str], green_s: int) -> ElementTree.Element:
    """Return the `tlLogic` that shows these phases in turn, with yellow between them."""
    logic = ElementTree.Element("tlLogic", {"id": signal, "type": "static", "programID": "0", "offset": "0"})
    for state, after in zip(states, [*states[1:], *states[:1]], strict=True):
        ElementTree.SubElement(logic, "phase", {"duration": str(green_s), "state": state})
        pairs = zip(state, after, strict=True)
        change = "".join("y" if a in "Gg" and b not in "Gg" else a if a in "Gg" else "r" for a, b in pairs)
        if "y" in change:
            ElementTree.SubElement(logic, "phase", {"duration": str(YELLOW_S), "state": change})
    return logic


def _streams(links: Sequence[JunctionLink]) -> list[list[JunctionLink]]:
    """Return the links that move together: of one approach and turn, or of one lane. Right turns go with others."""
    streams: list[list[JunctionLink]] = []
    for edge in _edges(links):
        own = [link for link in links if link.edge == edge]
        leading = [link for link in own if link.turn != "r"] or own
        rest = list(leading)
        while rest:
            stream = [rest.pop(0)]
            while more := [link for link in rest if any(_together(link, other) for other in stream)]:
                stream += more
                rest = [link for link in rest if link not in more]
            streams.append(sorted(stream, key=lambda link: link.index))
    return streams


def _edges(links: Sequence[JunctionLink]) -> list[str]:
    return list(dict.fromkeys(link.edge for link in links))


def _together(a: JunctionLink, b: JunctionLink) -> bool:
    return a.lane == b.lane or (a.turn == "s") == (b.turn == "s")


def _conflict(a: Sequence[JunctionLink], b: Sequence[JunctionLink]) -> bool:
    """Return whether two streams must not move together."""
    if a[0].edge == b[0].edge:
        return False
    facing = abs(math.remainder(a[0].angle - b[0].angle, 2 * math.pi)) > OPPOSITE
    crossing = [(one, other) for one, other in itertools.product(a, b) if one.crosses(other)]
    return any(not (facing and (_may_yield(one, a, other) or _may_yield(other, b, one))) for one, other in crossing)


def _may_yield(link: JunctionLink, stream: Sequence[JunctionLink], to: JunctionLink) -> bool:
    """Return whether a link turns left from a lane that others share, and yields."""
    return link.turn != "s" and len({other.turn for other in stream}) > 1 and to.number in link.yields_to


def _cover(
    largest: Sequence[tuple[int, ...]], others: Sequence[tuple[int, ...]], most: int, rng: np.random.Generator
) -> list[tuple[int, ...]]:
    """Return up to `most` sets, with every stream in one of the largest, in their order."""
    order = [largest[k] for k in rng.permutation(len(largest))]
    picked: list[tuple[int, ...]] = []
    missing = set().union(*largest)
    while missing:
        picked.append(max(order, key=lambda chosen: len(missing & set(chosen))))
        missing -= set(picked[-1])
    order += [others[k] for k in rng.permutation(len(others))]
    picked += [chosen for chosen in order if chosen not in picked][: max(0, most - len(picked))]
    return sorted(picked, key=[*largest, *others].index)


def _state(links: Sequence[JunctionLink], moving: Sequence[JunctionLink], right_on_red: bool) -> str:
    """Return a phase's state: the moving links and the right turns beside them, `g` where they yield to another green."""
    lanes, edges = {link.lane for link in moving}, {link.edge for link in moving}
    led = {link.lane for link in links if link.turn != "r"}
    beside = [
        link for link in links if link.turn == "r" and (link.lane in lanes or (link.lane not in led and link.edge in edges))
    ]
    green = {link.number for link in (*moving, *beside)}
    chars = ["r"] * (max(link.index for link in links) + 1)
    for link in links:
        if link.number in green:
            chars[link.index] = "g" if link.yields_to & green else "G"
        elif right_on_red and link.turn == "r":
            chars[link.index] = "s"
    return "".join(chars)
