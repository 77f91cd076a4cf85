"""How many persons are in a vehicle: the field `occupancy` of a scenario.yaml, and those that SUMO simulates."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tsc_marl.errors import UserError, unknown
from tsc_marl.sim.simulation import Simulation

Occupancy = tuple[tuple[str, float], ...]
"""Persons in a vehicle of a class, beside those whom SUMO lets ride in it; in one of any other class 1."""


def checked(given: Any, path: Path) -> Occupancy:
    """Return the field of a scenario.

    Args:
        given: what YAML reads.
        path: file of the scenario.

    Raises:
        UserError: for anything but numbers of persons by SUMO's vehicle classes.
    """
    from sumolib.net.lane import SUMO_VEHICLE_CLASSES

    if not isinstance(given, Mapping):
        raise UserError(f"{path}: occupancy must be persons in a vehicle by its class, such as {{bus: 30}}; got {given!r}")
    for name, persons in given.items():
        if name not in SUMO_VEHICLE_CLASSES:
            raise UserError(f"{path}: occupancy: {unknown('vehicle class', str(name), SUMO_VEHICLE_CLASSES)}")
        if isinstance(persons, bool) or not isinstance(persons, int | float) or not 0 <= persons < math.inf:
            raise UserError(f"{path}: occupancy of {name} must be a number of persons, 0 or more; got {persons!r}")
    return tuple((name, float(persons)) for name, persons in sorted(given.items()))


class PersonsInVehicles:
    """Tells how many persons are in each vehicle of an episode.

    Args:
        occupancy: of vehicle classes.
        simulation: the running one.
    """

    def __init__(self, occupancy: Mapping[str, float], simulation: Simulation) -> None:
        self._occupancy, self._vehicles = occupancy, simulation.vehicle
        self._of_class: dict[str, float] = {}
        self._latest: dict[str, float] = {}

    def __call__(self, vehicle: str) -> float:
        """Return the persons in a vehicle that SUMO has loaded."""
        if vehicle not in self._of_class:
            self._of_class[vehicle] = self._occupancy.get(self._vehicles.getVehicleClass(vehicle), 1.0)
        self._latest[vehicle] = self._of_class[vehicle] + self._vehicles.getPersonNumber(vehicle)
        return self._latest[vehicle]

    def latest(self, vehicle: str) -> float:
        """Return the answer before, for a vehicle that may have left; 1 where there was none."""
        return self._latest.get(vehicle, 1.0)
