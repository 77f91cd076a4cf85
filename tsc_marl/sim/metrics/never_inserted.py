"""The metric `never_inserted`."""

from tsc_marl.sim.metrics.base import EpisodeRecord, Metric


class NeverInserted(Metric):
    """Number of vehicles that were never inserted, `dropped` ones included."""

    unit = "veh"
    source = "tripinfo"

    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the number."""
        return float((~episode.trips.inserted).sum())
