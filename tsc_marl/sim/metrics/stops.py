"""The metric `stops`."""

from tsc_marl.sim.metrics.base import EpisodeRecord, Metric, mean


class Stops(Metric):
    """Mean number of times that an inserted vehicle fell below 0.1 m/s."""

    unit = "1/veh"
    source = "tripinfo"

    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the number."""
        return mean(episode.trips.stops[episode.trips.inserted])
