"""The metric `queue`."""

from tsc_marl.sim.metrics.base import EpisodeRecord, Metric, mean


class Queue(Metric):
    """Mean over time of the halting vehicles in the network, per signal."""

    unit = "veh/signal"
    source = "summary"

    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the number."""
        return mean(episode.halting) / episode.n_signals
