"""The observation `lanes`: queues and arrivals of each lane, and the phase."""

import numpy as np

from tsc_marl.sim.lane_features import LANE_FEATURES, LaneFeatures, time_in_phase
from tsc_marl.sim.observations.base import Observation
from tsc_marl.sim.signal_view import SignalContext, SignalView


class LanesObservation(Observation):
    """Per incoming lane, within the detection distance of the stop line, as loops or cameras could count it.

    | feature | meaning | unit |
    |---|---|---|
    | queue | halting vehicles | 10 veh |
    | approaching | moving vehicles | 10 veh |
    | arriving | moving vehicles that reach the stop line before the next decision at their present speed | 5 veh |
    | speed | mean speed over the limit, 1 when the lane is empty | - |
    | waiting | longest time since a vehicle last moved | 100 s |

    then the present phase as one-hot, the time since its start was decided [60 s], and whether it may change now.
    Lanes and phases are padded with zeros to the largest signal, so that a column means the same everywhere.
    A lane that can feed several signal lanes counts in equal shares (`DetectorCoverage`).
    """

    low = 0.0

    def __init__(self, context: SignalContext) -> None:
        super().__init__(context)
        net, self._features = context.network, LaneFeatures(context)
        width = max(self._features.lanes)
        phases = max(len(signal.phases) for signal in net.signals)
        self.size = width * len(LANE_FEATURES) + phases + 2
        lane = [np.arange(width) < n for n in self._features.lanes]
        phase = [np.arange(phases) < len(signal.phases) for signal in net.signals]
        self.real = np.stack(
            [np.concatenate([np.repeat(a, len(LANE_FEATURES)), b, [True, True]]) for a, b in zip(lane, phase, strict=True)]
        )
        """[N, F] bool: the columns that are not padding."""
        self._split = width * len(LANE_FEATURES)
        first = [i * self.size + len(LANE_FEATURES) * np.arange(n) for i, n in enumerate(self._features.lanes)]
        self._place = np.arange(len(LANE_FEATURES))[:, None] + np.concatenate(first)
        """[features, all signal lanes] where each goes in the flat observation."""

    def __call__(self, view: SignalView) -> np.ndarray:
        """Return [N, F] float32."""
        obs = np.zeros((len(view.timers), self.size), dtype=np.float32)
        obs.ravel()[self._place] = self._features(view.vehicles)
        for row, timer in zip(obs, view.timers, strict=True):
            row[self._split + timer.phase] = 1
        obs[:, -2:] = time_in_phase(view)
        return obs
