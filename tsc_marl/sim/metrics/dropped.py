"""The metric `dropped`."""

from tsc_marl.sim.metrics.base import EpisodeRecord, Metric


class Dropped(Metric):
    """Number of vehicles that SUMO threw away before they came onto the road; they count as never inserted."""

    unit = "veh"
    source = "dropped"

    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the number."""
        return float(len(episode.dropped))
