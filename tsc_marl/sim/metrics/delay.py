"""The metric `delay`."""

from tsc_marl.sim.metrics.base import EpisodeRecord, Metric, mean


class Delay(Metric):
    """Mean of `timeLoss + departDelay`; a vehicle never inserted is charged until the horizon."""

    unit = "s"
    source = "tripinfo"

    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the number."""
        return mean(episode.trips.delay_s)
