"""The decisions that a controller elsewhere must repeat."""

import libsumo

from tsc_marl.config import read_timing
from tsc_marl.rollout.task import Task
from tsc_marl.sim import engine
from tsc_marl.tracking.policies import find_policy


def decisions(name, network, timing, seconds):
    """The phases that a policy chooses in the first seconds of the episode with seed 1, by signal."""
    task = Task(network, read_timing(timing))
    policy = find_policy(name, task)
    env = policy.task_for(task).env()
    driver, chosen = policy.start(env, 1), []
    while env.now < seconds:
        phases = driver.act()
        chosen.append(dict(zip(env.names, phases.tolist(), strict=True)))
        env.step(phases)
    env.close()
    return chosen


def piloted(pilot, scene, seed, out, seconds):
    """The phases that a pilot chooses in the first seconds of an episode, by signal."""
    chosen = []
    libsumo.start(["sumo", *engine.command(scene, seed, out)])
    try:
        for _ in range(seconds):
            chosen.append(pilot.step(libsumo))
            libsumo.simulationStep()
    finally:
        libsumo.close()
    return [choice for choice in chosen if choice is not None]
