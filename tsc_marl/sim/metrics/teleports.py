"""The metric `teleports`."""

from tsc_marl.sim.metrics.base import EpisodeRecord, Metric


class Teleports(Metric):
    """Number of vehicles that SUMO moved away; 0, since teleporting is off."""

    unit = "veh"
    source = "summary"

    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the number."""
        return episode.teleports
