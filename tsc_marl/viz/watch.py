"""One episode in sumo-gui, driven by a policy, with its numbers at the signals, and its delay beside that of fixed time."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from tsc_marl import console
from tsc_marl.errors import UserError, unknown
from tsc_marl.paths import temporary_folder
from tsc_marl.rollout.policies import ControllerPolicy
from tsc_marl.rollout.types import Policy, Task
from tsc_marl.sim.engine import check_display, window_closed_error
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.viz import phase_values, running_figures
from tsc_marl.viz.movement_paths import MovementPath, movement_paths
from tsc_marl.viz.running_figures import Figures, RunningFigures
from tsc_marl.viz.watch_panel import RIM, UNMARKED, UNSEEN, WIDTH, Panel

log = logging.getLogger(__name__)

VIEW = """<viewsettings>
  <scheme name="tsc_marl">
    <background backgroundColor="235,238,240"/>
    <edges widthExaggeration="{wide}"/>
    <vehicles vehicleMode="10" vehicleQuality="2" vehicle_minSize="1" vehicle_exaggeration="{large}">
      <colorScheme name="by waiting time" interpolated="1">
        <entry color="0,114,178" threshold="0"/>
        <entry color="230,159,0" threshold="30"/>
        <entry color="160,20,20" threshold="90"/>
      </colorScheme>
    </vehicles>
    <pois poiType_show="1" poiType_size="55" poiType_color="20,20,20" poiType_bgColor="235,238,240,210" poiType_constantSize="1"/>
  </scheme>
  <delay value="{delay_ms}"/>
