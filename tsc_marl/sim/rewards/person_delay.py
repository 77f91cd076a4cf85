"""The reward `person-delay`: minus the time that persons lose."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from tsc_marl.sim.engine import HALTING_MS, Vehicles
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
        self._of_class: dict[str, float] = {}
        self._riders: Counter[str] = Counter()

    def __call__(self, vehicles: Vehicles) -> np.ndarray:
        """Return [N] in person-seconds, never positive but for rounding."""
        ids = self._persons.getIDList()
        inside = [self._persons.getVehicle(person) for person in ids]
        self._riders = Counter(filter(None, inside))
        standing = np.zeros(len(self.network.signals))
        for person in (person for person, vehicle in zip(ids, inside, strict=True) if not vehicle):
            if self._persons.getSpeed(person) < HALTING_MS and self._persons.getStage(person).type == WALKING:
                standing[self.network.signal_charged_on(self._persons.getRoadID(person))] += 1
        return super().__call__(vehicles) - standing * self._decision_s

    def weights(self, vehicles: Sequence[str]) -> np.ndarray:
        """Return the persons in each vehicle, [M] float."""
        of_class, riders = self._of_class, self._riders
        for name in vehicles:
            if name not in of_class:
                of_class[name] = self.context.occupancy.get(self._api.vehicle.getVehicleClass(name), 1.0)
        return np.array([of_class[name] + riders[name] for name in vehicles], dtype=float)
