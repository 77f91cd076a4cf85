"""Reading of SUMO's XML files: compressed or not, with the files that they include, each value checked."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from xml.parsers import expat

from tsc_marl.errors import UserError
from tsc_marl.sim import legal_values

CHUNK = 1 << 16
ALONE = "tlLogic"
"""SUMO takes a signal program without a root around it."""
INCLUDE = "include"


def open_xml(path: Path) -> BinaryIO | gzip.GzipFile:
    """Open an XML file, compressed or not.

    Raises:
        UserError: when it cannot be read, or defines entities, which SUMO would expand without a limit.
    """
    _check_prolog(path)
    return _open(path)


def root_tag(path: Path) -> str | None:
    """Return the name of an XML file's root element, compressed or not; None of a file that is no XML."""
    try:
        with _open(path) as file:
            return next(element.tag for _, element in ElementTree.iterparse(file, events=("start",)))
    except (ElementTree.ParseError, OSError, EOFError, StopIteration, zlib.error):
        return None


def elements(path: Path) -> Iterator[Element]:
    """Yield the top-level elements of a SUMO XML file, those of the files that it includes in their place.

    The flows of an `interval` come one by one, with its times.

    Raises:
        UserError: when a file is not well-formed, with the line, or has a value that cannot be, with the element.
    """
    yield from _elements(path, (path.resolve(),))


def _elements(path: Path, within: tuple[Path, ...]) -> Iterator[Element]:
    for element in _top_level(path):
        if element.tag == INCLUDE:
            inner = included(element.get("href", ""), path)
            if inner in within:
                raise UserError(f"{path}: include href={element.get('href')!r} comes back to a file that it is in; remove it")
            yield from _elements(inner, (*within, inner))
            continue
        for below in element.iter(INCLUDE) if len(element) else ():
            below.set("href", str(included(below.get("href", ""), path)))
        for single in _dissolved(element):
            legal_values.check_tree(single, path)
            yield single


def included(href: str, path: Path) -> Path:
    """Return the file that a file includes; its path is relative to that file.

    Raises:
        UserError: when it is not there, or lies outside the network's folder.
    """
    inner = inside(href, path, f"include href={href!r}")
    if not inner.is_file():
        raise UserError(f"{path}: include href={href!r}: file {inner} does not exist; correct the path")
    return inner


def includes(path: Path) -> Iterator[Path]:
    """Yield the files that a file includes, and those that they include.

    Raises:
        UserError: as `elements`.
    """
    for element in _top_level(path):
        for below in element.iter(INCLUDE):
            inner = included(below.get("href", ""), path)
            yield inner
            yield from includes(inner)


def inside(name: str, path: Path, what: str) -> Path:
    """Return a file that another one names; its path is relative to that file.

    Raises:
        UserError: when it lies outside the network's folder.
    """
    inner, home = (path.resolve().parent / name).resolve(), network_folder(path.resolve())
    if not inner.is_relative_to(home):
        raise UserError(f"{path}: {what} leads out of the network's folder {home}; move the file into it")
    return inner


def network_folder(path: Path) -> Path:
    """Return the folder of a network: the nearest with a description of one, else the file's own."""
    described = (parent for parent in path.parents if (parent / "scenario.yaml").exists() or any(parent.glob("*.sumocfg")))
    return next(described, path.parent)


def _top_level(path: Path) -> Iterator[Element]:
    try:
        depth, root = 0, ""
        with open_xml(path) as file:
            for event, element in ElementTree.iterparse(file, events=("start", "end")):
                root = root or element.tag
                depth += 1 if event == "start" else -1
                if event == "end" and depth == (root != ALONE):
                    yield element
                    element.clear()
    except (ElementTree.ParseError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise not_well_formed(path, error) from None


def not_well_formed(path: Path, error: Exception) -> UserError:
    """Return the error of a file that is no XML."""
    return UserError(f"{path}: not well-formed XML ({error}); make the file again or correct that line")


def _dissolved(element: Element) -> Iterator[Element]:
    """Yield an element, or the flows of an interval with its times."""
    if element.tag != "interval":
        yield element
        return
    for single in element:
        if single.tag.lower().endswith("flow"):
            single.attrib.update({name: element.attrib[name] for name in ("begin", "end") if name in element.attrib}
                                 | single.attrib)  # fmt: skip
        yield single


def _open(path: Path) -> BinaryIO | gzip.GzipFile:
    with path.open("rb") as file:
        packed = path.suffix == ".gz" or file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb")


def _check_prolog(path: Path) -> None:
    """Refuse a document type with entities or a file of its own, which SUMO would expand and read."""
    parser, seen = expat.ParserCreate(), []

    def refuse(_name: str, system: str | None, _public: str | None, internal: bool) -> None:
        if system or internal:
            raise UserError(f"{path}: has a DOCTYPE with entities or a file of its own, which SUMO needs not; remove it")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = lambda tag, _: seen.append(tag)
    try:
        with _open(path) as file:
            while not seen and (chunk := file.read(CHUNK)):
                parser.Parse(chunk, False)
    except (expat.ExpatError, gzip.BadGzipFile, zlib.error, EOFError):
        return  # whoever reads it says what is wrong
