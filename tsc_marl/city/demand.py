"""The vehicles and persons of a city: given routes, trips, OD matrices, lines of buses, or at random."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from sumolib.net import Net

from tsc_marl.errors import UserError
from tsc_marl.generator import sumo_programs, traffic
from tsc_marl.sim import route_files, xml_files
from tsc_marl.sim.legal_values import seconds

HOUR_S = 3600
SAMPLED = 1500
"""Random trips whose routes stand for all."""
BUSY = 0.5
"""Flow ratio of the busiest junction (Webster 1958) with the random demand that nobody asked for."""
LINE_EVERY_S = 600
"""Between two vehicles of a line."""
FRINGE = "5"
"""Trips start and end at the edge of the network so many times as often as inside."""


@dataclass
class City:
    """A network's folder while it is made."""

    folder: Path
    work: Path
    """Folder of files that nobody keeps."""
    net: Path
    begin_s: int
    end_s: int
    routes: list[Path] = field(default_factory=list)
    additional: list[Path] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """Of SUMO's programs."""

    def call(self, program: str, options: dict[str, str], advice: str) -> None:
        """Run one of SUMO's programs and keep its warnings.

        Raises:
            UserError: when it refuses.
        """
        self.warnings += sumo_programs.call(program, options, advice)


def at_random(city: City, rate: float | None, seed: int) -> str:
    """Write random vehicles and return a line about them.

    Raises:
        UserError: when no trip has a route.
    """
    routes = candidates(city, SAMPLED, seed)
    chosen = f"{rate:.0f} veh/h" if rate else ""
    if rate is None:
        rate = traffic.vehicles_per_hour(city.net, routes, BUSY)
        chosen = f"{rate:.0f} veh/h, which loads the busiest junction by {BUSY:.0%}; set --rate for others"
    rng, hours = np.random.default_rng(seed), (city.end_s - city.begin_s) / HOUR_S
    departures_s = np.sort(rng.uniform(city.begin_s, city.end_s, max(1, round(rate * hours))))
    path = city.folder / "random.rou.xml"
    traffic.write_vehicles(path, departures_s, [routes[k] for k in rng.integers(len(routes), size=len(departures_s)).tolist()])
    city.routes.append(path)
    return f"random demand, seed {seed}: {chosen}"


def candidates(city: City, number: int, seed: int) -> list[tuple[str, ...]]:
    """Return the routes of random trips of cars, most of them through the network.

    Raises:
        UserError: when no trip has a route.
    """
    path = city.work / "candidates.rou.xml"
    city.call("randomTrips.py", {
        "net-file": str(city.net), "output-trip-file": str(city.work / "candidates.trips.xml"), "route-file": str(path),
        "begin": "0", "end": str(number), "period": "1", "fringe-factor": FRINGE, "edge-permission": "passenger",
        "lanes": "", "validate": "", "remove-loops": "", "random-routing-factor": "1.5", "seed": str(seed),
    }, "no trips of cars have a route: correct the network, or give routes")  # fmt: skip
    routes = [tuple(route.get("edges", "").split()) for route in ElementTree.parse(path).iter("route")]
    if not routes:
        raise UserError(f"{city.net.name}: no trip of a car has a route; correct the network, or give routes")
    return routes


def walking(city: City, roads: Net, rate: float, seed: int) -> str:
    """Write random pedestrians and return a line about them.

    Raises:
        UserError: when nobody can walk.
    """
    lanes = [lane for edge in roads.getEdges() for lane in edge.getLanes()]
    if not any(lane.allows("pedestrian") and not lane.allows("passenger") for lane in lanes):
        raise UserError("persons need sidewalks or footways, and the network has none; for an OSM extract, give --pedestrians")
    trips = city.work / "persons.trips.xml"
    city.call("randomTrips.py", {
        "net-file": str(city.net), "output-trip-file": str(trips), "begin": str(city.begin_s), "end": str(city.end_s),
        "insertion-rate": str(rate), "pedestrians": "", "no-validate": "", "max-distance": "2000", "prefix": "person",
        "seed": str(seed),
    }, "give fewer persons")  # fmt: skip
    routed = route(city, [trips], city.folder / "persons.rou.xml")
    return f"{rate:.0f} random pedestrians an hour{routed}"


