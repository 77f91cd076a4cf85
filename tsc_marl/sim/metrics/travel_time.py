"""The metric `travel_time`."""

from tsc_marl.sim.metrics.base import EpisodeRecord, Metric, mean


class TravelTime(Metric):
    """Mean duration of the vehicles that arrived."""

    unit = "s"
    source = "tripinfo"

    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the number."""
        return mean(episode.trips.duration_s[episode.trips.arrived])
