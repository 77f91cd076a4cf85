"""The metric `unfinished_walks`."""

from tsc_marl.sim.metrics.base import EpisodeRecord, Metric


class UnfinishedWalks(Metric):
    """Number of persons with a walk that is not finished at the end."""

    unit = "-"
    source = "tripinfo"
    of_some = True

    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the number."""
        return float(episode.persons.unfinished.sum()) if len(episode.persons.unfinished) else float("nan")
