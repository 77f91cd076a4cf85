"""SUMO's route files: when the vehicles in them depart."""

import copy
import functools
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from tsc_marl.errors import UserError
from tsc_marl.sim.legal_values import END, RATES, TIME, UNTIMED, illegal, per_second, seconds
from tsc_marl.sim.output_files import outputs, redirect
from tsc_marl.sim.xml_files import elements

VEHICLES = ("vehicle", "trip")
FLOWS = ("flow", "personFlow", "containerFlow")
DEPARTING = (*VEHICLES, *FLOWS, "person", "container")
TICK_S = 0.001
"""SUMO's clock: what departs between two ticks departs at once."""


def departure(element: Element, path: Path, begin_s: float) -> float | None:
    """Return when [s] a vehicle, person or container departs, or the first one of a flow.

    None where no clock tells, and for elements that do not depart, as types and routes.

    Args:
        element: of a route file.
        path: that file.
        begin_s: when the simulation begins, which is when a flow begins that says nothing else.

    Raises:
        UserError: when a vehicle has none, with file and id.
    """
    if element.tag not in DEPARTING:
        return None
    name = "depart" if element.tag in VEHICLES or "depart" in element.attrib else "begin"
    given = element.get(name, "begin" if element.tag in FLOWS else None)
    if given in UNTIMED or (given is None and element.tag not in VEHICLES):
        return None
    if given is None:
        raise illegal(element.tag, element.attrib, path, name, TIME)
    return begin_s if given == "begin" else seconds(given)


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
    """Write a route file sorted by departure, whose outputs go to its folder."""
    root = Element("routes")
    root.extend(element for _, element in sorted(content, key=lambda entry: entry[0]))
    for element in root:
        redirect(element, path)
    ElementTree.ElementTree(root).write(path)


def sort(paths: Iterable[Path], begin_s: float, path: Path) -> None:
    """Write what is in some route files to one that is sorted by departure."""
    write(path, [copy.deepcopy(entry) for given in paths for entry in timed(given, begin_s)])


@dataclass(frozen=True)
class _Survey:
    """What decides how SUMO is to play a route file."""

    in_order: bool
    writes: bool
    between_junctions: bool


@functools.cache
def _survey(path: Path, begin_s: float) -> _Survey:
    last, in_order, writes, between_junctions = -math.inf, True, False, False
    for when, top in timed(path, begin_s):
        in_order &= when >= last or when == -math.inf
        last = max(last, when)
        for element in top.iter():
            writes |= bool(outputs(element.tag, element.attrib))
            between_junctions |= "fromJunction" in element.attrib or "toJunction" in element.attrib
    return _Survey(in_order, writes, between_junctions)


def plays_as_it_is(path: Path, begin_s: float) -> bool:
    """Return whether SUMO plays a route file whole: what departs too early for its place there SUMO leaves out.

    A file that names outputs does not, as they would lie beside it.

    Raises:
        UserError: when the file is not well-formed, or has a value that cannot be.
    """
    survey = _survey(path, begin_s)
    return survey.in_order and not survey.writes


def options(paths: Iterable[Path], begin_s: float) -> list[str]:
    """Return SUMO's options that route files need: for trips between junctions, a zone for each junction.

    Raises:
        UserError: as `plays_as_it_is` does.
    """
    return ["--junction-taz"] if any(_survey(path, begin_s).between_junctions for path in paths) else []


def departures(flow: Element, path: Path, begin_s: float, end_s: float, rng: np.random.Generator) -> list[float]:
    """Return when [s] the vehicles of a flow depart in [begin_s, end_s): evenly spaced as in SUMO, or drawn by the flow's law.

    Raises:
        UserError: when SUMO would not understand the flow, with file and id.
    """
    plan = _plan(flow, path, begin_s, end_s)
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


def expected(flow: Element, path: Path, begin_s: float, end_s: float, from_s: float) -> float:
    """Return how many vehicles [veh] of a flow depart in [from_s, end_s): on average, where the flow is random.

    Args:
        flow: element of a route file.
        path: that file.
        begin_s: begin of the simulation.
        end_s: its end.
        from_s: the first departure that counts, not before `begin_s`.

    Raises:
        UserError: when SUMO would not understand the flow, with file and id.
    """
    plan = _plan(flow, path, begin_s, end_s)
    if plan.law == "even":
        return sum(when >= from_s for when in departures(flow, path, begin_s, end_s, np.random.default_rng()))
    return min(plan.per_s * max(0.0, min(plan.last_s, end_s) - max(plan.first_s, from_s)), plan.number)


@dataclass(frozen=True)
class _FlowSchedule:
    """A flow: at most `number` vehicles in [first_s, last_s), `per_s` a second on average."""

    first_s: float
    last_s: float
    number: int
    per_s: float
    law: str = "even"


def _plan(flow: Element, path: Path, begin_s: float, end_s: float) -> _FlowSchedule:
    """Return the schedule of a flow; one that does not say its end lasts until that of the simulation."""
    first = departure(flow, path, begin_s)
    if first is None:
        return _FlowSchedule(begin_s, begin_s, 0, 1.0)
    number = int(flow.get("number", sys.maxsize))
    rate = next((name for name in RATES if name in flow.attrib), None)
    last = max(first, end_s) if rate is None or "number" not in flow.attrib else math.inf
    if "end" in flow.attrib:
        last = seconds(flow.attrib["end"])
        if last < first:
            raise illegal("flow", flow.attrib, path, "end", END.wanted)
    if rate is not None:
        law = "probability" if rate == "probability" else "exp" if flow.attrib[rate].startswith("exp(") else "even"
        return _FlowSchedule(first, last, number, per_second(rate, flow.attrib[rate]), law)
    if "number" not in flow.attrib:
        raise UserError(f"{path}: flow {flow.get('id')} needs number or one of {', '.join(RATES)}; it has none")
    last = max(last, first + TICK_S)
    return _FlowSchedule(first, last, number, max(number, 1) / (last - first))
