"""The metric `walk_delay`."""

from tsc_marl.sim.metrics.base import EpisodeRecord, Metric, mean


class WalkDelay(Metric):
    """Mean time that persons lose on their walks; one that is not finished counts with the wait it is in at the end."""

    unit = "s"
    source = "tripinfo, persons"
    of_some = True

    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the seconds."""
        return mean(episode.persons.walk_loss_s)
