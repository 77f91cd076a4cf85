"""SUMO's network file as sumolib reads it, each value checked on the way."""

import contextlib
import gc
import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml import sax
from xml.etree.ElementTree import Element

from sumolib.net import Net, NetReader

from tsc_marl.errors import UserError
from tsc_marl.sim import legal_values
from tsc_marl.sim.output_files import WRITTEN, outputs
from tsc_marl.sim.route_files import DEPARTING
from tsc_marl.sim.xml_files import INCLUDE, elements, open_xml

STATES = frozenset("rugGyYoOs")
"""The characters of a phase's state."""
CHECKED = {*legal_values.TABLE, *WRITTEN, *DEPARTING, INCLUDE, "net", "edge", "param", "WAUT"}
MISSING = {"tlLogic": {"offset": "0", "programID": "<unknown>"}, "junction": {"intLanes": "", "incLanes": ""}}
"""Attributes that SUMO does without and sumolib does not."""


class _Reader(NetReader):
    """sumolib's reader, which refuses values that cannot be and understands those that sumolib does not know."""

    def __init__(self, path: Path) -> None:
        super().__init__(withInternal=True, withPrograms=True)
        self._currentProgram: Any = None
        self._path = path
        self._program: Mapping[str, str] = {}
        self._widths: dict[tuple[str, str], int] = {}
        self._ids: set[tuple[str, ...]] = set()
        self._root = ""
        self.switched: list[str] = []

    def startElement(self, name: str, attrs: Any) -> None:  # noqa: N802  sumolib's name
        """Check an element and hand it to sumolib."""
        self._root = self._root or name
        if self._root != "net":
            raise not_a_network(self._path, f"root element {name}")
        if name in CHECKED:
            self._start_checked(name, dict(attrs))
        else:
            self._hand_on(name, attrs)

    def _start_checked(self, name: str, attributes: dict[str, str]) -> None:
        owner = f"of tlLogic {self._program.get('id')}" if name == "phase" else ""
        legal_values.check(name, attributes, self._path, owner)
        self._check(name, attributes)
        self._hand_on(name, _for_sumolib(name, attributes))
        if name == "tlLogic" and attributes.get("offset") == "begin":
            self._currentProgram._offset = "begin"

    def _hand_on(self, name: str, attrs: Any) -> None:
        try:
            super().startElement(name, attrs)
        except (ValueError, KeyError, AttributeError, IndexError, TypeError) as error:
            raise self._unreadable(name, attrs, error) from None

    @property
    def _in_program(self) -> bool:
        return self._currentProgram is not None

    def _check(self, name: str, attributes: Mapping[str, str]) -> None:
        if name in ("edge", "junction", "tlLogic"):
            key = (name, attributes.get("id", ""), attributes.get("programID", "") if name == "tlLogic" else "")
            if key in self._ids:
                raise UserError(f"{self._path}: {' '.join(key).strip()} is there twice; remove one of them")
            self._ids.add(key)
        if name == "tlLogic":
            self._program = attributes
        elif name == "phase":
            self._check_state(attributes)
        elif name == "WAUT":
            self.switched.append(attributes.get("id", ""))
        elif name in (INCLUDE, *DEPARTING):
            which = attributes.get("id", attributes.get("href", ""))
            raise UserError(f"{self._path}: {name} {which} in a network file; move it to a route or additional file")
        elif written := outputs(name, attributes, "tlLogic" if self._in_program else ""):
            what = f"{name} {attributes.get('id', '')}: {written[0][0]}={written[0][1]!r}"
            raise UserError(f"{self._path}: {what} makes SUMO write a file; move it to an additional file")

    def _check_state(self, attributes: Mapping[str, str]) -> None:
        state, name = attributes.get("state", ""), self._program.get("id", "")
        owner, program = f"of tlLogic {name}", (name, self._program.get("programID", ""))
        if unknown := sorted(set(state) - STATES):
            wanted = f"of {''.join(sorted(STATES))}, not {''.join(unknown)}"
            raise legal_values.illegal("phase", attributes, self._path, "state", wanted, owner)
        width = self._widths.setdefault(program, len(state))
        if len(state) != width or not state:
            wanted = f"{width or 1} characters long, as the first phase"
            raise legal_values.illegal("phase", attributes, self._path, "state", wanted, owner)

    def _unreadable(self, name: str, attributes: Any, error: Exception) -> UserError:
        what, why = f"{name} {attributes.get('id', '')}".strip(), str(error)
        if name == "connection":
            what = f"connection from {attributes.get('from')} to {attributes.get('to')}"
        if isinstance(error, KeyError) and error.args[0] not in dict(attributes).values():
            why = f"attribute {error} is missing"
        elif not isinstance(error, ValueError):
            why = "it joins what is not there"
        return not_a_network(self._path, f"{what}: {why}")


def _for_sumolib(name: str, attributes: dict[str, str]) -> dict[str, str]:
    """Return an element's attributes as sumolib understands them: with all that it needs, and times as seconds."""
    attributes = MISSING.get(name, {}) | attributes
    if name == "tlLogic":
        offset = attributes["offset"]
        attributes["offset"] = "0" if offset == "begin" else f"{legal_values.seconds(offset)}"
    elif name == "phase":
        times = {key: f"{legal_values.seconds(attributes[key])}" for key in ("duration", "minDur", "maxDur") if key in attributes}
        attributes.update({key: text for key, text in times.items()})
    elif name == "net" and "." not in attributes.get("version", "."):
        attributes["version"] += ".0"
    return attributes


def not_a_network(path: Path, why: object) -> UserError:
    """Return the error of a file of another kind."""
    return UserError(f"{path}: not a SUMO network file ({' '.join(str(why).split())}); make it with netconvert")


def read(path: Path, additional: Sequence[Path] = ()) -> tuple[Net, tuple[str, ...]]:
    """Read a network file, and the signal programs in additional files, as SUMO does: the last one of a signal runs.

    Returns the network, and the ids of the WAUTs that change programs by the clock.

    Raises:
        UserError: when it is not a SUMO network, or has a value that cannot be, with element, id and attribute.
    """
    reader = _Reader(path)
    parser = sax.make_parser()
    parser.setContentHandler(reader)
    try:
        with open_xml(path) as file, _without_collector():
            parser.parse(file)
        for extra in additional:
            reader._path = extra
            for element in elements(extra):
                _feed(reader, element)
    except (sax.SAXException, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise not_a_network(path, error) from None
    _check_references(reader.getNet(), path)
    return reader.getNet(), tuple(reader.switched)


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Let no garbage be looked for meanwhile: a large network is all objects that stay, which takes a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _check_references(net: Net, path: Path) -> None:
    """Refuse an edge of a junction that is not there, and a connection through such a lane."""
    for node in net.getNodes():
        if node._coord is None:
            raise not_a_network(path, f"junction {node.getID()} of an edge is not there")
    edges = net.getEdges(withInternal=True)
    lanes = {"", *(lane.getID() for edge in edges for lane in edge.getLanes())}
    for edge in edges:
        for connection in (each for some in edge.getOutgoing().values() for each in some):
            if (via := connection.getViaLaneID()) not in lanes:
                what = f"connection from {edge.getID()} to {connection.getTo().getID()}"
                raise UserError(f"{path}: {what}: via must be a lane of the file; got {via!r}")


def _feed(reader: _Reader, element: Element) -> None:
    """Hand a signal program of an additional file to the reader."""
    if element.tag in ("tlLogic", "WAUT"):
        for part in (element, *element):
            reader.startElement(part.tag, part.attrib)
            if part is not element:
                reader.endElement(part.tag)
        reader.endElement(element.tag)
