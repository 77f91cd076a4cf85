"""What a timetable fixes, whatever the demand: lines of public transport, and who rides in a vehicle that is named."""

import copy
import functools
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from tsc_marl.sim import route_files
from tsc_marl.sim.scenario import Scenario

PUBLIC_TRANSPORT = (
    "bus", "coach", "tram", "rail_urban", "rail", "rail_electric", "rail_fast", "subway", "cable_car", "ship", "aircraft",
)  # fmt: skip
"""SUMO's vehicle classes of public transport."""
EMERGENCY = "emergency"
"""SUMO's vehicle class of ambulances, fire engines and police cars on duty."""
PASSENGER = "passenger"
"""The class of types without one: cars."""
OWN_TYPES = {
    "DEFAULT_VEHTYPE": PASSENGER, "DEFAULT_BIKETYPE": "bicycle", "DEFAULT_TAXITYPE": "taxi", "DEFAULT_RAILTYPE": "rail",
}  # fmt: skip
"""The class of each of SUMO's own vehicle types."""
VEHICLES = ("vehicle", "trip", "flow")
PERSONS = ("person", "personFlow")


class Timetable:
    """Tells the elements of route files that a timetable fixes.

    Args:
        elements: of all route and additional files.
    """

    def __init__(self, elements: Sequence[Element]) -> None:
        types = (vtype for element in elements for vtype in element.iter("vType"))
        self._public = {vtype.get("id") for vtype in types if vtype.get("vClass") in PUBLIC_TRANSPORT}
        self._stopping = {route.get("id") for route in elements if route.tag == "route" and _stops_for_passengers(route)}
        self._vehicles = {element.get("id", "") for element in elements if element.tag in VEHICLES}
        persons = (element for element in elements if element.tag in PERSONS)
        self._ridden = {name for person in persons for name in self._rides(person)}

    def fixes(self, element: Element) -> bool:
        """Return whether a vehicle, a flow or a person comes as the files say.

        A vehicle does that belongs to a line, stops where passengers wait, is of a class of public transport, or that a
        person names. A person does who rides in a vehicle by its name.
        """
        if element.tag in PERSONS:
            return bool(self._rides(element))
        return self.is_transit(element) or element.get("id") in self._ridden

    def is_transit(self, element: Element) -> bool:
        """Return whether a vehicle or a flow belongs to public transport: by its line, its stops, or its class."""
        return (
            "line" in element.attrib
            or _stops_for_passengers(element)
            or element.get("type") in self._public
            or element.get("route") in self._stopping
        )

    def _rides(self, person: Element) -> list[str]:
        """Return the vehicles, and the flows of vehicles, that a person names; the names of lines are not among them."""
        names = [name for ride in person.iter("ride") for name in ride.get("lines", "").split()]
        return [base for name in names for base in (name, name.rpartition(".")[0]) if base in self._vehicles]


def _stops_for_passengers(element: Element) -> bool:
    return any({"busStop", "trainStop"} & stop.attrib.keys() for stop in element.iter("stop"))


def transit(scenario: Scenario) -> frozenset[str]:
    """Return the names of the vehicles, and of the flows of vehicles, that belong to public transport (`has_name`).

    Raises:
        UserError: when a file cannot be read.
    """
    return _fixed(scenario)[0]


def has_name(names: frozenset[str], vehicle: str) -> bool:
    """Return whether a vehicle, or the flow that it is of, is among some names."""
    return vehicle in names or vehicle.rpartition(".")[0] in names


def vehicle_classes(scenario: Scenario) -> dict[str, str]:
    """Return SUMO's class of each vehicle type, by the type's name; its own types too.

    Raises:
        UserError: when a file cannot be read.
    """
    return _fixed(scenario)[1]


def _fixed(scenario: Scenario) -> tuple[frozenset[str], dict[str, str]]:
    paths = (*scenario.routes, *scenario.additional)
    return _read(paths, tuple(path.stat().st_mtime_ns for path in paths))


@functools.lru_cache(maxsize=8)
def _read(paths: tuple[Path, ...], _changed_ns: tuple[int, ...]) -> tuple[frozenset[str], dict[str, str]]:
    tags = ("vType", "vTypeDistribution", "route", *VEHICLES)
    elements = [copy.deepcopy(one) for path in paths for one in route_files.elements(path) if one.tag in tags]
    timetable = Timetable(elements)
    lines = (one.get("id", "") for one in elements if one.tag in VEHICLES and timetable.is_transit(one))
    types = (vtype for one in elements for vtype in one.iter("vType"))
    return frozenset(lines), OWN_TYPES | {vtype.get("id", ""): vtype.get("vClass", PASSENGER) for vtype in types}
