"""The metric `warnings`."""

from tsc_marl.sim.metrics.base import EpisodeRecord, Metric


class Warnings(Metric):
    """Number of SUMO's warnings and errors."""

    unit = "-"
    source = "messages"

    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the number."""
        return float(sum(episode.warnings.values()))
