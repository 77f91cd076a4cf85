"""SUMO's route files: when the vehicles in them depart."""

import copy
import functools
import gzip
import math
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from tsc_marl.errors import UserError

VEHICLES = ("vehicle", "trip")
RATES = ("period", "vehsPerHour", "perHour", "probability")
"""Attributes that say how often a vehicle of a flow departs."""
UNTIMED = ("triggered", "containerTriggered", "split", "now")
"""Departures that no clock tells: a passenger boards, a train is parted."""
DAY_S = 86400.0
"""How long a flow lasts that does not say so."""
TICK_S = 0.001
"""SUMO's clock: what departs between two ticks departs at once."""
LEAST = 1e-9
TIME = "a time in seconds or h:m:s"


def elements(path: Path) -> Iterator[Element]:
    """Yield the top-level elements of a SUMO XML file, compressed or not.

    Raises:
        UserError: when the file is not well-formed, with the line.
    """
    try:
        depth = 0
        with _open(path) as file:
            for event, element in ElementTree.iterparse(file, events=("start", "end")):
                depth += 1 if event == "start" else -1
                if event == "end" and depth == 1:
                    yield element
                    element.clear()
    except (ElementTree.ParseError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path}: not well-formed XML ({error}); make the file again or correct that line") from None


def _open(path: Path) -> BinaryIO | gzip.GzipFile:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def departure(element: Element, path: Path, begin_s: float) -> float | None:
    """Return when [s] a vehicle, person or container departs, or the first one of a flow.

    None where no clock tells, and for elements that do not depart, as types and routes.

    Args:
        element: of a route file.
        path: that file.
        begin_s: when the simulation begins, which is when a flow begins that says nothing else.

    Raises:
        UserError: when SUMO would not understand it, with file and id.
    """
    name = "depart" if element.tag in VEHICLES or "depart" in element.attrib else "begin"
    given = element.get(name, "begin" if element.tag == "flow" else None)
    if given in UNTIMED or (given is None and element.tag not in VEHICLES):
        return None
    return begin_s if given == "begin" else _number(element, name, path, seconds, TIME)


def timed(path: Path, begin_s: float) -> Iterator[tuple[float, Element]]:
    """Yield the elements of a route file with their departures [s], of flows the first; the next one empties the last.

    What departs when no clock tells has the departure before it in the file; what does not depart, as types and routes, -inf.

    Raises:
        UserError: when SUMO would not understand a departure, with file and id.
    """
    last = -math.inf
    for element in elements(path):
        when = departure(element, path, begin_s)
        last = last if when is None else when
        yield last if when is not None or {"depart", "begin"} & element.attrib.keys() else -math.inf, element


def write(path: Path, content: Iterable[tuple[float, Element]]) -> None:
    """Write a route file sorted by departure."""
    root = Element("routes")
    root.extend(element for _, element in sorted(content, key=lambda entry: entry[0]))
    ElementTree.ElementTree(root).write(path)


def sort(paths: Iterable[Path], begin_s: float, path: Path) -> None:
    """Write what is in some route files to one that is sorted by departure."""
    write(path, [copy.deepcopy(entry) for given in paths for entry in timed(given, begin_s)])


@functools.cache
def in_order(path: Path, begin_s: float) -> bool:
    """Return whether a route file is sorted by departure: what comes too late in the file SUMO leaves out.

    Raises:
        UserError: when SUMO would not understand a departure, with file and id.
    """
    times = [when for when, _ in timed(path, begin_s) if when > -math.inf]
    return times == sorted(times)


