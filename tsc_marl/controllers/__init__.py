"""Classical controllers; one file is one controller and the file's name is its name on the command line."""

import sys
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tsc_marl import plugins
from tsc_marl.sim.link_counts import ApproachingVehicles
from tsc_marl.sim.planned_counts import PlannedCounts
from tsc_marl.sim.signal_view import SignalView
from tsc_marl.sim.turning_counts import PlanningContext


class Controller:
    """Base class of the classical controllers: chooses the phases of all signals at each decision.

    It is constructed before its first episode, and may ask for the turning counts of a counting episode.

    Args:
        context: what it may know beforehand.

    Raises:
        UserError: at construction, when it cannot serve the network, in one line.
    """

    sumo_controlled: ClassVar[bool] = False
    """True: SUMO's own signal programs run, and `act` is not asked."""
    programs: str = ""
    """These programs (`sim.signal_programs.xml`); empty for the network's own."""
    number: ClassVar[str] = ""
    """What `phase_numbers` are, with the unit in brackets; empty where no number of each phase decides."""
    exception: ClassVar[str] = ""
    """When it does not choose the legal phase with the largest number."""
    phase_numbers: Sequence[np.ndarray] = ()
    """Per signal [P], the numbers that the last call of `act` decided by."""

    def __init__(self, context: PlanningContext) -> None:
        self.context = context

    def programs_without(self, failed: np.ndarray) -> str:
        """Return `programs` for an episode in which the detectors of some lanes are known to have failed, [L] bool."""
        return self.programs

    def reset(self, seed: int, view: SignalView) -> None:
        """Start an episode, seen at its first second."""

    def reseed(self, seed: int) -> None:
        """Draw other random numbers from now on, where the controller draws any."""

    def act(self, view: SignalView) -> np.ndarray:
        """Return the phase to ask for at each signal, [N] int."""
        return np.zeros(len(view.timers), dtype=int)


TRAFFIC_VEH = 0.5
"""A link with so many vehicles, seen or expected, has traffic."""


class Greedy(Controller):
    """Serves, at every decision, the phase whose green links score highest together; stays on a tie.

    Where detectors are known to have failed, vehicles are expected as planned (`PlannedCounts`).
    A link with traffic that has been red for `MAX_RED_S` comes first. Without that guard, all of these rules starve a side road
    with few vehicles.
    """

    MAX_RED_S = 90.0
    exception: ClassVar[str] = f"a link with traffic that has been red for {MAX_RED_S:.0f} s comes first"

    def __init__(self, context: PlanningContext) -> None:
        super().__init__(context)
        self.links = PlannedCounts(context)

    def reset(self, seed: int, view: SignalView) -> None:
        """Forget the reds of the last episode."""
        self.links.reset(view)
        self._served_s = np.full(self.links.size, view.now_s)

    def scores(self, bound: ApproachingVehicles) -> np.ndarray:
        """Return the score of each link, [L] in the flat numbering of `LinkCounts`: the use of a second of green."""
        raise NotImplementedError

    def act(self, view: SignalView) -> np.ndarray:
        """Return [N] int."""
        bound = self.links.approaching(view)
        near = self.links.count(bound, bound.distance_m <= self.context.detection_m)
        scores = self.scores(bound)
        self.phase_numbers = self.links.of_phases(scores)
        return np.array([self._choose(i, view, self.links.for_signal(near, i)) for i in range(len(view.timers))])

    def _choose(self, i: int, view: SignalView, near: np.ndarray) -> int:
        green, present = self.links.green[i], view.timers[i].phase
        served_s = self.links.for_signal(self._served_s, i)
        served_s[green[present] | (near < TRAFFIC_VEH)] = view.now_s
        score = np.round(self.phase_numbers[i], 6) + 1e6 * (green @ (view.now_s - served_s >= self.MAX_RED_S))
        score = np.where(view.legal[i, : len(green)], score, -np.inf)
        return present if score[present] == score.max() else int(score.argmax())


def available() -> list[str]:
    """Return the names of all controllers."""
    return plugins.available(sys.modules[__name__])


def exists(name: str) -> bool:
    """Return whether a name is that of a controller: a file of this folder, or the import path of a class.

    Raises:
        UserError: for an import path that leads nowhere.
    """
    is_path = ":" in name and "/" not in name and not name.endswith(".pt")
    return name in available() or (is_path and plugins.leads_to(name, Controller, "controller"))


def find(name: str) -> type[Controller]:
    """Return the class of a controller: a file of this folder, or an import path `package.module:Name`.

    Raises:
        UserError: for a name without a class.
    """
    return plugins.find(sys.modules[__name__], name, Controller, "controller")
