"""The metric `person_delay`."""

import numpy as np

from tsc_marl.sim.metrics.base import EpisodeRecord, Metric


class PersonDelay(Metric):
    """Mean delay of all persons: in each vehicle by `occupancy`, else 1, and those that SUMO simulates on walks and rides."""

    unit = "s"
    source = "tripinfo, persons, classes, occupancy"
    of_some = True

    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the seconds; nan where each vehicle stands for one person, and nobody walks or rides."""
        trips, persons = episode.trips, episode.persons
        walking_or_riding = len(persons.walk_loss_s)
        total = trips.persons.sum() + walking_or_riding
        if total == 0 or (walking_or_riding == 0 and np.all(trips.persons == 1)):
            return float("nan")
        return float((trips.persons @ trips.delay_s + persons.walk_loss_s.sum() + persons.ride_loss_s.sum()) / total)