def route(city: City, trips: Sequence[Path], path: Path) -> str:
    """Write the trips of some files with routes, and all else as it is; return what was left out, as the end of a line.

    Raises:
        UserError: when duarouter refuses a file, or nothing is left.
    """
    options = {
        "net-file": str(city.net), "route-files": ",".join(map(str, trips)), "output-file": str(path), "keep-flows": "true",
        "alternatives-output": str(city.work / "alternatives.xml"), "ignore-errors": "true", "no-step-log": "true",
    }  # fmt: skip
    if city.additional:
        options["additional-files"] = ",".join(map(str, city.additional))
    city.call("duarouter", options, "correct that file")
    city.routes.append(path)
    before, after = (sum(element.tag in route_files.DEPARTING for file in files for element in xml_files.elements(file))
                     for files in (trips, [path]))  # fmt: skip
    if not after:
        raise UserError(f"{', '.join(file.name for file in trips)}: no trip has a route in this network; correct the file")
    return f"; {before - after} of {before} left out, which have no route" if after < before else ""


def od_matrix(city: City, matrix: Path, taz: Path, seed: int) -> str:
    """Write the trips of an OD matrix with routes and return a line about them.

    Raises:
        UserError: when od2trips or duarouter refuses the files.
    """
    kind = "tazrelation-files" if xml_files.root_tag(matrix) else "od-matrix-files"
    trips = city.work / "od.trips.xml"
    city.call("od2trips", {
        "taz-files": str(taz), kind: str(matrix), "output-file": str(trips), "begin": str(city.begin_s), "end": str(city.end_s),
        "departlane": "best", "departspeed": "max", "seed": str(seed), "spread.uniform": "true",
    }, "correct the matrix or its districts, or set --begin-s and --end-s to its times")  # fmt: skip
    return f"trips of {matrix}{route(city, [trips], city.folder / 'od.rou.xml')}"


def lines(city: City, listed: Path, seed: int) -> str:
    """Write the vehicles of buses and trams with their stops and return a line about them."""
    names = [line.get("name", "") for line in ElementTree.parse(listed).iter("ptLine")]
    if not names:
        return "no line of buses or trams in the extract"
    path = city.folder / "transit.rou.xml"
    stops = next(file for file in city.additional)
    city.call("ptlines2flows.py", {
        "net-file": str(city.net), "begin": str(city.begin_s), "end": str(city.end_s), "period": str(LINE_EVERY_S),
        "ptstops": str(stops), "ptlines": str(listed), "output-file": str(path), "stopinfos-file": str(city.work / "stops.xml"),
        "routes-file": str(city.work / "lines.xml"), "trips-file": str(city.work / "lines.trips.xml"), "ignore-errors": "",
        "vtype-prefix": "pt_", "min-stops": "0", "extend-to-fringe": "", "random-begin": "", "seed": str(seed),
    }, "leave out --transit")  # fmt: skip
    city.routes.append(path)
    return f"{len(names)} line{'s' if len(names) > 1 else ''} of buses or trams, each every {LINE_EVERY_S // 60} min"


def window(paths: Sequence[Path]) -> tuple[int, int]:
    """Return the first second of the departures in some route files, and the one after the last; an hour where no clock tells.

    Raises:
        UserError: when a file is no route file.
    """
    times: list[float] = []
    for path in paths:
        for when, element in route_files.timed(path, 0.0):
            if math.isfinite(when):
                lasts = when + HOUR_S if element.tag in route_files.FLOWS else when
                times += [when, seconds(element.attrib["end"]) if "end" in element.attrib else lasts]
    return (math.floor(min(times)), math.floor(max(times)) + 1) if times else (0, HOUR_S)
