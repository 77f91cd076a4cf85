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
    right_of_way: int
    """Its number in the junction's right of way."""
    edge: str
    lane: str
    turn: str
    """SUMO's direction."""
    angle: float
    """In which vehicles arrive [rad]."""


def phases(node: "sumolib.net.node.Node", most: int, right_on_red: bool, rng: np.random.Generator) -> list[str]:
    """Return the states of up to `most` phases that serve every link; fewer than two where nothing crosses."""
    links = _links(node)
    streams = _streams(links)
    clear = [[not _cross(node, a, b) for b in streams] for a in streams]
    able = [
        chosen
        for size in range(1, len(streams) + 1)
        for chosen in itertools.combinations(range(len(streams)), size)
        if all(clear[a][b] for a, b in itertools.combinations(chosen, 2))
    ]
    largest = [chosen for chosen in able if not any(set(chosen) < set(other) for other in able)]
    picked = _cover(largest, most, rng)
    states = [_state(node, links, [link for k in chosen for link in streams[k]], right_on_red) for chosen in picked]
    return list(dict.fromkeys(states))


def replace(program: ElementTree.Element, states: Sequence[str], green_s: int) -> None:
    """Give a `tlLogic` these phases, with yellow between them."""
    for phase in list(program):
        program.remove(phase)
    for state, after in zip(states, [*states[1:], states[0]], strict=True):
        ElementTree.SubElement(program, "phase", {"duration": str(green_s), "state": state})
        pairs = zip(state, after, strict=True)
        change = "".join("y" if a in "Gg" and b not in "Gg" else a if a in "Gg" else "r" for a, b in pairs)
        ElementTree.SubElement(program, "phase", {"duration": str(YELLOW_S), "state": change})


def _links(node: "sumolib.net.node.Node") -> list[JunctionLink]:
    links = []
    for connection in node.getConnections():
        if connection.getTLLinkIndex() >= 0:
            lane, edge = connection.getFromLane(), connection.getFrom()
            (x, y), (to_x, to_y) = edge.getShape()[-2:]
            links.append(JunctionLink(
                connection.getTLLinkIndex(), node.getLinkIndex(connection), edge.getID(), lane.getID(),
                connection.getDirection().lower(), math.atan2(to_y - y, to_x - x),
            ))  # fmt: skip
    return sorted(links, key=lambda link: link.index)


def _streams(links: Sequence[JunctionLink]) -> list[list[JunctionLink]]:
    """Return the links that move together: of one approach and turn, or of one lane. Right turns go with others."""
    streams: list[list[JunctionLink]] = []
    for edge in dict.fromkeys(link.edge for link in links):
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


def _together(a: JunctionLink, b: JunctionLink) -> bool:
    return a.lane == b.lane or (a.turn == "s") == (b.turn == "s")


def _cross(node: "sumolib.net.node.Node", a: Sequence[JunctionLink], b: Sequence[JunctionLink]) -> bool:
    """Return whether two streams must not move together."""
    if a is b or a[0].edge == b[0].edge:
        return False
    facing = abs(math.remainder(a[0].angle - b[0].angle, 2 * math.pi)) > OPPOSITE
    for one, other in itertools.product(a, b):
        if node.areFoes(one.right_of_way, other.right_of_way):
            yields = facing and any(
                link.turn != "s" and len({each.turn for each in stream}) > 1 and _yields(node, link, against)
                for link, stream, against in ((one, a, other), (other, b, one))
            )
            if not yields:
                return True
    return False


def _yields(node: "sumolib.net.node.Node", link: JunctionLink, to: JunctionLink) -> bool:
    return node.forbids(to.right_of_way, link.right_of_way)


def _cover(sets: Sequence[tuple[int, ...]], most: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """Return up to `most` sets, with every stream in one of them, in their order."""
    order = [sets[k] for k in rng.permutation(len(sets))]
    picked: list[tuple[int, ...]] = []
    missing = set().union(*sets)
    while missing:
        picked.append(max(order, key=lambda chosen: len(missing & set(chosen))))
        missing -= set(picked[-1])
    picked += [chosen for chosen in order if chosen not in picked][: max(0, most - len(picked))]
    return sorted(picked, key=sets.index)


def _state(
    node: "sumolib.net.node.Node", links: Sequence[JunctionLink], moving: Sequence[JunctionLink], right_on_red: bool
) -> str:
    """Return a phase's state: the moving links and the right turns beside them, `g` where they yield to another green."""
    lanes, edges = {link.lane for link in moving}, {link.edge for link in moving}
    led = {link.lane for link in links if link.turn != "r"}
    green = [
        link
        for link in links
        if link in moving or (link.turn == "r" and (link.lane in lanes or (link.lane not in led and link.edge in edges)))
    ]
    chars = ["r"] * (max(link.index for link in links) + 1)
    for link in links:
        if link in green:
            chars[link.index] = "g" if any(_yields(node, link, other) for other in green) else "G"
        elif right_on_red and link.turn == "r":
            chars[link.index] = "s"
    return "".join(chars)
