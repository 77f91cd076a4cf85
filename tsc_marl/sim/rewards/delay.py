"""The reward `delay`: minus the time that vehicles lose."""

from collections.abc import Sequence

import numpy as np

from tsc_marl.sim.engine import Vehicles
from tsc_marl.sim.rewards.base import Reward
from tsc_marl.sim.signal_view import EpisodeContext


class DelayReward(Reward):
    """Minus the time lost [veh·s] since the last decision, charged to the signals so that they add up to the network's.

    A vehicle on the road loses `(1 - v / v_allowed) dt` (SUMO's timeLoss); one waiting to be inserted loses dt
    (SUMO's departDelay), charged at the signal downstream of its first edge. Summed over signals and decisions this
    is the total of `timeLoss + departDelay` over all scheduled vehicles. What a vehicle loses between the last decision
    and its arrival is not reported by SUMO; it is taken as half a decision at its last speed.
    """

    def __init__(self, context: EpisodeContext) -> None:
        super().__init__(context)
        self._api, self._decision_s = context.simulation, context.timing.decision_s
        self._lost: dict[str, float] = {}
        self._last: Vehicles | None = None
        self._weight = np.zeros(0)
        self._pending: dict[str, tuple[int, float]] = {}

    def __call__(self, vehicles: Vehicles) -> np.ndarray:
        """Return [N] in vehicle-seconds, never positive but for rounding."""
        delay_of = self._api.vehicle.getDepartDelay
        before = list(map(self._lost.get, vehicles.ids))
        for i in [i for i, lost in enumerate(before) if lost is None]:
            _, charged = self._pending.pop(vehicles.ids[i], (0, 0.0))
            before[i] = charged - delay_of(vehicles.ids[i])
        weight = self.weights(vehicles.ids)
        charge = self._charge(vehicles.lane, (vehicles.lost_s - np.array(before, dtype=float)) * weight)
        parked = {name: self._lost[name] for name in vehicles.parked & self._lost.keys()}
        self._lost = parked | dict(zip(vehicles.ids, vehicles.lost_s.tolist(), strict=True))
        if self._last is not None:
            gone = [i for i, name in enumerate(self._last.ids) if name not in self._lost]
            lane = self._last.lane[gone]
            slow = 1 - self._last.speed_ms[gone] / self.network.lane_limit_ms[lane]
            charge += self._charge(lane, slow * self._decision_s / 2 * self._weight[gone])
        self._last, self._weight = vehicles, weight
        pending = self._api.simulation.getPendingVehicles()
        for name, each in zip(pending, self.weights(pending), strict=True):
            signal, charged = self._pending.get(name) or (self._first_signal(name), 0.0)
            total = delay_of(name)
            charge[signal] += (total - charged) * each
            self._pending[name] = (signal, total)
        return -charge

    def weights(self, vehicles: Sequence[str]) -> np.ndarray:
        """Return how many times the loss of each vehicle counts, [M] float."""
        return np.ones(len(vehicles))

    def _charge(self, lane: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        return np.bincount(self.network.charged_signal[lane], weights=seconds, minlength=len(self.network.signals)).astype(float)

    def _first_signal(self, name: str) -> int:
        return self.network.signal_charged_on(self._api.vehicle.getRoute(name)[0])
