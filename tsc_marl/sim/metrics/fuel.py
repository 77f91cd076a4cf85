"""The metric `fuel`."""

from tsc_marl.sim.metrics.base import EpisodeRecord, Metric


class Fuel(Metric):
    """Total fuel."""

    unit = "kg"
    source = "tripinfo"
    detailed = True

    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the number."""
        return float(episode.emissions_mg.sum(axis=0)[1]) / 1e6
