"""The vehicles of a part of a network: they enter it when they did in one episode of the whole."""

import copy
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from tsc_marl import console
from tsc_marl.city import existing
from tsc_marl.city.demand import City
from tsc_marl.errors import UserError
from tsc_marl.generator import sumo_programs
from tsc_marl.sim import route_files, scenario, xml_files
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.legal_values import seconds
from tsc_marl.sim.scenario import Scenario

SEED, CHUNK_S = 0, 60
"""Of the episode of the whole, and how long SUMO is not asked whether to stop."""
CUT_ROUTES = "route/cutRoutes.py"
ENDS, AT_END = ("depart", "arrival"), ("Lane", "Pos", "PosLat", "Speed")
"""Attributes such as `departLane` belong to one end of a route."""
PLACES = ("busStop", "trainStop", "containerStop", "parkingArea", "chargingStation")
RECORDED = ("exit-times", "last-route", "intended-depart", "write-unfinished")


def write(whole: Scenario, city: City, edges: Set[str]) -> list[str]:
    """Write the vehicles that drive on some edges, with the times at which they come there; return lines about them.

    Raises:
        UserError: when none does, or the files of the whole cannot be used.
    """
    with console.working(f"an episode of {whole.name} with its own programs"):
        recorded = _record(whole, city.work / "recorded.xml")
    given, moved, done = _Given(whole), city.work / "whole.rou.xml", city.work / "cut.rou.xml"
    root = Element("routes")
    root.extend(given.types)
    for vehicle in recorded:
        route = vehicle.find("route")
        if route is not None and not edges.isdisjoint(route.get("edges", "").split()):
            root.append(given.restored(vehicle, route, edges, whole.end_s))
    sumo_programs.write(root, moved)
    options = {"additional-input": str(city.additional[0])} if city.additional else {}
    words = {"routes-output": str(done), "disconnected-action": "keep", **options}
    with console.working("cutRoutes: the routes in the part"):
        city.warnings += sumo_programs.call(CUT_ROUTES, words, "name other signals", (str(city.net), str(moved)))
    cut = ElementTree.parse(done).getroot()
    lost = _lost_stops(root, cut, edges)
    return _finish(whole, city, cut, recorded) + lost


def _lost_stops(before: Element, after: Element, edges: Set[str]) -> list[str]:
    """Return a line on the stops in the part that cutRoutes does not carry over, or none."""
    there = sum(stop.get("lane", "").rpartition("_")[0] in edges for stop in before.iter("stop"))
    lost = there - sum(1 for _ in after.iter("stop"))
    return [f"stops left out, of vehicles that leave the part and come back: {lost}"] if lost > 0 else []


def _finish(whole: Scenario, city: City, root: Element, recorded: list[Element]) -> list[str]:
    """Write the vehicles that enter within the window; the others leave the root."""
    for vehicle in (late := [each for each in root.findall("vehicle") if float(each.get("depart", "")) >= whole.end_s]):
        root.remove(vehicle)
    kept = [each.get("id", "") for each in root.findall("vehicle")]
    if not kept:
        raise UserError(
            f"{whole.name}: no vehicle comes into this part between {whole.begin_s} and {whole.end_s} s; "
            "name other signals, or give a larger --around-m"
        )
    path = city.folder / f"{city.folder.name}.rou.xml"
    sumo_programs.write(root, path)
    city.routes.append(path)
    names = {vehicle.get("id", "") for vehicle in recorded}
    passing = {name if name in names else name.rpartition("_part")[0] for name in kept}
    lines = [f"{len(passing)} of {scenario.scheduled(whole)} vehicles, which enter as in an episode of {whole.name} with its own "
             f"programs, seed {SEED}"]  # fmt: skip
    if len(kept) > len(passing):
        lines.append(f"{len(kept) - len(passing)} more, for vehicles that leave the part and come back")
    if late:
        lines.append(f"{len(late)} left out, which come after {whole.end_s} s")
    walking = sum(
        element.tag not in (*route_files.VEHICLES, "flow") and element.tag in route_files.DEPARTING
        for file in whole.routes for element in xml_files.elements(file)
    )  # fmt: skip
    return [*lines, f"persons and containers left out: {walking} elements of the route files"] if walking else lines


