"""The metric `scheduled`."""

from tsc_marl.sim.metrics.base import EpisodeRecord, Metric


class Scheduled(Metric):
    """Number of vehicles scheduled in the window."""

    unit = "veh"
    source = "tripinfo"

    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the number."""
        return float(len(episode.trips.ids))
