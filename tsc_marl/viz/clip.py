"""A clip: the traffic of a part of an episode, second by second, from the files that SUMO writes."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tsc_marl.paths import temporary_folder
from tsc_marl.rollout.types import Policy, Task
from tsc_marl.sim import route_files
from tsc_marl.sim.engine import HALTING_MS
from tsc_marl.sim.rewards.delay import DelayReward
from tsc_marl.viz.phase_values import PolicyRunner, ValueLegend

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


def record_clip(task: Task, policy: Policy, seed: int, from_s: int, to_s: int) -> Clip:
    """Play an episode to the second `to_s` and return its frames from `from_s` on."""
    with temporary_folder() as folder, closing(policy.task_for(task).env()) as env:
        out, begin_s = Path(folder), env.scenario.begin_s
        traces = {
            "--fcd-output": str(out / "traces.xml"), "--fcd-output.attributes": "x,y,angle,speed",
            "--device.fcd.begin": str(begin_s + from_s),
        }  # fmt: skip
        runner = PolicyRunner(env, policy, seed, out=out, extra_options=[word for pair in traces.items() for word in pair])
        reward, decisions, lost_s = DelayReward(env.episode.context), [], 0.0
        while env.now < begin_s + to_s:
            chosen = runner.choose()
            decisions.append((runner.values, len(env.engine.api.simulation.getPendingVehicles()), lost_s))
            env.step(chosen)
            lost_s -= float(reward(env.vehicles).sum())
        env.close()
        seconds = range(from_s, to_s, -(-(to_s - from_s) // MOST_FRAMES))
        vehicles, states = _traces(out / "traces.xml"), _states(out / f"tls_{seed}.xml")
        frames = [
            Frame(
                second, vehicles[begin_s + second], tuple(states[begin_s + second][name] for name in env.names),
                *decisions[second // task.timing.decision_s],
            )
            for second in seconds
        ]  # fmt: skip
    return Clip(frames, runner.legend)


def _traces(path: Path) -> dict[int, np.ndarray]:
    """Return the vehicles of each second, [M, 4], from SUMO's floating car data."""
    keys = ("x", "y", "angle", "speed")
    return {
        int(float(step.get("time", ""))): np.array([[float(v.get(key, "")) for key in keys] for v in step]).reshape(-1, 4)
        for step in route_files.elements(path)
    }


def _states(path: Path) -> dict[int, dict[str, str]]:
    """Return the state of each signal in each second, from SUMO's log."""
    states: dict[int, dict[str, str]] = {}
    for element in route_files.elements(path):
        states.setdefault(int(float(element.get("time", ""))), {})[element.get("id", "")] = element.get("state", "")
    return states
