"""Records an episode for the page: decisions with the numbers behind them, lights, vehicles and delay."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tsc_marl.paths import temporary_folder
from tsc_marl.rollout.types import Policy, Task
from tsc_marl.sim import metrics, route_files
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.rewards.delay import DelayReward
from tsc_marl.sim.signal_timing import GREEN
from tsc_marl.viz.phase_values import PolicyRunner
from tsc_marl.viz.show import vehicle_paths
from tsc_marl.viz.show.approach_delay import Approaches, ApproachFlows, flows
from tsc_marl.viz.show.phase_numbers import DecisionRule, PhaseNumbers
from tsc_marl.viz.show.vehicle_paths import VehiclePaths


@dataclass(frozen=True)
class Lights:
    """What one signal shows over time."""

    states: list[str]
    """Different states, in the order in which they appear."""
    second: list[int]
    """Seconds from the start of the window at which the state changes; the first is 0."""
    shown: list[int]
    """The state from then on, by its number in `states`."""


@dataclass(frozen=True)
class Recording:
    """An episode of one policy; T decisions, N signals, A phases, E approaches."""

    rule: DecisionRule
    second: np.ndarray
    """[T] of each decision, from the start of the window."""
    phase: np.ndarray
    """[T, N] phase that each decision led to."""
    legal: np.ndarray
    """[T, N, A] bool; whatever SUMO's programs choose was the only choice."""
    numbers: dict[str, np.ndarray]
    """[T, N, A] by the keys of `rule.numbers`."""
    lost_s: np.ndarray
    """[T] time lost by all vehicles until the next decision, since the start [veh·s]."""
    scheduled: np.ndarray
    """[T] vehicles scheduled until the next decision."""
    waiting: np.ndarray
    """[T] of them, those that wait to be inserted."""
    lights: list[Lights]
    """[N]"""
    paths: VehiclePaths
    flows: ApproachFlows
    metrics: dict[str, float]
    """Metrics of the recorded part (`sim.metrics`)."""
    to_s: int
    """End of the recording [s]."""


def record(task: Task, policy: Policy, seed: int, to_s: int, of: Approaches, advance: Callable[[], None]) -> Recording:
    """Play an episode to the second `to_s` and return all that the page shows.

    Args:
        task: network and timing.
        policy: with all its weights.
        seed: SUMO seed.
        to_s: end of the recording, from the start of the window.
        of: the approaches of the network.
        advance: called after each decision.
    """
    with temporary_folder() as folder, closing(policy.task_for(task).env()) as env:
        out, begin_s = Path(folder), env.scenario.begin_s
        traces = ("--fcd-output", str(out / "paths.csv"), *vehicle_paths.OPTIONS)
        runner = PolicyRunner(env, policy, seed, out=out, extra_options=traces)
        numbers, reward = PhaseNumbers(env, runner), DelayReward(env.episode.context)
        rows: list[tuple] = []
        while env.now < begin_s + to_s:
            now, chosen = env.now - begin_s, runner.choose()
            numbers.add()
            legal = env.avail
            env.step(chosen)
            rows.append((now, env.executed, legal, -float(reward(env.vehicles).sum())))
            advance()
        pending = _pending(env)
        measured = env.metrics()
        second, phase, legal, lost_s = (np.array(column) for column in zip(*rows, strict=True))
        lights = _lights(out / f"tls_{seed}.xml", env.names, begin_s)
        if env.episode.sumo_controlled:
            phase = np.column_stack([_shown(env.net.signals[i].phases, light, second) for i, light in enumerate(lights)])
            legal = np.arange(legal.shape[-1]) == phase[:, :, None]
        trips = metrics.read_record(out, seed, len(env.names)).trips
        trips = replace(trips, depart_s=np.where(trips.inserted, trips.depart_s - begin_s, -1.0))
        paths = vehicle_paths.read(out / "paths.csv", env.net, begin_s)
        ends = np.append(second[1:], to_s)
        due = np.where(trips.inserted, trips.depart_s, to_s) - trips.depart_delay_s
        enters = np.where(trips.inserted, trips.depart_s, np.inf)
        scheduled = np.searchsorted(np.sort(due), ends, "right")
        return Recording(
            numbers.rule, second, phase, legal, numbers.arrays(), np.cumsum(lost_s), scheduled,
            scheduled - np.searchsorted(np.sort(enters), ends, "right"), lights, paths,
            flows(paths, trips, pending, of, env.net, second), measured, to_s,
        )  # fmt: skip


def _pending(env: TrafficEnv) -> dict[str, str]:
    """Return the first edges of the vehicles that wait to be inserted."""
    simulation = env.engine.api
    return {name: simulation.vehicle.getRoute(name)[0] for name in simulation.simulation.getPendingVehicles()}


def _lights(path: Path, names: tuple[str, ...], begin_s: float) -> list[Lights]:
    """Return the lights of each signal, from SUMO's log."""
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


def _shown(phases: tuple[str, ...], lights: Lights, second: np.ndarray) -> np.ndarray:
    """Return the phase [T] that a signal shows at some seconds, or changes to; 0 where it never comes to one."""
    greens = [[char in GREEN for char in phase] for phase in phases]
    shown = [[char in GREEN for char in state] for state in lights.states]
    phase_of = np.array([greens.index(state) if state in greens else -1 for state in shown])[lights.shown]
    clear = np.flatnonzero(phase_of >= 0)
    at = np.searchsorted(lights.second, second, "right") - 1
    upcoming = np.minimum(np.searchsorted(clear, at), len(clear) - 1)
    return phase_of[clear[upcoming]] if len(clear) else np.zeros(len(second), dtype=int)
