"""A policy whose choice and opinion are known: it asks for phase 0 at every signal, and has a given advantage for it."""

from typing import Any

import torch

from tsc_marl.algos.jointq import Jointq
from tsc_marl.rollout.policies import TrainedPolicy
from tsc_marl.rollout.task import Task, spec_from_env
from tsc_marl.sim.feedback import SimConfig

TASK = Task("cross", sim=SimConfig("lanes"))


def biased(gain: float, task: Task = TASK) -> TrainedPolicy:
    env = task.env()
    env.reset(0)
    env.close()
    algorithm: Any = Jointq(spec_from_env(env), Jointq.Config())
    with torch.no_grad():
        for head in (algorithm.actor.head, algorithm.critic.net.head, algorithm.effects.own.net.head):
            head.weight.zero_()
        algorithm.actor.head.bias[:, 0] = 1.0
        algorithm.effects.own.net.head.bias[:, 0] = gain / float(algorithm.residual.deviation[0])
    return TrainedPolicy("jointq", algorithm.config, algorithm.state_dict())
