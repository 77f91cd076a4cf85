"""The metric `worst_approach`."""

from tsc_marl.sim.metrics.base import EpisodeRecord, Metric

USED_VEH = 20


class WorstApproach(Metric):
    """Largest delay per vehicle of an approach that at least 20 vehicles meant to use."""

    unit = "s"
    source = "edges, tripinfo, pending"
    detailed = True

    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the number; nan without such an approach."""
        used = (approach for approach in episode.approaches.values() if approach.vehicles >= USED_VEH)
        return max((approach.delay_s for approach in used), default=float("nan"))
