"""Records an episode for the page: decisions with the numbers behind them, lights, vehicles and delay."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tsc_marl.paths import temporary_folder
from tsc_marl.rollout.types import Policy, Task
from tsc_marl.sim.engine import trajectory_options
from tsc_marl.sim.lights import Lights
from tsc_marl.sim.route_files import TICK_S
from tsc_marl.viz import traffic_files
from tsc_marl.viz.approach_delay import Approaches, ApproachFlows, flows
from tsc_marl.viz.phase_values import PolicyRunner
from tsc_marl.viz.running_figures import LostTime
from tsc_marl.viz.show.phase_numbers import DecisionRule, PhaseNumbers
from tsc_marl.viz.vehicle_paths import VehiclePaths


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
    """[T] vehicles scheduled until the next decision, after the warm-up."""
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
        runner = PolicyRunner(env, policy, seed, out=out, extra_options=trajectory_options(out, seed))
        numbers, lost = PhaseNumbers(env, runner), LostTime(env)
        rows: list[tuple] = []
        while env.now < begin_s + to_s:
            now, chosen = env.now - begin_s, runner.choose()
            numbers.add()
            legal = env.avail
            env.step(chosen)
            rows.append((now, env.executed, legal, lost.after_step()))
            advance()
        pending = {name: route[0] for name, route in env.routes_of_waiting().items()}
        measured = env.metrics()
        second, phase, legal, lost_s = (np.array(column) for column in zip(*rows, strict=True))
        files = traffic_files.read(out, seed, env.net, begin_s)
        trips, lights = files.trips, files.lights
        if env.episode.sumo_controlled:
            phase = np.column_stack([light.next_phases(env.net.signals[i].phases, second) for i, light in enumerate(lights)])
            legal = np.arange(legal.shape[-1]) == phase[:, :, None]
        ends = np.append(second[1:], to_s)
        due = np.where(trips.inserted, trips.depart_s, to_s) - trips.depart_delay_s
        enters = np.where(trips.inserted, trips.depart_s, np.inf)
        waiting = np.searchsorted(np.sort(due), ends, "right") - np.searchsorted(np.sort(enters), ends, "right")
        counted = np.sort(due[due >= env.scenario.warmup_s - TICK_S])
        return Recording(
            numbers.rule, second, phase, legal, numbers.arrays(), lost_s, np.searchsorted(counted, ends, "right"), waiting,
            lights, files.paths, flows(files.paths, trips, pending, of, env.net, second), measured, to_s,
        )  # fmt: skip
