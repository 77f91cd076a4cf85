"""When each vehicle passed which movement, from SUMO's record of routes."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree


@dataclass(frozen=True)
class Passages:
    """The movements that one vehicle passed, in their order, and the one that it was on its way to."""

    movement: Sequence[int]
    """[P] numbers of the movements."""
    second: Sequence[float]
    """[P] SUMO's time at which it had left the junction; infinite for the last where it never did."""


def route_file(out: Path, seed: int) -> Path:
    """Return the file of an episode's routes in the folder of its files."""
    return out / f"vehroute_{seed}.xml"


def route_options(out: Path, seed: int) -> tuple[str, ...]:
    """Return SUMO's options that make it write the route of each vehicle, with the time at which it left each edge."""
    flags = (f"--vehroute-output.{flag}" for flag in ("exit-times", "internal", "last-route", "write-unfinished"))
    return ("--vehroute-output", str(route_file(out, seed)), *flags)


def read(path: Path, number: Mapping[tuple[str, str], int]) -> dict[str, Passages]:
    """Return the passages of each vehicle that came onto the road, by its name.

    Args:
        path: the file.
        number: number of the movement that leads from an edge to the next.
    """
    passages = {}
    for _, element in ElementTree.iterparse(path):
        if element.tag == "vehicle":
            *_, route = element.iter("route")
            left_s = map(float, route.attrib["exitTimes"].split())
            passages[element.attrib["id"]] = _passed(number, route.attrib["edges"].split(), list(left_s))
            element.clear()
    return passages


def ahead(route: Sequence[str], number: Mapping[tuple[str, str], int]) -> Passages:
    """Return what a vehicle that has not yet come onto the road is on its way to."""
    first = next((number[turn] for turn in itertools.pairwise(route) if turn in number), None)
    return Passages((), ()) if first is None else Passages((first,), (math.inf,))


def _passed(number: Mapping[tuple[str, str], int], edges: Sequence[str], left_s: Sequence[float]) -> Passages:
    movement, second = list[int](), list[float]()
    for turn, gone_s in _turns(edges, left_s):
        if turn in number:
            movement.append(number[turn])
            second.append(gone_s if gone_s >= 0 else math.inf)
            if gone_s < 0:
                break
    return Passages(movement, second)


def _turns(edges: Sequence[str], left_s: Sequence[float]) -> Iterator[tuple[tuple[str, str], float]]:
    """Yield each turn from road to road, and when the vehicle had left the junction between them; -1 where it had not."""
    roads = [i for i, edge in enumerate(edges) if not edge.startswith(":")]
    for i, k in itertools.pairwise(roads):
        yield (edges[i], edges[k]), left_s[k - 1]
