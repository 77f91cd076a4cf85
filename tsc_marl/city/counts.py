"""Counted traffic: routes whose vehicles pass the counting places as often as counted, and how well they do."""

import csv
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from rich.table import Table
from sumolib.net import Net

from tsc_marl.city import demand
from tsc_marl.city.demand import City
from tsc_marl.errors import UserError, unknown
from tsc_marl.generator import sumo_programs, traffic
from tsc_marl.sim import route_files

PLACES = (("edge",), ("from_edge", "to_edge"))
"""Columns of a place: an edge, or a turn from one edge to the next."""
NUMBERS = ("begin_s", "end_s", "count")
GEH_GOOD = 5.0
"""Below it a modelled flow is close to the counted one (Design Manual for Roads and Bridges, volume 12)."""
GOOD_SHARE = 0.85
"""Share of the counts that should be below it."""
ADJUSTED = "5"
"""How far routeSampler may move the number of vehicles on a route, once drawn, to meet the counts. Without a bound few routes are
left."""
CANDIDATES_PER_EDGE, MOST_CANDIDATES = 20, 20_000
FIT = "counts_fit.csv"
MOST_ROWS = 20
"""Of the table in a terminal, the worst first."""


@dataclass(frozen=True)
class Count:
    """Vehicles counted at one place in one interval."""

    edges: tuple[str, ...]
    """One edge, or the two of a turn."""
    begin_s: float
    end_s: float
    vehicles: float

    @property
    def place(self) -> str:
        return " > ".join(self.edges)

    def geh(self, modelled: float) -> float:
        """Return GEH of as many vehicles in the interval, by hourly flows."""
        per_hour = 3600 / (self.end_s - self.begin_s)
        total = (modelled + self.vehicles) * per_hour
        return math.sqrt(2 * ((modelled - self.vehicles) * per_hour) ** 2 / total) if total else 0.0


def read(paths: Iterable[Path], net: Net) -> list[Count]:
    """Return the counts of CSV files, checked against the network.

    Raises:
        UserError: for a column that is missing, an edge or turn that is not there, and a number that cannot be.
    """
    counts = [count for path in paths for count in _rows(path, net)]
    seen: dict[tuple[str, ...], list[Count]] = {}
    for count in counts:
        for other in seen.setdefault(count.edges, []):
            if count.begin_s < other.end_s and other.begin_s < count.end_s:
                times = f"{other.begin_s:g} to {other.end_s:g} s and {count.begin_s:g} to {count.end_s:g} s"
                raise UserError(f"counts of {count.place} overlap: {times}; leave one out")
        seen[count.edges].append(count)
    if not any(count.vehicles for count in counts):
        raise UserError(f"{', '.join(map(str, paths))}: no vehicle was counted; give counts above 0")
    return counts


def _rows(path: Path, net: Net) -> Iterator[Count]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8; save the counts as CSV") from None
    rows = csv.DictReader(text.splitlines(), delimiter=";" if ";" in text.partition("\n")[0] else ",", skipinitialspace=True)
    names = [name.strip() for name in rows.fieldnames or ()]
    rows.fieldnames = names
    place = next((columns for columns in reversed(PLACES) if set(columns) <= set(names)), None)
    if place is None or not set(NUMBERS) <= set(names):
        wanted = " or ".join(",".join((*columns, *NUMBERS)) for columns in PLACES)
        raise UserError(f"{path}: expected the columns {wanted}; got {','.join(names) or 'an empty file'}")
    empty = True
    for row in rows:
        empty = False
        where = f"{path}, line {rows.line_num}"
        yield Count(_edges(where, [(row[name] or "").strip() for name in place], net), *_numbers(where, row))
    if empty:
        raise UserError(f"{path}: no counts below the header; give a row for each place and interval")


def _edges(where: str, names: Sequence[str], net: Net) -> tuple[str, ...]:
    for name in names:
        if not net.hasEdge(name) or name.startswith(":"):
            raise UserError(f"{where}: {unknown('edge', name, (edge.getID() for edge in net.getEdges(withInternal=False)))}")
    if len(names) == 2 and net.getEdge(names[1]) not in net.getEdge(names[0]).getOutgoing():
        onto = ", ".join(sorted(edge.getID() for edge in net.getEdge(names[0]).getOutgoing())) or "none"
        raise UserError(f"{where}: no turn from edge {names[0]} to {names[1]}; it leads to {onto}")
    return tuple(names)


def _numbers(where: str, row: dict[str, str]) -> list[float]:
    numbers = []
    for name in NUMBERS:
        try:
            number = float(row[name] or "nothing")
        except ValueError:
            raise UserError(f"{where}: {name} must be a number; got {row[name] or 'nothing'}") from None
        if not (math.isfinite(number) and number >= 0):
            raise UserError(f"{where}: {name} must be at least 0 and finite; got {row[name]}")
        numbers.append(number)
    if numbers[0] >= numbers[1]:
        raise UserError(f"{where}: begin_s {numbers[0]:g} must be before end_s {numbers[1]:g}")
    return numbers


def window(counts: Sequence[Count]) -> tuple[int, int]:
    """Return the begin of the first interval and the end of the last [s]."""
    return math.floor(min(count.begin_s for count in counts)), math.ceil(max(count.end_s for count in counts))


