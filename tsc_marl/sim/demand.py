"""Demand that differs from episode to episode, made from the scenario's own route files.

Vehicles and persons vary. What a timetable fixes stays as it is (`sim.timetable`), and so do containers.
"""

import copy
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from tsc_marl.bounds import Scale, Share, check
from tsc_marl.errors import UserError
from tsc_marl.sim import route_files, seeds
from tsc_marl.sim.scenario import Scenario
from tsc_marl.sim.timetable import Timetable

COPY_JITTER_S = 60.0
"""A copy of a vehicle departs at most this much earlier or later than the vehicle itself."""
ROUTE_ATTRIBUTES = ("route", "from", "to", "via", "fromJunction", "toJunction", "fromTaz", "toTaz")
"""Attributes that say where a vehicle drives."""
FLOWS = ("flow", "personFlow")
VARIED = (*route_files.VEHICLES, "person", *FLOWS)
"""Elements that the demand repeats or leaves out."""

Timed = tuple[float, ElementTree.Element]
"""When something departs [s], and what: `routes.timed`."""


@dataclass(frozen=True)
class Demand:
    """How the traffic differs from the route files, drawn anew from each episode's seed. The defaults leave it as it is."""

    scale: Scale = 1.0
    """Vehicles and persons per one of the route files: they are left out or repeated at random."""
    resample: Share = 0.0
    """Share of the vehicles and persons that come 0, 1, 2 … times (Poisson, on average once) instead of once."""
    profile: tuple[float, ...] = ()
    """Factors on as many equal parts of the window, beside `scale`: `0.5 1.5 0.5` is a peak in the middle."""
    reroute_share: Share = 0.0
    """Share of the vehicles that drive where another vehicle that starts on the same edge drives."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        check(self, "demand.")
        if self.profile and not (min(self.profile) >= 0 and max(self.profile) > 0):
            raise UserError(f"demand.profile needs factors of at least 0, one of them above; got {self.profile}")

    @property
    def varies(self) -> bool:
        """Whether anything differs from the route files."""
        return self != Demand()


def write(scenario: Scenario, demand: Demand, seed: int, path: Path) -> None:
    """Write a route file with the vehicles of one episode.

    Raises:
        UserError: when no vehicle is left.
    """
    rng = seeds.stream(seed, seeds.DEMAND)
    planned, others = _read(scenario, rng)
    named = {element.get("id", ""): _first(element) for _, element in others if element.tag == "route"}
    _swap_routes([vehicle for _, vehicle in planned if vehicle.tag in route_files.VEHICLES], demand.reroute_share, rng, named)
    expected = np.array([demand.scale * _factor(depart, demand, scenario) for depart, _ in planned])
    times = np.floor(expected + rng.random(len(planned))).astype(int)
    chance = rng.random(len(planned)) < demand.resample
    times[chance] = rng.poisson(expected[chance])
    played = []
    for (depart, vehicle), n in zip(planned, times.tolist(), strict=True):
        for k in range(n):
            again = ElementTree.Element(vehicle.tag, dict(vehicle.attrib))
            again.extend(vehicle)
            when = depart
            if k:
                again.set("id", f"{vehicle.get('id')}_again{k}")
                when = min(max(depart + rng.uniform(-COPY_JITTER_S, COPY_JITTER_S), scenario.begin_s), scenario.end_s - 1)
            again.set("depart", f"{when:.2f}")
            played.append((when, again))
    if not any(element.tag in (*route_files.VEHICLES, "flow") for _, element in (*others, *played)):
        raise UserError(f"{scenario.name}: demand {demand} leaves no vehicle in the window; raise demand.scale")
    route_files.write(path, [*others, *played])


def _read(scenario: Scenario, rng: np.random.Generator) -> tuple[list[Timed], list[Timed]]:
    """Return what varies and departs in the window, vehicles and persons of flows one by one, and all else as it stands."""
    begin_s, end_s = scenario.begin_s, scenario.end_s
    given = [(path, *entry) for path in scenario.routes for entry in map(copy.deepcopy, route_files.timed(path, begin_s))]
    additional = (copy.deepcopy(element) for path in scenario.additional for element in route_files.elements(path))
    timetable = Timetable([*(element for _, _, element in given), *additional])
    planned: list[Timed] = []
    others: list[Timed] = []
    for path, when, element in given:
        varies = element.tag in VARIED and route_files.departure(element, path, begin_s) is not None
        if not varies or timetable.fixes(element):
            others.append((when, element))
        elif element.tag in FLOWS:
            times = route_files.departures(element, path, begin_s, end_s, rng)
            planned += zip(times, _single(element, len(times)), strict=True)
        elif begin_s <= when < end_s:
            planned.append((when, element))
    return planned, others


def _single(flow: ElementTree.Element, n: int) -> Iterator[ElementTree.Element]:
    """Yield the n vehicles or persons of a flow."""
    for k in range(n):
        single = copy.deepcopy(flow)
        routed = "route" in flow.attrib or flow.find("route") is not None
        single.tag = "person" if flow.tag == "personFlow" else "vehicle" if routed else "trip"
        for name in ("begin", "end", "number", *route_files.RATES):
            single.attrib.pop(name, None)
        single.set("id", f"{flow.get('id')}.{k}")
        yield single


def _factor(depart: float, demand: Demand, scenario: Scenario) -> float:
    if not demand.profile:
        return 1.0
    return demand.profile[int((depart - scenario.begin_s) / scenario.duration_s * len(demand.profile))]


def _swap_routes(vehicles: Sequence[ElementTree.Element], share: float, rng: np.random.Generator, named: dict[str, str]) -> None:
    """Give a share of the vehicles the way of another one that starts on the same edge; `named` has the routes' first edges."""
    ways: dict[str, list[tuple[dict[str, str], list[ElementTree.Element]]]] = defaultdict(list)
    starts = [_start(vehicle, named) for vehicle in vehicles]
    for vehicle, start in zip(vehicles, starts, strict=True):
        ways[start].append(
            ({name: vehicle.attrib[name] for name in ROUTE_ATTRIBUTES if name in vehicle.attrib}, vehicle.findall("route"))
        )
    for vehicle, start in zip(vehicles, starts, strict=True):
        if rng.random() < share and vehicle.find("stop") is None:  # elsewhere it would not pass its stop
            attributes, inline = ways[start][int(rng.integers(len(ways[start])))]
            for name in ROUTE_ATTRIBUTES:
                vehicle.attrib.pop(name, None)
            vehicle.attrib.update(attributes)
            for own in vehicle.findall("route"):
                vehicle.remove(own)
            vehicle.extend(inline)


def _start(vehicle: ElementTree.Element, named: dict[str, str]) -> str:
    """Return where a vehicle starts: an edge, a junction or a zone; for a route that is drawn, or stands elsewhere, its name."""
    inline = vehicle.find("route")
    if inline is not None:
        return _first(inline)
    places = [vehicle.get(name) for name in ("from", "fromJunction", "fromTaz")]
    return named.get(vehicle.get("route", "")) or next((place for place in places if place), f"route {vehicle.get('route')}")


def _first(route: ElementTree.Element) -> str:
    """Return the first edge of a route."""
    return "".join(route.get("edges", "").split()[:1])