def departures(flow: Element, path: Path, begin_s: float, end_s: float, rng: np.random.Generator) -> list[float]:
    """Return when [s] the vehicles of a flow depart in [begin_s, end_s): evenly spaced as in SUMO, or drawn by the flow's law.

    Raises:
        UserError: when SUMO would not understand the flow, with file and id.
    """
    plan = _plan(flow, path, begin_s)
    first, last = max(plan.first_s, begin_s), min(plan.last_s, end_s)
    if plan.law == "probability":
        seconds = np.arange(first, last)
        times = seconds[rng.random(len(seconds)) < plan.per_s]
    elif plan.law == "exp":
        times = np.sort(rng.uniform(first, max(first, last), rng.poisson(plan.per_s * max(0.0, last - first))))
    else:
        total = math.ceil(plan.per_s * max(0.0, last - plan.first_s) - 1e-9)
        times = plan.first_s + np.arange(min(total, plan.number)) / plan.per_s
        return times[times >= begin_s].tolist()
    return times[: min(len(times), plan.number)].tolist()


def expected(flow: Element, path: Path, begin_s: float, end_s: float) -> float:
    """Return how many vehicles [veh] of a flow depart in [begin_s, end_s): on average, where the flow is random.

    Raises:
        UserError: when SUMO would not understand the flow, with file and id.
    """
    plan = _plan(flow, path, begin_s)
    if plan.law == "even":
        return len(departures(flow, path, begin_s, end_s, np.random.default_rng()))
    return min(plan.per_s * max(0.0, min(plan.last_s, end_s) - max(plan.first_s, begin_s)), plan.number)


@dataclass(frozen=True)
class _FlowSchedule:
    """A flow: at most `number` vehicles in [first_s, last_s), `per_s` a second on average."""

    first_s: float
    last_s: float
    number: int
    per_s: float
    law: str = "even"


def _plan(flow: Element, path: Path, begin_s: float) -> _FlowSchedule:
    first = departure(flow, path, begin_s)
    if first is None:
        return _FlowSchedule(begin_s, begin_s, 0, 1.0)
    number = int(_number(flow, "number", path, int, "a whole number")) if "number" in flow.attrib else sys.maxsize
    rate = next((name for name in RATES if name in flow.attrib), None)
    last = first + DAY_S if rate is None or "number" not in flow.attrib else math.inf
    if "end" in flow.attrib:
        last = _number(flow, "end", path, seconds, f"{TIME}, from begin on", least=first)
    if rate is not None:
        law = "probability" if rate == "probability" else "exp" if flow.attrib[rate].startswith("exp(") else "even"
        return _FlowSchedule(first, last, number, _per_second(flow, rate, path), law)
    if "number" not in flow.attrib:
        raise UserError(f"{path}: flow {flow.get('id')} needs number or one of {', '.join(RATES)}; it has none")
    last = max(last, first + TICK_S)
    return _FlowSchedule(first, last, number, max(number, 1) / (last - first))


def _per_second(flow: Element, rate: str, path: Path) -> float:
    if flow.attrib[rate].startswith("exp("):
        return _number(flow, rate, path, lambda text: float(text[4:-1]), "exp(rate) with a rate above 0", least=LEAST)
    if rate == "period":
        return 1 / _number(flow, rate, path, seconds, f"{TIME}, above 0, or exp(rate)", least=LEAST)
    if rate == "probability":
        return _number(flow, rate, path, float, "above 0 and at most 1", least=LEAST, most=1.0)
    return _number(flow, rate, path, float, "above 0", least=LEAST) / 3600


def seconds(text: str) -> float:
    """Return a time of SUMO [s], given in seconds, as h:m:s or as d:h:m:s.

    Raises:
        ValueError: for any other text.
    """
    parts = [float(part) for part in text.split(":")]
    if len(parts) not in (1, 3, 4):
        raise ValueError
    return sum(part * unit for part, unit in zip(reversed(parts), (1, 60, 3600, DAY_S), strict=False))


def _number(
    element: Element, name: str, path: Path, parse: Callable[[str], float], wanted: str,
    least: float = 0.0, most: float = sys.maxsize,
) -> float:  # fmt: skip
    """Return what an attribute says, or tell where it stands and what was wanted."""
    given = element.get(name, "")
    try:
        value = parse(given)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise UserError(f"{path}: {element.tag} {element.get('id')}: {name} must be {wanted}; got {given!r}")
    return value
