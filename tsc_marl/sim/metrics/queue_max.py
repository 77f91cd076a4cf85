"""The metric `queue_max`."""

from tsc_marl.sim.metrics.base import EpisodeRecord, Metric


class QueueMax(Metric):
    """Maximum over time of the halting vehicles in the network, per signal."""

    unit = "veh/signal"
    source = "summary"

    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the number."""
        return float(episode.halting.max(initial=0)) / episode.n_signals
