"""A clip: the traffic of a part of an episode, second by second, from the files that SUMO writes."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tsc_marl.paths import temporary_folder
from tsc_marl.rollout.types import Policy, Task
from tsc_marl.sim import lights, route_files
from tsc_marl.sim.engine import HALTING_MS
from tsc_marl.viz.phase_values import PolicyRunner, ValueLegend
from tsc_marl.viz.running_figures import LostTime

MOST_FRAMES = 240
"""Largest number of frames. A frame is one simulated second, or several in a longer clip."""


@dataclass(frozen=True)
class Frame:
    """Traffic at one moment; M vehicles, N signals."""

    second: int
    """Seconds from the start of the window."""
    vehicles: np.ndarray
    """[M, 4]: x and y of the front [m], angle [degrees clockwise from north], speed [m/s]."""
    states: tuple[str, ...]
    """SUMO's state of each signal."""
    values: np.ndarray
    """[N] value of each signal's phase, see `PolicyRunner.values`."""
    waiting: int
    """Vehicles that wait to be inserted."""
    lost_s: float
    """Time lost by all vehicles since the start of the window [veh s]."""

    @property
    def halting(self) -> int:
        """Number of halting vehicles."""
        return int((self.vehicles[:, 3] < HALTING_MS).sum())


@dataclass(frozen=True)
class Clip:
    """Clip of one policy."""

    frames: list[Frame]
    legend: ValueLegend | None
    """Legend of the frames' `values`; None for a policy without values."""
    algorithm: str
    """Algorithm or controller of the policy."""
    lost_s: np.ndarray
    """[D, 2] at each decision from the start of the window: second, time lost by all vehicles until then [veh s]."""
    delay_s: float
    """Delay of the episode to the end of the clip, as in `sim.metrics`."""


def record_clip(task: Task, policy: Policy, seed: int, from_s: int, to_s: int) -> Clip:
    """Play an episode to the second `to_s` and return its frames from `from_s` on."""
    with temporary_folder() as folder, closing(policy.task_for(task).env()) as env:
        out, begin_s = Path(folder), env.scenario.begin_s
        traces = {
            "--fcd-output": str(out / "traces.xml"), "--fcd-output.attributes": "x,y,angle,speed",
            "--device.fcd.begin": str(begin_s + max(0, from_s - 1)),
        }  # fmt: skip
        runner = PolicyRunner(env, policy, seed, out=out, extra_options=[word for pair in traces.items() for word in pair])
        lost, decisions = LostTime(env), []
        while env.now < begin_s + to_s:
            chosen = runner.choose()
            decisions.append((runner.values, len(env.engine.api.simulation.getPendingVehicles()), lost.total_s))
            env.step(chosen)
            lost.after_step()
        delay_s = env.metrics()["delay"]
        seconds = range(from_s, to_s, -(-(to_s - from_s) // MOST_FRAMES))
        vehicles = _traces(out / "traces.xml", begin_s)
        shown = [
            (light.states, light.at(np.array(seconds))) for light in lights.read(out / f"tls_{seed}.xml", env.names, begin_s)
        ]
        frames = [
            Frame(
                second, vehicles.get(second, np.empty((0, 4))), tuple(states[at[i]] for states, at in shown),
                *decisions[second // task.timing.decision_s],
            )
            for i, second in enumerate(seconds)
        ]  # fmt: skip
    lost_s = [lost_s for _, _, lost_s in decisions] + [lost.total_s]
    times = np.minimum(np.arange(len(lost_s)) * task.timing.decision_s, env.now - begin_s)
    return Clip(frames, runner.legend, policy.name, np.column_stack([times, lost_s]), delay_s)


def _traces(path: Path, begin_s: int) -> dict[int, np.ndarray]:
    """Return the vehicles [M, 4] by the second from the start of the window, from SUMO's floating car data.

    SUMO names a step by its begin; the vehicles are where its end finds them. Before the first step there are none.
    """
    keys = ("x", "y", "angle", "speed")
    return {
        round(float(step.get("time", "")) - begin_s) + 1: np.array(
            [[float(v.get(key, "")) for key in keys] for v in step]
        ).reshape(-1, 4)
        for step in route_files.elements(path)
    }
