"""The metric `collisions`."""

from tsc_marl.sim.metrics.base import EpisodeRecord, Metric


class Collisions(Metric):
    """Number of collisions that SUMO acted on, by its `collision.action`."""

    unit = "-"
    source = "summary"

    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the number."""
        return episode.collisions
