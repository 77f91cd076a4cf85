"""The metric `delay_p95`."""

import numpy as np

from tsc_marl.sim.metrics.base import EpisodeRecord, Metric


class DelayP95(Metric):
    """95th percentile of `timeLoss + departDelay` over vehicles."""

    unit = "s"
    source = "tripinfo"

    def __call__(self, episode: EpisodeRecord) -> float:
        """Return the number; nan without vehicles."""
        delay_s = episode.trips.delay_s
        return float(np.percentile(delay_s, 95)) if len(delay_s) else float("nan")
