"""The metric `time_loss`."""

from tsc_marl.sim.metrics.base import EpisodeRecord, Metric, mean


class TimeLoss(Metric):
    """Mean of `timeLoss`: the part of the delay that is lost on the road."""

    unit = "s"
    source = "tripinfo"

    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the number."""
        return mean(episode.trips.time_loss_s)
