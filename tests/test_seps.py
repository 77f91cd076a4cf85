# pyright: reportAttributeAccessIssue=false, reportGeneralTypeIssues=false
# Attributes of a torch module are those of its parts, which pyright does not know.
"""Agents that the world answers alike share parameters, others do not (SePS, arXiv 2102.07475)."""

from dataclasses import replace

import pytest
import torch
from helpers.games import Noise, Pushes, collect, train
from torch.testing import assert_close

from tsc_marl import algos
from tsc_marl.nn import agent, seps, sharing
from tsc_marl.training.learner import Learner

TWO = [0, 1, 1, 0, 1, 0, 0, 1]
MANY = [pytest.param(range(1), marks=pytest.mark.sumo), pytest.param(range(1, 10), marks=pytest.mark.slow)]
"""Seeds of the data: one always, all in the slow tier."""


def played(types, seed, wide=(), steps=20):
    """Return the first episodes of a random policy."""
    torch.manual_seed(seed)
    game, cls = Pushes(types, wide, seed=seed), algos.find("ippo")
    return collect(game, cls(game.spec, cls.Config(sharing="seps")), steps, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seeds", MANY)
@pytest.mark.parametrize("wide", [(), (0, 1, 2)])
def test_two_transition_rules_are_two_clusters(wide, seeds):
    """The adjusted Rand index is 1 where the partition is the true one, whatever pads the observations."""
    assert [seps.cluster(played(TWO, seed, wide)) for seed in seeds] == [TWO] * len(seeds)


@pytest.mark.parametrize("seeds", MANY)
@pytest.mark.parametrize("wide", [(), (0, 1, 2)])
def test_agents_alike_are_one_cluster(wide, seeds):
    """Padding that only some agents have does not part them."""
    assert [seps.cluster(played([0] * 8, seed, wide)) for seed in seeds] == [[0] * 8] * len(seeds)


def test_noise_is_one_cluster_and_two_agents_may_be_two():
    for seed in range(3):
        algorithm = algos.find("ippo")(Noise().spec, algos.find("ippo").Config())
        assert seps.cluster(collect(Noise(seed=seed), algorithm, 20, torch.Generator().manual_seed(seed))) == [0, 0, 0]
        assert seps.cluster(played([0, 1], seed)) == [0, 1]
        assert seps.cluster(played([0, 0], seed)) == [0, 0]


def test_types_that_differ_in_the_reward_alone_are_found_though_every_step_ends_the_task():
    batch = played([0] * 8, 0)
    reward = torch.where(torch.tensor(TWO).bool(), -batch.reward, batch.reward)
    end = torch.ones_like(batch.terminated)
    assert seps.cluster(replace(batch, reward=reward, terminated=end, truncated=~end)) == TWO


def test_held_out_rows_are_every_fifth_decision_and_padding_has_no_weight():
    batch = played(TWO, 0, wide=(0, 1, 2))
    known, unknown = seps.transitions(batch)
    assert len(known.agent) == 16 * 16 * 8
    assert len(unknown.agent) == 4 * 16 * 8
    padded = known.agent > 2
    assert (known.weight[padded] == torch.tensor([1.0, 1.0, 0.0, 1.0])).all()
    assert (known.weight[~padded] == 1).all()
    assert (known.inputs[padded][:, 2] == 0).all()
    both = torch.cat([known.target, unknown.target])
    assert_close(both[:, 3].mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    assert_close(both[:, 3].std(unbiased=False), torch.tensor(1.0), atol=1e-4, rtol=0)


def test_regrouping_keeps_what_a_shared_network_did():
    """So that the policy which played the first episodes is the one that learns from them."""
    net, x = agent.AgentNet(4, 3, [8], 2, "seps", 1.0), torch.randn(10, 4, 3)
    assert not sharing.is_grouped(net)
    before = net(x)
    sharing.regroup(net, [0, 1, 1, 2])
    assert sharing.is_grouped(net)
    assert torch.equal(net.head.group, torch.tensor([0, 1, 1, 2]))
    assert_close(net(x), before)


@pytest.mark.parametrize("name", ["ippo", "mappo_ind", "mat_dec"])
def test_the_first_data_set_the_clusters_and_later_data_leave_them(name):
    game, cls = Pushes(TWO, seed=1), algos.find(name)
    torch.manual_seed(1)
    algorithm = cls(game.spec, cls.Config(sharing="seps", hidden=(8,)))
    learner, generator = Learner(algorithm), torch.Generator().manual_seed(1)
    metrics = learner.learn(collect(game, algorithm, 20, generator), 0.0)
    assert metrics["seps/clusters"] == 2
    assert torch.equal(algorithm.actor.head.group, torch.tensor(TWO))
    other = collect(Pushes([0] * 8), algorithm, 20, generator)
    for progress in (0.0, 0.5):
        assert "seps/clusters" not in learner.learn(other, progress)
    assert torch.equal(algorithm.actor.head.group, torch.tensor(TWO))


def test_other_sharings_are_left_alone():
    game, cls = Pushes(TWO), algos.find("ippo")
    algorithm = cls(game.spec, cls.Config(sharing="none"))
    assert "seps/clusters" not in Learner(algorithm).learn(collect(game, algorithm, 5, torch.Generator()), 0.0)


LEARN = {"hidden": (16,), "critic_hidden": (16,), "lr": 5e-3, "epochs": 4, "num_minibatches": 2, "gamma": 0.9}


def mean_reward(sharing, seed):
    algorithm = train("ippo", Pushes(TWO, seed=seed), 20, 20, seed, sharing=sharing, **LEARN)
    return collect(Pushes(TWO, seed=100 + seed), algorithm, 20, None).reward[-5:].mean().item(), algorithm


@pytest.mark.slow
def test_one_cluster_acts_alike_and_earns_what_unshared_agents_do():
    """R^i tends to 2 with the right network for each type and to 0 with one network for both."""
    for seed in range(3):
        best, algorithm = mean_reward("seps", seed)
        assert best == pytest.approx(2, abs=0.1)
        assert mean_reward("none", seed)[0] == pytest.approx(2, abs=0.1)
        assert mean_reward("full_no_id", seed)[0] < 0.3
        obs = torch.randn(50, 1, 3).expand(50, 8, 3)
        logits = algorithm.actor(obs)
        assert_close(logits[:, [0, 3, 5]], logits[:, [6]].expand(50, 3, 3))
        assert_close(logits[:, [1, 2, 4]], logits[:, [7]].expand(50, 3, 3))
        assert (logits[:, 0] - logits[:, 1]).abs().max() > 1
