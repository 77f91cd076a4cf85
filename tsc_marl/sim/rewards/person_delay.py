"""The reward `person-delay`: minus the time that persons lose."""

from collections.abc import Sequence

import numpy as np

from tsc_marl.sim.engine import HALTING_MS, Vehicles
from tsc_marl.sim.occupancy import PersonsInVehicles
from tsc_marl.sim.rewards.delay import DelayReward
from tsc_marl.sim.signal_view import EpisodeContext

WALKING = 2
"""SUMO's kind of the stage of a person on foot."""


class PersonDelayReward(DelayReward):
    """Minus the time that persons lose since the last decision [person·s]: `delay`, with the persons in each vehicle.

    A vehicle has the occupancy of its class (`occupancy` of the scenario, else 1), and the persons that SUMO lets ride in it. A
    person on foot who stands at a decision has waited since the last one, at the signal of that crossing or road.
    """

    def __init__(self, context: EpisodeContext) -> None:
        super().__init__(context)
        self._persons = context.simulation.person
        self._in_vehicle = PersonsInVehicles(context.occupancy, context.simulation)

    def __call__(self, vehicles: Vehicles) -> np.ndarray:
        """Return [N] in person-seconds, never positive but for rounding."""
        standing = np.zeros(len(self.network.signals))
        for person in self._persons.getIDList():
            if self._persons.getSpeed(person) < HALTING_MS and self._persons.getStage(person).type == WALKING:
                standing[self.network.signal_charged_on(self._persons.getRoadID(person))] += 1
        return super().__call__(vehicles) - standing * self._decision_s

    def weights(self, vehicles: Sequence[str]) -> np.ndarray:
        """Return the persons in each vehicle, [M] float."""
        return np.array([self._in_vehicle(name) for name in vehicles], dtype=float)