</viewsettings>
"""
"""Settings of sumo-gui: roads and vehicles larger than they are, to be visible with the whole network in the window."""

CLEAR_M = 250.0
"""A network up to this extent is drawn to scale."""
WINDOW = (1280, 900)
FREE, LEGEND = (1200 - WIDTH, 540), 150
"""Pixels of the window for the network, and of the legend's height below it."""
VIEW_ID = "View #0"
GREEN, RED = (0, 230, 120, 255), (205, 40, 40, 255)
"""Of movements with green, and of those without."""
BASELINE, RESULT_S = "fixed_time", 15
"""Controller whose figures stand beside those of the policy; how long the window shows the result [s]."""
SWATCHES = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""Positions on the scale of colours that the legend shows, -1 for the lowest and 1 for the highest."""


def watch(
    task: Task, policy: Policy, seed: int, delay_ms: int, quit_on_end: bool = False, signal: str = "", name: str = "",
) -> dict[str, float] | None:  # fmt: skip
    """Open sumo-gui and drive one episode in it; fixed time plays the same seed first, without a window.

    Args:
        task: network and timing.
        policy: the policy, with all its weights.
        seed: SUMO seed.
        delay_ms: real milliseconds for one simulated second.
        quit_on_end: close the window at the end of the window of time, without showing the result first.
        signal: the signal whose phases have a bar each; the first by default.
        name: of the policy in the window; that of its algorithm by default.

    Returns the metrics of the episode (`sim.metrics`); None when the window was closed before the end.

    Raises:
        UserError: when there is no display, the signal is not there, or the weights do not fit the network.
    """
    chosen_signal, name = _number_of(task, signal), name or policy.name
    check_display()
    beside, scale = _baseline(task, policy, seed), value_scale(task, policy, seed)
    with temporary_folder() as folder, closing(policy.task_for(task).env()) as env:
        settings = Path(folder) / "view.xml"
        wide = exaggeration(env)
        settings.write_text(VIEW.format(delay_ms=delay_ms, wide=wide, large=1.5 * wide), encoding="utf-8")
        size = ",".join(map(str, WINDOW))
        options = ["--start", "--quit-on-end", "--gui-settings-file", str(settings), "--window-size", size, "--window-pos", "0,0"]
        try:
            runner = phase_values.PolicyRunner(env, policy, seed, gui=options)
            log.info("%s drives %s, seed %d, in sumo-gui; close its window to stop", name, task.network, seed)
            overlay = Overlay(env, runner, name, scale, chosen_signal)
            for line in overlay.legend:
                log.info(line)
            for figures in _drive(env, runner, overlay):
                overlay.panel.show_figures(figures, next(beside, None), env.now - env.scenario.begin_s)
            if not quit_on_end:
                overlay.panel.show_end()
                time.sleep(RESULT_S)
            metrics = env.metrics()
        except KeyboardInterrupt:
            env.engine.kill_window()
            raise
        except window_closed_error():
            log.info("the window was closed at second %.0f", env.now - env.scenario.begin_s)
            return None
    log.info(
        "delay %.1f s, arrived %.0f of %.0f, never inserted %.0f",
        metrics["delay"], metrics["arrived"], metrics["scheduled"], metrics["never_inserted"],
    )  # fmt: skip
    return metrics


def _drive(env: TrafficEnv, runner: phase_values.PolicyRunner, overlay: "Overlay") -> Iterator[Figures]:
    """Play the episode; yield the figures after each decision."""
    running, done = RunningFigures(env), False
    while not done:
        chosen = runner.choose()
        overlay.update(chosen)
        _, done = env.step(chosen)
        yield running.after_step()


def _number_of(task: Task, signal: str) -> int:
    names = [signal.name for signal in task.net().signals]
    if signal and signal not in names:
        raise unknown("signal", signal, names)
    return names.index(signal) if signal else 0


def _baseline(task: Task, policy: Policy, seed: int) -> Iterator[Figures]:
    """Play fixed time on the same seed; nothing where the policy is fixed time itself, or where that cannot play."""
    if policy.name == BASELINE:
        return iter(())
    try:
        with console.progress(f"{BASELINE} on seed {seed}, to compare", task.decisions, unit="decision") as progress:
            return iter(running_figures.play(task, ControllerPolicy(BASELINE), seed, progress.advance))
    except UserError as error:
        log.info("%s is left out: %s", BASELINE, error)
        return iter(())


def value_scale(task: Task, policy: Policy, seed: int) -> tuple[float, float]:
    """Play the episode without a window; return the scale of its values, so that a colour means the same at all times."""
    shown: list[np.ndarray] = []
    with closing(policy.task_for(task).env()) as env:
        runner, done = phase_values.PolicyRunner(env, policy, seed), False
        if runner.legend is None:
            return 0.0, 1.0
        title = f"{policy.name} on seed {seed}, for the scale of colours"
        with console.progress(title, task.decisions, unit="decision") as progress:
            while not done:
                _, done = env.step(runner.choose())
                shown.append(runner.values)
                progress.advance()
    return phase_values.scale(np.concatenate(shown), runner.legend)


def exaggeration(env: TrafficEnv) -> float:
    """Return the factor by which roads are drawn larger than they are, to be visible."""
    corners = [(signal.x, signal.y) for signal in env.net.signals]
    extent_m = max(max(axis) - min(axis) for axis in zip(*corners, strict=True))
    return max(1.0, min(6.0, extent_m / CLEAR_M))


class Overlay:
    """Discs, green movements and texts at the signals, and a legend below the network.

    Args:
        env: a running episode in sumo-gui.
        runner: the policy that drives the episode.
        name: name of the policy.
        scale: value of the middle colour, and distance from it of the strongest ones.
        explained: number of the signal that the panel shows first.

    Attributes:
        panel: running figures, and the numbers of one signal's phases.
    """

    def __init__(
        self, env: TrafficEnv, runner: phase_values.PolicyRunner, name: str, scale: tuple[float, float], explained: int = 0
    ) -> None:
        self._env, self._runner, self._api, self._scale = env, runner, env.engine.api, scale
        self.legend = [
            f"{name} at each signal: thick lines: movements with green, thin red ones: without; the number: the phase, from 0"
        ]
        if runner.legend is None:
            self.legend.append("grey discs: no critic values this policy's phases; the bars show what it decides by")
        else:
            shown = "colour, and number behind the colon" if runner.legend.local else "colour, the same at all"
            self.legend.append(f"{shown}: {runner.legend.title}")
        self.legend.append("vehicles: blue moves, orange has waited 30 s, red 90 s; pink rim: the signal with the bars")
        low, high = self._api.simulation.getNetBoundary()
        sizes = [(top - bottom) / pixels for bottom, top, pixels in zip(low, high, FREE, strict=True)]
        self._pixel = max(sizes)
        for signal in env.net.signals:
            self._disc(signal.name, signal.x, signal.y, 24 * self._pixel)
            self._text(signal.name, signal.x + 44 * self._pixel, signal.y - 30 * self._pixel)
        self._paths = [movement_paths(signal, self._api.lane.getShape, 24 * self._pixel) for signal in env.net.signals]
        self._shown_green: dict[str, bool] = {}
        self._draw_legend((low[0] + high[0]) / 2, low[1])
        margin, bottom = 20 * self._pixel, LEGEND * self._pixel
        corner = (high[0] + margin, high[1])
        self.panel = Panel(env, runner, name, self._pixel, corner, BASELINE, explained)
        right = high[0] + margin + WIDTH * self._pixel
        self._api.gui.setBoundary(VIEW_ID, low[0] - margin, low[1] - bottom, right, high[1] + margin)

    def update(self, chosen: np.ndarray) -> None:
        """Show the phases [N] that are chosen now, and their values."""
        legend, values, states = self._runner.legend, self._runner.values, self._runner.states(chosen)
        texts = [number(signal.phases, state) for signal, state in zip(self._env.net.signals, states, strict=True)]
        for state, paths in zip(states, self._paths, strict=True):
            for path in paths:
                self._show_movement(path, path.signal_colour(state) == "g")
        if legend is not None:
            if legend.local:
                form = self._form(legend)
                texts = [text if np.isnan(x) else f"{text}: {x:{form}}" for text, x in zip(texts, values, strict=True)]
            for signal, colour in zip(self._env.names, phase_values.colours(values, *self._scale), strict=True):
                self._api.polygon.setColor(signal, (*colour.tolist(), 255))
        for signal, text in zip(self._env.names, texts, strict=True):
            self._api.poi.setType(signal, text)
        self.panel.update(chosen, states)

    def _form(self, legend: phase_values.ValueLegend) -> str:
        """Return the format of the values."""
        return f"{'+' if legend.around_zero else ''}.{0 if self._scale[1] > 10 else 1}f"

    def _show_movement(self, path: MovementPath, green: bool) -> None:
        """Draw a movement, those with green above the others."""
        if self._shown_green.get(path.name) == green:
            return
        if path.name in self._shown_green:
            self._api.polygon.remove(path.name)
        colour, layer, width = (GREEN, 10, 1.5) if green else (RED, 9, 0.6)
        self._api.polygon.add(path.name, path.shape.tolist(), colour, fill=False, layer=layer, lineWidth=width * self._pixel)
        self._shown_green[path.name] = green

    def _draw_legend(self, x: float, top: float) -> None:
        pixel, legend = self._pixel, self._runner.legend
        for i, line in enumerate(self.legend):
            self._text(f"legend line {i}", x, top - (30 + 24 * i) * pixel, line)
        if legend is None:
            return
        y, (middle, reach), form = top - 112 * pixel, self._scale, self._form(legend)
        for share, colour in zip(SWATCHES, phase_values.colours(np.array(SWATCHES), 0.0, 1.0), strict=True):
            self._disc(f"legend {share}", x + 150 * pixel * share, y, 12 * pixel, (*colour.tolist(), 255))
            self._text(f"legend {share}", x + 150 * pixel * share, y - 26 * pixel, f"{middle + share * reach:{form}}")
        self._text("legend low", x - 280 * pixel, y, legend.low)
        self._text("legend high", x + 280 * pixel, y, legend.high)

    def _disc(
        self, name: str, x: float, y: float, radius: float, colour: tuple[int, ...] = (*phase_values.NEUTRAL_COLOUR, 255)
    ) -> None:
        """Draw a disc with a rim above the roads."""
        angles = np.linspace(0, 2 * np.pi, 33)
        for suffix, size, shade, layer in ((RIM, 1.2 * radius, UNMARKED, 4), ("", radius, colour, 5)):
            shape = list(zip(x + size * np.cos(angles), y + size * np.sin(angles), strict=True))
            self._api.polygon.add(name + suffix, shape, shade, fill=True, layer=layer)

    def _text(self, name: str, x: float, y: float, text: str = "") -> None:
        self._api.poi.add(name, x, y + 10 * self._pixel, UNSEEN, text)  # SUMO writes it below the point


def number(phases: Sequence[str], state: str) -> str:
    """Return the number of the phase with this state; `-` for a state between phases of SUMO's own program."""
    return str(phases.index(state)) if state in phases else "-"
