"""The metric `transit_delay`."""

from tsc_marl.sim.metrics.base import EpisodeRecord, Metric, mean


class TransitDelay(Metric):
    """Mean delay of the vehicles of public transport."""

    unit = "s"
    source = "tripinfo, transit"
    of_some = True

    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the seconds."""
        return mean(episode.trips.delay_s[episode.trips.transit])
