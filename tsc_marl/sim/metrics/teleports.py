"""The metric `teleports`."""

from tsc_marl.sim.metrics.base import EpisodeRecord, Metric


class Teleports(Metric):
    """Number of vehicles that SUMO moved away: after collisions alone, since no vehicle is moved for its waiting."""

    unit = "veh"
    source = "summary"

    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the number."""
        return episode.teleports
