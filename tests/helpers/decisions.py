"""The decisions that a controller elsewhere must repeat."""

from tsc_marl.config import read_timing
from tsc_marl.rollout.task import Task
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
