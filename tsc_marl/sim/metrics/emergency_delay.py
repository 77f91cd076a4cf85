"""The metric `emergency_delay`."""

from tsc_marl.sim.metrics.base import EpisodeRecord, Metric, mean


class EmergencyDelay(Metric):
    """Mean delay of the emergency vehicles."""

    unit = "s"
    source = "tripinfo, classes"
    of_some = True

    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the seconds."""
        return mean(episode.trips.delay_s[episode.trips.emergency])
