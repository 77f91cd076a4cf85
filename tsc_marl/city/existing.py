"""The files of a SUMO configuration, copied into a network's folder."""

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from tsc_marl.city import demand
from tsc_marl.city.demand import City
from tsc_marl.errors import UserError
from tsc_marl.generator import sumo_programs
from tsc_marl.sim import output_files, route_files, sumocfg, xml_files

DECORATION = ("poly", "poi", "polygon")
"""Elements of additional files that only a map shows."""

TYPES = ("vType", "vTypeDistribution")


def fields(path: Path, end_s: int | None) -> dict[str, Any]:
    """Return the fields of a configuration, with the paths of its files.

    Raises:
        UserError: when it is none, or a file of it is not there.
    """
    raw = sumocfg.read(path, demand.HOUR_S if end_s is None else end_s)
    for field in ("routes", "additional"):
        raw[field] = [_there(path, name) for name in raw[field]]
    raw["net"] = _there(path, raw["net"])
    raw["additional"] = [file for file in raw["additional"] if not _is_decoration(file)]
    return raw


def _there(path: Path, name: str) -> Path:
    file = path.parent / name
    if not file.is_file():
        raise UserError(f"{path}: file {file} does not exist; correct the path in {path.name}")
    return file


def _is_decoration(path: Path) -> bool:
    """Return whether a file has only what a map shows, such as buildings."""
    tags = {element.tag for element in xml_files.elements(path)}
    return bool(tags) and tags <= {*DECORATION, "location"}


def take_routes(city: City, paths: list[Path], home: Path) -> str:
    """Copy route files as they are, with routes for their trips; return what was left out, as the end of a line.

    Raises:
        UserError: when they cannot be read, or no trip has a route.
    """
    parts: dict[bool, list[tuple[float, Element]]] = {True: [], False: []}
    for path in paths:
        for when, element in route_files.timed(path, city.begin_s):
            parts[element.tag == "trip"].append((when, copy.deepcopy(element)))
    if not parts[True]:
        city.routes += [copied(path, home, city.folder) for path in paths]
        return ""
    kept, trips, routed = city.folder / "routes.rou.xml", city.work / "trips.xml", city.folder / "trips.rou.xml"
    route_files.write(kept, parts[False])
    types = [entry for entry in parts[False] if entry[1].tag in TYPES]
    route_files.write(trips, types + parts[True])
    left_out = demand.route(city, [trips], routed)
    root = ElementTree.parse(routed).getroot()
    for element in [element for element in root if element.tag in TYPES]:
        root.remove(element)
    sumo_programs.write(root, routed)
    city.routes.insert(-1, kept)
    return left_out


def copied(path: Path, home: Path, folder: Path) -> Path:
    """Copy a file with all that it includes and names; return the copy, where it lay below `home`, else in the folder itself.

    Raises:
        UserError: when a file of another origin has the same name, or an included one lies elsewhere.
    """
    for source in (path, *_needed(path)):
        target = _target(source, home, folder)
        if target.exists() and target.read_bytes() != source.read_bytes():
            raise UserError(f"{source}: another file of the network has the name {target.name}; rename it")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return _target(path, home, folder)


def _target(path: Path, home: Path, folder: Path) -> Path:
    full, root = path.resolve(), home.resolve()
    return folder / (full.relative_to(root) if full.is_relative_to(root) else full.name)


def _needed(path: Path) -> Iterator[Path]:
    """Yield the files that a file includes, and those that its elements name."""
    yield from xml_files.includes(path)
    for top in xml_files.elements(path):
        for _, _, name in output_files.inputs(top):
            file = xml_files.inside(name, path, f"file {name}")
            if file.is_file():
                yield file
