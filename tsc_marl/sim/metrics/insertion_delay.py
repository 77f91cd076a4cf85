"""The metric `insertion_delay`."""

from tsc_marl.sim.metrics.base import EpisodeRecord, Metric, mean


class InsertionDelay(Metric):
    """Mean of `departDelay`: the part of the delay before insertion."""

    unit = "s"
    source = "tripinfo"

    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the number."""
        return mean(episode.trips.depart_delay_s)
