"""What a timetable fixes, whatever the demand: lines of public transport, and who rides in a vehicle that is named."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

PUBLIC_TRANSPORT = (
    "bus", "coach", "tram", "rail_urban", "rail", "rail_electric", "rail_fast", "subway", "cable_car", "ship", "aircraft",
)  # fmt: skip
"""SUMO's vehicle classes of public transport."""
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
        return (
            "line" in element.attrib
            or _stops_for_passengers(element)
            or element.get("type") in self._public
            or element.get("route") in self._stopping
            or element.get("id") in self._ridden
        )

    def _rides(self, person: Element) -> list[str]:
        """Return the vehicles, and the flows of vehicles, that a person names; the names of lines are not among them."""
        names = [name for ride in person.iter("ride") for name in ride.get("lines", "").split()]
        return [base for name in names for base in (name, name.rpartition(".")[0]) if base in self._vehicles]


def _stops_for_passengers(element: Element) -> bool:
    return any({"busStop", "trainStop"} & stop.attrib.keys() for stop in element.iter("stop"))