def sample(city: City, net: Net, counts: Sequence[Count], given: Sequence[Path], seed: int) -> list[tuple[Count, int]]:
    """Write vehicles that match counts, and the table of the fit; return each count with the vehicles that pass.

    Args:
        city: the network.
        net: the same.
        counts: what was counted.
        given: route files to choose routes from; without, those of random trips.
        seed: of the choice.

    Raises:
        UserError: when no route passes a counted place.
    """
    if given:
        route_files.sort(given, 0.0, city.work / "given.xml")
        demand.route(city, [city.work / "given.xml"], city.work / "given.rou.xml")
        chosen = city.routes.pop()
    else:
        number = min(MOST_CANDIDATES, max(demand.SAMPLED, CANDIDATES_PER_EDGE * len(net.getEdges(withInternal=False))))
        chosen = city.work / "sampled.rou.xml"
        routes = sorted(set(demand.candidates(city, number, seed)))
        traffic.write_vehicles(chosen, np.zeros(len(routes)), routes)
    path = city.folder / "counts.rou.xml"
    options = {
        "route-files": str(chosen), "output-file": str(path), "seed": str(seed), "optimize": ADJUSTED,
        "attributes": 'departLane="best" departSpeed="max"',
    }  # fmt: skip
    for columns, kind in zip(PLACES, ("edgedata-files", "turn-files"), strict=True):
        if own := [count for count in counts if len(count.edges) == len(columns)]:
            file = city.work / f"{kind}.xml"
            _write_data(own, file)
            options[kind] = str(file)
    city.call("routeSampler.py", options, "correct the counts, or give routes that pass the counted places")
    city.routes.append(path)
    fit = list(zip(counts, passing(path, counts), strict=True))
    if not any(modelled for _, modelled in fit):
        raise UserError("no route passes a counted place, so no vehicle comes; correct the places, or give --routes")
    _write_fit(fit, city.folder / FIT)
    return fit


def passing(path: Path, counts: Sequence[Count]) -> list[int]:
    """Return, per count, the vehicles of a route file that depart in its interval and pass its place."""
    places = {count.edges for count in counts}
    departed: list[tuple[float, Counter[tuple[str, ...]]]] = []
    for vehicle in ElementTree.parse(path).iter("vehicle"):
        route = vehicle.find("route")
        edges = route.get("edges", "").split() if route is not None else []
        passed = Counter(place for place in (*((edge,) for edge in edges), *itertools.pairwise(edges)) if place in places)
        departed.append((float(vehicle.get("depart", "0")), passed))
    return [sum(passed[count.edges] for when, passed in departed if count.begin_s <= when < count.end_s) for count in counts]


def verdict(fit: Sequence[tuple[Count, int]]) -> str:
    """Return how many counts are met, in words."""
    good = sum(count.geh(modelled) < GEH_GOOD for count, modelled in fit)
    enough = "" if good >= GOOD_SHARE * len(fit) else f"; {GOOD_SHARE:.0%} is usual for a model that is fit for use"
    return f"GEH below {GEH_GOOD:g} at {good} of {len(fit)} counts ({good / len(fit):.0%}){enough}"


def table(fit: Sequence[tuple[Count, int]]) -> Table:
    """Return the fit as a table, the worst first."""
    worst = sorted(fit, key=lambda entry: -entry[0].geh(entry[1]))[:MOST_ROWS]
    more = f", the worst {MOST_ROWS} of {len(fit)}" if len(fit) > MOST_ROWS else ""
    shown = Table(title=f"counts and modelled vehicles{more}", title_justify="left")
    for k, title in enumerate(("place", "from [s]", "to [s]", "counted [veh]", "modelled [veh]", "GEH")):
        shown.add_column(title, justify="right" if k else "left")
    for count, modelled in worst:
        row = (f"{count.begin_s:g}", f"{count.end_s:g}", f"{count.vehicles:g}", f"{modelled}", f"{count.geh(modelled):.1f}")
        shown.add_row(count.place, *row)
    return shown


def _write_data(counts: Sequence[Count], path: Path) -> None:
    """Write counts as SUMO's data of edges or turns."""
    root = ElementTree.Element("data")
    for times in dict.fromkeys((count.begin_s, count.end_s) for count in counts):
        interval = ElementTree.SubElement(root, "interval", {"id": "counts", "begin": f"{times[0]:g}", "end": f"{times[1]:g}"})
        for count in counts:
            if (count.begin_s, count.end_s) == times and len(count.edges) == 1:
                ElementTree.SubElement(interval, "edge", {"id": count.edges[0], "entered": f"{count.vehicles:.0f}"})
            elif (count.begin_s, count.end_s) == times:
                turn = {"from": count.edges[0], "to": count.edges[1], "count": f"{count.vehicles:.0f}"}
                ElementTree.SubElement(interval, "edgeRelation", turn)
    sumo_programs.write(root, path)


def _write_fit(fit: Sequence[tuple[Count, int]], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("place", *NUMBERS, "modelled", "geh"))
        for count, modelled in fit:
            row = (count.place, f"{count.begin_s:g}", f"{count.end_s:g}", f"{count.vehicles:g}", modelled)
            writer.writerow((*row, f"{count.geh(modelled):.2f}"))
