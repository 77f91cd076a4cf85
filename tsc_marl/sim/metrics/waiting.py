"""The metric `waiting`."""

from tsc_marl.sim.metrics.base import EpisodeRecord, Metric, mean


class Waiting(Metric):
    """Mean time below 0.1 m/s of the inserted vehicles."""

    unit = "s"
    source = "tripinfo"

    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the number."""
        return mean(episode.trips.waiting_s[episode.trips.inserted])
