"""The metric `blocked`."""

from tsc_marl.sim.metrics.base import EpisodeRecord, Metric


class Blocked(Metric):
    """Number of approaches and other edges with at least 5 vehicles, none of which left for 5 minutes."""

    unit = "-"
    source = "edges"
    detailed = True

    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the number."""
        return float(len(episode.blocked_edges))
