"""What signals show over an episode, from SUMO's log of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tsc_marl.sim import route_files
from tsc_marl.sim.signal_timing import GREEN


@dataclass(frozen=True)
class Lights:
    """What one signal shows over time."""

    states: list[str]
    """Different states, in the order in which they appear."""
    second: list[int]
    """Seconds from the start of the window at which the state changes; the first is 0."""
    shown: list[int]
    """The state from then on, by its number in `states`."""

    def at(self, second: np.ndarray) -> np.ndarray:
        """Return the numbers of the states that the signal shows from some seconds on."""
        return np.array(self.shown)[self._changes_before(second)]

    def phases_at(self, phases: Sequence[str], second: np.ndarray) -> np.ndarray:
        """Return the phases that it shows from some seconds on; -1 between two phases, such as while a link has yellow."""
        names = [phase.lower() for phase in phases]
        of_state = np.array([names.index(state.lower()) if state.lower() in names else -1 for state in self.states])
        return of_state[self.at(second)]

    def next_phases(self, phases: Sequence[str], second: np.ndarray) -> np.ndarray:
        """Return the phases that it shows at some seconds, or changes to; 0 where it never comes to one."""
        greens = [[char in GREEN for char in phase] for phase in phases]
        shown = [[char in GREEN for char in state] for state in self.states]
        phase = np.array([greens.index(state) if state in greens else -1 for state in shown])[self.shown]
        clear = np.flatnonzero(phase >= 0)
        upcoming = np.minimum(np.searchsorted(clear, self._changes_before(second)), len(clear) - 1)
        return phase[clear[upcoming]] if len(clear) else np.zeros(len(second), dtype=int)

    def _changes_before(self, second: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.second, second, "right") - 1


def read(path: Path, names: Sequence[str], begin_s: float) -> list[Lights]:
    """Return the lights of each signal, from SUMO's log.

    Args:
        path: the log, `tls_<seed>.xml`.
        names: of the signals.
        begin_s: SUMO's time at the start of the window.
    """
    lights = {name: Lights([], [], []) for name in names}
    for element in route_files.elements(path):
        of, state = lights[element.get("id", "")], element.get("state", "")
        if of.shown and of.states[of.shown[-1]] == state:
            continue
        if state not in of.states:
            of.states.append(state)
        of.second.append(round(float(element.get("time", "")) - begin_s))
        of.shown.append(of.states.index(state))
    return list(lights.values())
