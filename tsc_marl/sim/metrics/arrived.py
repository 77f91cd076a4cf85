"""The metric `arrived`."""

from tsc_marl.sim.metrics.base import EpisodeRecord, Metric


class Arrived(Metric):
    """Number of vehicles that arrived; none that SUMO took off the road, such as after a collision."""

    unit = "veh"
    source = "tripinfo"

    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the number."""
        return float(episode.trips.arrived.sum())
