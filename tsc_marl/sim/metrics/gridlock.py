"""The metric `gridlock`."""

from tsc_marl.sim.metrics.base import EpisodeRecord, Metric


class Gridlock(Metric):
    """1 if an edge was blocked, else 0."""

    unit = "-"
    source = "edges"
    detailed = True

    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the number."""
        return float(bool(episode.blocked_edges))
