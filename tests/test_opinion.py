"""Values of chosen phases: the numbers by hand, and the same actions as in an evaluation."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.fake_policies import TASK, biased

from tsc_marl.algos.ippo import Ippo
from tsc_marl.algos.mappo import Mappo
from tsc_marl.algos.mat_dec import MatDec
from tsc_marl.algos.qmix import Qmix
from tsc_marl.algos.vdn import Vdn
from tsc_marl.rollout.policies import TrainedPolicy
from tsc_marl.rollout.task import Task, spec_from_env
from tsc_marl.viz import phase_values
from tsc_marl.viz.phase_values import NEUTRAL_COLOUR, PolicyRunner, ValueLegend


def test_the_advantage_is_over_the_mean_of_the_other_legal_phases() -> None:
    own = np.array([[1.0, 4.0, -2.0, 99.0], [5.0, 7.0, 0.0, 0.0], [1.0, 2.0, 6.0, 0.0]])
    avail = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]], dtype=bool)
    gains = phase_values.advantage(own, avail, np.array([1, 0, 0]))
    np.testing.assert_allclose(gains, [4.5, np.nan, 1 - 8 / 3])


def test_the_scale_is_robust_and_leaves_out_undefined_values() -> None:
    numbers = np.array([*np.linspace(-1, 1, 99), 1000.0, np.nan])
    around_zero, around_median = (ValueLegend("", "", "", zero) for zero in (True, False))
    middle, reach = phase_values.scale(numbers, around_zero)
    assert middle == 0
    assert 0.9 < reach < 1
    assert phase_values.scale(numbers + 50, around_median)[0] == pytest.approx(50, abs=0.02)
    assert phase_values.scale(np.full(3, np.nan), around_median) == (0.0, 1.0)


def test_colours_go_from_orange_over_white_to_purple() -> None:
    orange, white, purple, none, beyond = phase_values.colours(np.array([-2.0, 0.0, 2.0, np.nan, 9.0]), 0.0, 2.0).astype(int)
    assert orange[0] > orange[1] > orange[2]
    assert white.min() > 240
    assert purple[2] > purple[0] > purple[1]
    assert tuple(none) == NEUTRAL_COLOUR
    assert (beyond == purple).all()


def trained(kind: type, task: Task, **settings: object) -> TrainedPolicy:
    env = task.env()
    env.reset(0)
    env.close()
    torch.manual_seed(0)
    algorithm = kind(spec_from_env(env), kind.Config(**settings))
    return TrainedPolicy(kind.__module__.rpartition(".")[2], algorithm.config, algorithm.state_dict())


@pytest.mark.parametrize(
    ("kind", "title", "local"), [(Ippo, "the signal", True), (Mappo, "all signals", False), (MatDec, "all signals", True)]
)
def test_without_advantages_there_are_values(kind: type, title: str, local: bool) -> None:
    task = Task("grid2x2")
    env = task.env()
    runner = PolicyRunner(env, trained(kind, task), 1000)
    runner.choose()
    env.close()
    assert runner.legend is not None
    assert (f"to come at {title}" in runner.legend.title, runner.legend.local) == (True, local)
    assert np.isfinite(runner.values).all()
    assert (len(set(runner.values.tolist())) > 1) == local


@pytest.mark.parametrize(
    ("kind", "reward", "title"),
    [
        (Vdn, "delay", "the team's advantage of the chosen phase over the signal's other phases [vehicle-seconds]"),
        (Qmix, "delay", "utility of the chosen phase"),
        (Ippo, "queue", "the reward to come at the signal, discounted (its value) [queue]"),
    ],
)
def test_the_legend_names_scope_and_unit_of_the_values(kind: type, reward: str, title: str) -> None:
    task = replace(TASK, sim=replace(TASK.sim, reward=reward))
    env = task.env()
    legend = PolicyRunner(env, trained(kind, task), 1000).legend
    env.close()
    assert legend is not None
    assert legend.title.startswith(title)


def test_policy_runner_chooses_the_phases_of_the_evaluation_also_with_memory() -> None:
    policy, env = trained(Ippo, TASK, recurrent=True), TASK.env()
    actions = []
    for begin in (lambda: PolicyRunner(env, policy, 1000).choose, lambda: policy.start(env, 1000).act):
        choose, taken = begin(), []
        for _ in range(40):
            taken.append(choose())
            env.step(taken[-1])
        actions.append(np.stack(taken))
    env.close()
    assert len(np.unique(actions[0])) > 1
    np.testing.assert_array_equal(*actions)


def test_a_value_stays_until_the_next_choice() -> None:
    env = TASK.env()
    runner, values = PolicyRunner(env, biased(-3.0), 1000), []
    for _ in range(4):
        chosen = runner.choose()
        values.append((bool(env.avail.sum() > 1), float(runner.values[0])))
        env.step(chosen)
    env.close()
    np.testing.assert_allclose(values, [(False, np.nan), (False, np.nan), (True, -3.0), (True, -3.0)], rtol=1e-5)
