"""The metric `co2`."""

from tsc_marl.sim.metrics.base import EpisodeRecord, Metric


class Co2(Metric):
    """Total CO2."""

    unit = "kg"
    source = "tripinfo"
    detailed = True

    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the number."""
        return float(episode.emissions_mg.sum(axis=0)[0]) / 1e6
