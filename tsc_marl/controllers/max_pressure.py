"""Max pressure per movement (Varaiya 2013, doi 10.1016/j.trc.2013.08.014), acyclic, with a starvation guard.

The pressure of a phase is the sum over the movements that it serves of (vehicles bound for the movement within the
detection distance) - (vehicles on the lane it leads to, likewise, over the number of movements that leave that lane).
Parameters: `MAX_RED_S`, after which a waiting movement is served next. Information used: each vehicle's next
movement, which a loop detector does not know: an upper bound for max pressure from real detectors.
"""

import numpy as np

from tsc_marl.controllers import Controller
from tsc_marl.sim.engine import Vehicles
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.signals import GREEN

MAX_RED_S = 90.0


class MaxPressure(Controller):
    """Serves the phase with the largest pressure."""

    def __init__(self, env: TrafficEnv) -> None:
        super().__init__(env)
        self._rank = {name: i for i, name in enumerate(env.names)}
        self._green = [np.array([[c in GREEN for c in state] for state in s.phases]) for s in env.net.signals]
        self._downstream = [
            self._following(signal.movements, green.shape[1]) for signal, green in zip(env.net.signals, self._green, strict=True)
        ]

    def _following(self, movements: tuple, n_links: int) -> list[list[tuple[int, int]]]:
        """Return, per link, the (signal, link) pairs that leave the lane it leads to."""
        leaving: dict[str, list[tuple[int, int]]] = {}
        for i, signal in enumerate(self.env.net.signals):
            for movement in signal.movements:
                leaving.setdefault(movement.in_lane, []).append((i, movement.link))
        following: list[list[tuple[int, int]]] = [[] for _ in range(n_links)]
        for movement in movements:
            following[movement.link] = leaving.get(movement.out_lane, [])
        return following

    def reset(self, seed: int) -> None:
        """Forget the reds of the last episode."""
        self._served_s = [np.full(green.shape[1], self.env.now) for green in self._green]

    def act(self) -> np.ndarray:
        """Return [N] int."""
        demand = self._demand(self.env.vehicles)
        return np.array([self._choose(i, demand) for i in range(len(self.env.names))])

    def _choose(self, i: int, demand: list[np.ndarray]) -> int:
        green, legal = self._green[i], self.env.avail[i, : len(self._green[i])]
        self._served_s[i][green[self.env.timers[i].phase] | (demand[i] == 0)] = self.env.now
        after = np.array([np.mean([demand[s][link] for s, link in f]) if f else 0.0 for f in self._downstream[i]])
        score = green @ (demand[i] - after)
        starved = self.env.now - self._served_s[i] >= MAX_RED_S
        if starved.any():
            score = score + 1e6 * (green @ starved)
        score = np.where(legal, score, -np.inf)
        present = self.env.timers[i].phase
        return present if score[present] == score.max() else int(score.argmax())

    def _demand(self, vehicles: Vehicles) -> list[np.ndarray]:
        """Return, per signal, the vehicles [veh] within the detection distance by their next link."""
        demand = [np.zeros(green.shape[1]) for green in self._green]
        next_tls = self.env.engine.api.vehicle.getNextTLS
        for vehicle in vehicles.ids:
            ahead = next_tls(vehicle)
            if ahead:
                signal, link, distance, _ = ahead[0]
                if distance <= self.env.config.detection_m and signal in self._rank:
                    demand[self._rank[signal]][link] += 1
        return demand
