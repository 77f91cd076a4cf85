"""The observation `movements-persons`: `movements`, and how many persons are bound for each link."""

import numpy as np

from tsc_marl.sim.observations.movements import LINK_FEATURES, Bound, MovementsObservation
from tsc_marl.sim.signal_view import SignalView

PERSONS = 30.0
"""A bus brings the features near 1."""


class MovementsPersonsObservation(MovementsObservation):
    """`movements`, with two more features of each link.

    | feature | meaning | unit |
    |---|---|---|
    | bound_persons | persons in the vehicles that will pass this link | 30 persons |
    | bound_persons_near | those in vehicles within 50 m of the stop line | 30 persons |

    Vehicles report their persons, as those with priority do; one that no detector shows does not. Persons are the class's
    `occupancy` in the scenario, else 1, and those whom SUMO lets ride.
    """

    link_features = (*LINK_FEATURES, "bound_persons", "bound_persons_near")

    def further(self, bound: Bound, view: SignalView) -> list[np.ndarray]:
        """Return [M] of both features, for M links."""
        ids = view.vehicles.ids
        persons = np.array([view.persons(ids[int(k)]) for k in bound.vehicles], dtype=float)
        return [self._bound.count(bound, persons * which) / PERSONS for which in (np.ones(len(persons)), bound.near)]
