"""The panel beside the network in sumo-gui: running figures, and a bar for each phase of one signal."""

import numpy as np

from tsc_marl.console import shortened
from tsc_marl.sim import signal_sheet
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.viz.phase_values import PolicyRunner
from tsc_marl.viz.plotting import clock
from tsc_marl.viz.running_figures import Figures
from tsc_marl.viz.show.phase_numbers import NumberMeaning, PhaseNumbers

WIDTH = 430
"""Pixels of the panel."""
LINE, LABEL, BAR = 24, 240, 120
"""Pixels of a line's height, of what the phases serve, and of the longest bars to both sides."""
LONGEST = 31
"""Characters of what a phase serves."""
CHOSEN, OTHER = (0, 158, 115, 255), (150, 150, 150, 255)
UNSEEN, MARKED, UNMARKED = (0, 0, 0, 0), (220, 0, 120, 255), (90, 90, 90, 255)
RIM = " rim"
"""Behind a signal's name, the name of its disc's rim."""
FIRST_BAR = 8
"""Lines above the bars."""
WHAT = ("own", "decides", "others")
"""Numbers of `PhaseNumbers`, the first that a policy has is drawn."""


class Panel:
    """Figures at the top, then the numbers of the phases of one signal.

    Args:
        env: a running episode in sumo-gui.
        runner: the policy that drives it.
        name: of the policy.
        pixel: metres of a pixel.
        corner: x and y of the top left corner [m].
        baseline: name of the controller beside the policy.
        signal: number of the signal that is shown until another's disc is selected in the window.
    """

    def __init__(
        self, env: TrafficEnv, runner: PolicyRunner, name: str, pixel: float, corner: tuple[float, float], baseline: str,
        signal: int,
    ) -> None:  # fmt: skip
        self._env, self._api, self._pixel, self._corner = env, env.engine.api, pixel, corner
        self._name, self._baseline, self._signal = name, baseline, signal
        self._numbers = PhaseNumbers(env, runner)
        self._sheets = {sheet.name: sheet for sheet in signal_sheet.of_scenario(env.scenario)}
        meanings = {number.key: number for number in self._numbers.rule.numbers}
        self._meaning: NumberMeaning | None = next((meanings[key] for key in WHAT if key in meanings), None)
        self._reach = 0.0
        for line, of in enumerate(("time", "policy", "policy figures", "baseline", "baseline figures")):
            self._text(f"panel {of}", 0.5 * WIDTH, line)
        self._text("panel signal", 0.5 * WIDTH, FIRST_BAR - 2)
        self._text("panel number", 0.5 * WIDTH, FIRST_BAR - 1.1)
        for phase in range(max(env.n_phases)):
            line = FIRST_BAR + phase
            self._text(f"panel phase {phase}", 0.5 * LABEL, line)
            self._text(f"panel value {phase}", WIDTH - 30, line)
            self._api.polygon.add(f"panel bar {phase}", self._bar(phase, 0.0), OTHER, fill=True, layer=5)
        self._label("panel policy", name)
        self._mark(MARKED)

    def show_figures(self, own: Figures, beside: Figures | None, second: float) -> None:
        """Show the figures of the policy, and of the baseline, where it has any."""
        self._label("panel time", f"{clock(second)} after the start")
        self._label("panel policy figures", str(own))
        if beside is not None:
            self._label("panel baseline", self._baseline)
            self._label("panel baseline figures", str(beside))

    def show_end(self) -> None:
        """Say that the episode has ended: the figures are its result."""
        self._label("panel time", "end of the episode")

    def update(self, chosen: np.ndarray, states: list[str]) -> None:
        """Show the numbers of the decision that was made just now.

        Args:
            chosen: [N] phases.
            states: [N] what the signals show, or change to.
        """
        self._numbers.add()
        self._select()
        signal, legal = self._env.net.signals[self._signal], self._env.avail[self._signal]
        by_program = self._numbers.rule.by_program
        self._label("panel signal", f"signal {signal.name}" + ("" if by_program else "; [phase]: not legal now"))
        if self._meaning is None:
            self._label("panel number", "no number of each phase decides")
            return
        state = states[self._signal]
        now = signal.phases.index(state) if state in signal.phases else -1
        values = self._values(self._meaning, len(signal.phases), now)
        self._reach = max(self._reach, float(np.abs(values).max()))
        for phase in range(max(self._env.n_phases)):
            there = phase < len(values)
            value = float(values[phase]) if there else 0.0
            self._label(f"panel phase {phase}", self._named(phase, legal[phase] or by_program) if there else "")
            self._label(f"panel value {phase}", f"{value:.1f}" if there else "")
            self._api.polygon.setShape(f"panel bar {phase}", self._bar(phase, value))
            self._api.polygon.setColor(f"panel bar {phase}", (CHOSEN if phase == now else OTHER) if there else UNSEEN)

    def _named(self, phase: int, allowed: bool) -> str:
        """Return the number of a phase, and what it serves."""
        signal = self._env.net.signals[self._signal]
        served = self._sheets[signal.name].label(signal.phases[phase])
        return f"{phase if allowed else f'[{phase}]'} {shortened(served, LONGEST)}"

    def _values(self, meaning: NumberMeaning, phases: int, now: int) -> np.ndarray:
        """Return what the bars show; a critic's numbers count from the phase that is shown, as delay where the reward is one."""
        values, unit = self._numbers.latest[meaning.key][self._signal, :phases], f" [{meaning.unit}]" if meaning.unit else ""
        if meaning.key == "decides":
            self._label("panel number", f"{meaning.title} of each phase{unit}")
            return 100 * values if meaning.unit == "%" else values
        self._label("panel number", f"{meaning.title} against the chosen phase{unit}")
        difference = values - values[max(now, 0)]
        return 0.0 - difference if meaning.unit == "veh·s" else difference

    def _select(self) -> None:
        """Turn to the signal whose disc the user has selected in the window, and take the mark off it."""
        for i, name in enumerate(self._env.names):
            if self._api.gui.isSelected(name, "polygon"):
                self._mark(UNMARKED)
                self._signal, self._reach = i, 0.0
                self._mark(MARKED)
                self._api.gui.toggleSelection(name, "polygon")

    def _mark(self, colour: tuple[int, ...]) -> None:
        """Colour the rim of the signal's disc."""
        self._api.polygon.setColor(f"{self._env.names[self._signal]}{RIM}", colour)

    def _bar(self, phase: int, value: float) -> list[tuple[float, float]]:
        """Return the bar of a number: to the right of its axis, to the left for one below zero."""
        axis = LABEL + 0.5 * BAR + 10
        end = axis + 0.5 * BAR * value / max(self._reach, 1e-9)
        low, high = sorted((axis, end + 1.5))
        top = (FIRST_BAR + phase) * LINE + 4
        return [self._place(x, y) for x, y in ((low, top), (high, top), (high, top + LINE - 8), (low, top + LINE - 8))]

    def _place(self, right: float, down: float) -> tuple[float, float]:
        return self._corner[0] + right * self._pixel, self._corner[1] - down * self._pixel

    def _text(self, name: str, right: float, line: float) -> None:
        x, y = self._place(right, (line + 0.5) * LINE)
        self._api.poi.add(name, x, y + 10 * self._pixel, UNSEEN, "")

    def _label(self, name: str, text: str) -> None:
        self._api.poi.setType(name, text)
