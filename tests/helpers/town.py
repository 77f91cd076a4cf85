"""A town of our own as an OSM extract: `PYTHONPATH=tests python -m helpers.town` writes examples/town.osm.

Three streets cross four others, one of which has two carriageways. A signal for pedestrians stands between two junctions, and
a bus line follows the main street.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

from helpers.cli import ROOT

PATH = ROOT / "examples" / "town.osm"
EAST_M, NORTH_M = (0, 210, 400, 640), (0, 180, 390)
"""Places of the streets."""
END_M = 220
"""Length of a street beyond its last junction."""
APART_M = 16
"""Between the two carriageways."""
ORIGIN = (51.5, 9.5)
WITHOUT_SIGNAL = {(0, 0)}
MAIN, RING = 1, 3
"""The row with the bus, the column with two carriageways."""
WALK_M = 305
"""Place of the footway over the main street."""
STOPS = {-90: "West Gate", 110: "Town Hall", 520: "Station", 760: "East Gate"}
"""Places and names of the bus stops on the main street."""
ROWS = (("Mill Street", "tertiary", 2, 50), ("Main Street", "secondary", 4, 50), ("Park Street", "tertiary", 2, 50))
COLUMNS = (
    ("School Lane", "residential", 2, 30), ("Church Street", "tertiary", 2, 50), ("Canal Street", "residential", 2, 30),
    ("Ring Road", "primary", 2, 50),
)  # fmt: skip


class Town:
    """The elements of the extract."""

    def __init__(self) -> None:
        self.root = ElementTree.Element("osm", {"version": "0.6", "generator": "tests/helpers/town.py"})
        self.ids: dict[tuple[float, float], str] = {}
        self.ways = ElementTree.Element("ways")
        self.made = 0

    def node(self, x: float, y: float, **tags: str) -> str:
        """Return the id of the node at a place [m]."""
        if (x, y) not in self.ids:
            self.made += 1
            self.ids[x, y] = str(self.made)
            lat, lon = ORIGIN[0] + y / 111320, ORIGIN[1] + x / (111320 * math.cos(math.radians(ORIGIN[0])))
            node = ElementTree.SubElement(
                self.root, "node", {"id": str(self.made), "lat": f"{lat:.7f}", "lon": f"{lon:.7f}", "version": "1"}
            )
            _tag(node, tags)
        return self.ids[x, y]

    def way(self, nodes: Iterable[str], **tags: str) -> str:
        """Return the id of a way along nodes."""
        self.made += 1
        way = ElementTree.SubElement(self.ways, "way", {"id": str(self.made), "version": "1"})
        for ref in nodes:
            ElementTree.SubElement(way, "nd", {"ref": ref})
        _tag(way, tags)
        return str(self.made)


def _tag(element: ElementTree.Element, tags: dict[str, str]) -> None:
    for key, value in tags.items():
        ElementTree.SubElement(element, "tag", {"k": key, "v": value})


def write(path: Path = PATH) -> None:
    """Write the file."""
    town = Town()
    lanes_m = [(x,) for x in EAST_M[:RING]] + [(EAST_M[RING], EAST_M[RING] + APART_M)]
    for i, xs in enumerate(lanes_m):
        for j, y in enumerate(NORTH_M):
            for x in xs:
                town.node(x, y, **({} if (i, j) in WITHOUT_SIGNAL else {"highway": "traffic_signals"}))
    middle = NORTH_M[MAIN]
    walk = town.node(WALK_M, middle, highway="traffic_signals", crossing="traffic_signals")
    town.way([town.node(WALK_M, middle - 90), walk, town.node(WALK_M, middle + 90)], highway="footway", name="Mill Path")
    stops = [town.node(x, middle, public_transport="stop_position", bus="yes", name=name) for x, name in STOPS.items()]
    rows = [_row(town, lanes_m, j) for j in range(len(NORTH_M))]
    for i, xs in enumerate(lanes_m):
        _column(town, xs, i)
    town.root.extend(town.ways)
    line = ElementTree.SubElement(town.root, "relation", {"id": str(town.made + 1), "version": "1"})
    for ref in stops:
        ElementTree.SubElement(line, "member", {"type": "node", "ref": ref, "role": "stop"})
    ElementTree.SubElement(line, "member", {"type": "way", "ref": rows[MAIN], "role": ""})
    _tag(line, {"type": "route", "route": "bus", "ref": "1", "name": "Bus 1", "public_transport:version": "2"})
    ElementTree.indent(town.root, " ")
    ElementTree.ElementTree(town.root).write(path, encoding="UTF-8", xml_declaration=True)


def _row(town: Town, lanes_m: list[tuple[int, ...]], j: int) -> str:
    across = [x for xs in lanes_m for x in xs]
    name, kind, lanes, kmh = ROWS[j]
    between = [WALK_M, *STOPS] if j == MAIN else []
    places = sorted([-END_M, *across, *between, across[-1] + END_M])
    tags = {"highway": kind, "name": name, "lanes": str(lanes), "maxspeed": str(kmh), "sidewalk": "both"}
    return town.way((town.node(x, NORTH_M[j]) for x in places), **tags)


def _column(town: Town, xs: tuple[int, ...], i: int) -> None:
    name, kind, lanes, kmh = COLUMNS[i]
    ys = [-END_M, *NORTH_M, NORTH_M[-1] + END_M]
    tags = {"highway": kind, "name": name, "lanes": str(lanes), "maxspeed": str(kmh), "sidewalk": "both"}
    if len(xs) > 1:
        tags |= {"oneway": "yes", "sidewalk": "right"}
    for k, x in enumerate(xs):
        town.way((town.node(x, y) for y in (ys if k or len(xs) == 1 else reversed(ys))), **tags)


if __name__ == "__main__":
    write()
