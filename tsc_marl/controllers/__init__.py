"""Classical controllers; one file is one controller and the file's name is its name on the command line."""

import sys
from typing import ClassVar

import numpy as np

from tsc_marl import plugins
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.link_counts import ApproachingVehicles, LinkCounts


class Controller:
    """Base class of the classical controllers: chooses the phases of all signals at each decision.

    It is constructed before its first episode, and may simulate a warm-up to count the traffic.

    Raises:
        UserError: at construction, when it cannot serve the network, in one line.
    """

    sumo_controlled: ClassVar[bool] = False
    """True: SUMO's own signal programs run, and `act` is not asked."""
    programs: str = ""
    """These programs (`sim.programs.xml`); empty for the network's own."""

    def __init__(self, env: TrafficEnv) -> None:
        self.env = env

    def reset(self, seed: int) -> None:
        """Start an episode, after the environment's own reset."""

    def act(self) -> np.ndarray:
        """Return the phase to ask for at each signal, [N] int."""
        return np.zeros(len(self.env.names), dtype=int)


class Greedy(Controller):
    """Serves, at every decision, the phase whose green links score highest together; stays on a tie.

    A link with traffic that has been red for `MAX_RED_S` comes first. Without that guard, all of these rules starve a side road
    with few vehicles.
    """

    MAX_RED_S = 90.0

    def __init__(self, env: TrafficEnv) -> None:
        super().__init__(env)
        self.links = LinkCounts(env.net)

    def reset(self, seed: int) -> None:
        """Forget the reds of the last episode."""
        self._served_s = np.full(self.links.size, self.env.now)

    def scores(self, bound: ApproachingVehicles) -> np.ndarray:
        """Return the score of each link, [L] in the flat numbering of `LinkCounts`: the use of a second of green."""
        raise NotImplementedError

    def act(self) -> np.ndarray:
        """Return [N] int."""
        bound = self.links.approaching(self.env.detected, self.env.next_signals)
        near = self.links.count(bound, bound.distance_m <= self.env.config.detection_m)
        scores = self.scores(bound)
        return np.array(
            [
                self._choose(i, self.links.for_signal(near, i), self.links.for_signal(scores, i))
                for i in range(len(self.env.names))
            ]
        )

    def _choose(self, i: int, near: np.ndarray, worth: np.ndarray) -> int:
        green, present = self.links.green[i], self.env.timers[i].phase
        served_s = self.links.for_signal(self._served_s, i)
        served_s[green[present] | (near == 0)] = self.env.now
        score = np.round(green @ worth, 6) + 1e6 * (green @ (self.env.now - served_s >= self.MAX_RED_S))
        score = np.where(self.env.avail[i, : len(green)], score, -np.inf)
        return present if score[present] == score.max() else int(score.argmax())


def available() -> list[str]:
    """Return the names of all controllers."""
    return plugins.available(sys.modules[__name__])


def exists(name: str) -> bool:
    """Return whether a name is that of a controller: a file of this folder, or the import path of a class.

    Raises:
        UserError: for an import path that leads nowhere.
    """
    is_path = ":" in name and not name.endswith(".pt")
    return name in available() or (is_path and plugins.leads_to(name, Controller, "controller"))


def find(name: str) -> type[Controller]:
    """Return the class of a controller: a file of this folder, or an import path `package.module:Name`.

    Raises:
        UserError: for a name without a class.
    """
    return plugins.find(sys.modules[__name__], name, Controller, "controller")