def _record(whole: Scenario, path: Path) -> list[Element]:
    """Play an episode of the whole; return its vehicles with routes and exit times, those that wait to start at its end too."""
    env = TrafficEnv(whole)
    options = ["--vehroute-output", str(path), *(f"--vehroute-output.{name}" for name in RECORDED)]
    try:
        env.reset(SEED, sumo_controlled=True, extra_options=options)
        for until_s in (*range(whole.begin_s + CHUNK_S, whole.end_s, CHUNK_S), whole.end_s):
            env.engine.advance(float(until_s))
        waiting = list(_waiting(env, whole.end_s))
    finally:
        env.close()
    return [*ElementTree.parse(path).getroot().iter("vehicle"), *waiting]


def _waiting(env: TrafficEnv, end_s: int) -> Iterator[Element]:
    vehicles: Any = env.engine.api.vehicle
    for name, edges in env.routes_of_waiting().items():
        depart_s = end_s - vehicles.getDepartDelay(name)
        vehicle = Element("vehicle", id=name, type=vehicles.getTypeID(name), depart=f"{depart_s:.2f}")
        SubElement(vehicle, "route", edges=" ".join(edges), exitTimes=" ".join(["-1"] * len(edges)))
        yield vehicle


class _Given:
    """What the files of the whole say of vehicles, their types and stops."""

    def __init__(self, whole: Scenario) -> None:
        self._vehicles: dict[str, tuple[Element, float]] = {}
        self._routes: dict[str, Element] = {}
        self._lane_of: dict[str, str] = {}
        self.types: list[Element] = []
        for path in (*whole.additional, *whole.routes):
            for element in xml_files.elements(path):
                if element.tag in existing.TYPES:
                    self.types += [copy.deepcopy(each) for each in element.iter("vType")]
                elif element.tag == "route":
                    self._routes[element.get("id", "")] = copy.deepcopy(element)
                elif element.tag in (*route_files.VEHICLES, "flow"):
                    first = route_files.departure(element, path, whole.begin_s)
                    self._vehicles[element.get("id", "")] = copy.deepcopy(element), whole.begin_s if first is None else first
                elif element.tag in PLACES:
                    self._lane_of[element.get("id", "")] = element.get("lane", "")

    def restored(self, vehicle: Element, route: Element, edges: Set[str], end_s: int) -> Element:
        """Return a vehicle as it was given, on its route with exit times; what it has not done comes after the window."""
        name, own = vehicle.get("id", ""), route.get("edges", "").split()
        given, first_s = self._vehicles.get(name) or self._vehicles.get(name.rpartition(".")[0]) or (vehicle, 0.0)
        depart_s = float(vehicle.get("depart", ""))
        attributes = {key: value for key, value in vehicle.attrib.items() if key == "depart" or not key.startswith(ENDS)}
        if "speedFactor" not in given.attrib:
            attributes.pop("speedFactor", None)
        for end, edge in zip(ENDS, (own[0], own[-1]), strict=True):
            if edge in edges:
                attributes |= {end + key: given.attrib[end + key] for key in AT_END if end + key in given.attrib}
        made = Element("vehicle", attributes)
        times = [f"{end_s}" if when == "-1" else when for when in route.get("exitTimes", "").split()]
        SubElement(made, "route", edges=" ".join(own), exitTimes=" ".join(times))
        made.extend(copy.deepcopy(each) for each in vehicle.iter("param"))
        made.extend(self._stop(stop, depart_s - first_s if given.tag == "flow" else 0.0) for stop in given.findall("stop"))
        named = self._routes.get(given.get("route", ""), given.find("route"))
        made.extend(self._stop(stop, depart_s) for stop in (() if named is None else named.findall("stop")))
        return made

    def _stop(self, given: Element, shift_s: float) -> Element:
        """Return a stop with its lane, which cutRoutes needs, and its times by the clock."""
        stop = Element("stop", given.attrib)
        for name in ("until", "arrival"):
            if name in stop.attrib:
                stop.set(name, f"{seconds(stop.attrib[name]) + shift_s:.2f}")
        place = next((self._lane_of[stop.attrib[kind]] for kind in PLACES if stop.get(kind) in self._lane_of), None)
        if place is not None or "edge" in stop.attrib:
            stop.set("lane", place or f"{stop.attrib.pop('edge')}_0")
        return stop
