# pyright: reportAttributeAccessIssue=false, reportGeneralTypeIssues=false
# Attributes of a torch module are those of its parts, which pyright does not know.
"""How the parts of the learning code are joined: which network, which row, which unit and which sign."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.games import Noise, collect, fitting, minibatch
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from tsc_marl import algos, ops
from tsc_marl.evaluation import statistics
from tsc_marl.nn import agent
from tsc_marl.nn.sharing import polyak_update, regroup


def build(name, game=None, **settings):
    torch.manual_seed(0)
    small = {"hidden": (16,), "critic_hidden": (16,), "num_minibatches": 1} | settings
    cls = algos.find(name)
    return cls((game or Noise()).spec, cls.Config(**fitting(name, **small)))


def play(algorithm, game=None, steps=6):
    return collect(game or Noise(), algorithm, steps, torch.Generator().manual_seed(0))


def shaken(module):
    """Add noise to every parameter, biases and heads that start near zero too."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape))
    return module


def values(algorithm, batch):
    """Return V of every row of a batch [T + 1, B, K], in the reward's unit."""
    rows = zip(batch.obs, batch.avail, batch.state, strict=True)
    return torch.stack([algorithm.value_estimates(*row, None)["value"] for row in rows]).detach()


def probabilities(algorithm, batch):
    """Return the policy of every row with a decision [T, B, N, A]."""
    rows = zip(batch.obs[:-1], batch.avail[:-1], batch.state[:-1], strict=True)
    return torch.stack([algorithm.value_estimates(*row, None)["probs"] for row in rows]).detach()


def divergence(p, q):
    """KL(p || q) of probabilities, by its definition; illegal actions count nothing."""
    return torch.where(p > 0, p * (p / q.clamp(min=1e-30)).log(), 0.0).sum(-1)


def mean_with_choice(x, batch):
    """Mean of each agent over its rows with a choice."""
    return torch.where(batch.has_choice, x, 0.0).sum((0, 1)) / batch.has_choice.sum((0, 1))


# targets and cuts


def test_where_a_batch_ends_n_step_returns_end_with_the_last_value():
    """Gamma .5, r = (1, 1), V = (0, 0, 8), no flag at the end: G_1 = 1 + 4, G_0 = 1 + .5 (1 + 4)."""
    none = torch.zeros(2, 1, dtype=torch.bool)
    value = torch.tensor([0.0, 0.0, 8.0]).view(3, 1, 1)
    for n in (2, 3):
        assert ops.nstep_return(torch.ones(2, 1, 1), value, none, none, 0.5, n).flatten().tolist() == [3.5, 5.0]


@pytest.mark.parametrize(("steps", "at_least", "length"), [(12, 5, 6), (12, 4, 4), (12, 7, 12), (7, 2, 7), (3, 10, 3), (4, 1, 1)])
def test_sequences_are_at_least_as_long_as_asked_and_divide_the_episode(steps, at_least, length):
    assert ops.chunk_length(steps, at_least) == length


# PPO


def test_the_entropy_bonus_raises_the_entropy():
    algorithm = build("ippo", entropy_coef=5.0, lr=0.01)
    with torch.no_grad():
        algorithm.actor.head.bias[:, 0] = 1.0
    batch = play(algorithm)
    algorithm.update(batch, 0.0)
    before, after = (torch.special.entr(probs).sum(-1) for probs in (batch.extras["probs"], probabilities(algorithm, batch)))
    assert mean_with_choice(after, batch).mean() > mean_with_choice(before, batch).mean() + 0.02


def test_a_gradient_is_clipped_to_its_largest_norm():
    """Adam divides by the root of the squares + 1e-5: clipped to 1e-9, a gradient moves nothing."""
    algorithm = build("ippo", max_grad_norm=1e-9)
    before = [value.clone() for value in algorithm.parameters()]
    metrics = algorithm.update(play(algorithm), 0.0)
    assert min(metrics["grad_norm/actor"], metrics["grad_norm/critic"]) > 1e-3
    for old, new in zip(before, algorithm.parameters(), strict=True):
        assert_close(new, old, atol=1e-5, rtol=0)


def far_from_zero(algorithm):
    """Play rewards around 50."""
    batch = play(algorithm)
    return replace(batch, reward=batch.reward + 50)


@pytest.mark.parametrize("name", ["ippo", "mappo"])
def test_value_targets_are_advantage_plus_value(name):
    """With lambda 0 that is r + gamma V'; the last row bootstraps, since the episode was cut there."""
    algorithm = build(name, gae_lambda=0.0, gamma=0.9)
    batch = far_from_zero(algorithm)
    reward = batch.reward if name == "ippo" else batch.reward.sum(-1, keepdim=True)
    expected = reward + 0.9 * values(algorithm, batch)[1:]
    rows, _ = algorithm.prepare(batch)
    assert_close(algorithm.returns.restore(rows.target), expected)


def test_the_old_value_of_the_clipped_loss_is_in_the_units_of_its_target():
    algorithm = build("ippo")
    algorithm.update(far_from_zero(algorithm), 0.0)
    batch = far_from_zero(algorithm)
    before = values(algorithm, batch)[:-1]
    rows, _ = algorithm.prepare(batch)
    assert_close(rows.value, (before - algorithm.returns.mean) / algorithm.returns.deviation)
    assert rows.value.abs().mean() < 20


def test_the_logged_divergence_is_of_the_new_policy_from_the_old_one():
    algorithm = build("ippo", lr=0.05)
    batch = play(algorithm)
    metrics = algorithm.update(batch, 0.0)
    old, new = batch.extras["probs"], probabilities(algorithm, batch)
    logged = torch.tensor([metrics[f"agent/{name}/kl"] for name in algorithm.spec.names])
    assert_close(logged, mean_with_choice(divergence(new, old), batch), rtol=1e-4, atol=1e-6)
    assert not torch.isclose(logged, mean_with_choice(divergence(old, new), batch), rtol=0.02).all()


# plain policy gradients


@pytest.mark.parametrize("name", ["ia2c", "coma"])
def test_rows_without_a_choice_count_nothing_in_the_policy_gradient(name):
    rows = minibatch(
        n_actions=2,
        action=torch.zeros(1, 4, 1, dtype=torch.long),
        active=torch.tensor([1.0, 0.0, 1.0, 0.0]).view(1, 4, 1),
        advantage=torch.tensor([2.0, 9.0, 4.0, 9.0]).view(1, 4, 1),
    )
    assert build(name).policy_loss(torch.full((1, 4, 1), -0.5), rows).item() == pytest.approx((2 * 0.5 + 4 * 0.5) / 2)


@pytest.mark.parametrize("name", ["ia2c", "coma"])
def test_the_target_critic_moves_by_its_share_at_each_batch(name):
    algorithm = build(name, polyak=0.25)
    before = [value.clone() for value in algorithm.target_critic.parameters()]
    algorithm.update(play(algorithm), 0.0)
    found = zip(algorithm.target_critic.parameters(), before, algorithm.critic.parameters(), strict=True)
    for now, old, online in found:
        assert_close(now, 0.75 * old + 0.25 * online)


def test_a_target_network_moves_by_its_share():
    target, online = nn.Linear(1, 1), nn.Linear(1, 1)
    for layer, value in ((target, 4.0), (online, 8.0)):
        nn.init.constant_(layer.weight, value)
    polyak_update(target, online, 0.25)
    assert (target.weight.item(), online.weight.item()) == (5.0, 8.0)


@pytest.mark.parametrize("name", ["ia2c", "coma"])
def test_targets_come_from_the_target_critic(name):
    algorithm = build(name, gae_lambda=0.5, n_steps=1)
    batch = play(algorithm)
    plain, _ = deepcopy(algorithm).prepare(batch)
    moved = {}
    for critic in ("critic", "target_critic"):
        other = deepcopy(algorithm)
        shaken(getattr(other, critic))
        rows, _ = other.prepare(batch)
        moved[critic] = not torch.allclose(rows.target, plain.target, atol=1e-4)
    assert moved == {"critic": False, "target_critic": True}


def test_comas_unit_of_an_action_is_the_deviation_of_its_td_errors():
    algorithm = build("coma", value_norm_decay=0.0)
    shaken(algorithm.target_critic)
    rows, _ = algorithm.prepare(play(algorithm))
    errors = (rows.target - rows.value) * algorithm.returns.deviation
    assert_close(algorithm.residual.deviation, errors.std(correction=0))
    assert not torch.isclose(algorithm.residual.deviation, algorithm.returns.deviation, rtol=0.05)


# trust region


def trusted(seed=0, **settings):
    """Update hatrpo once; return its metrics and each agent's mean KL from the old policy to the new one, and back."""
    game = Noise(n=2, seed=seed)
    algorithm = build("hatrpo", game, **settings)
    batch = play(algorithm, game, steps=4)
    metrics = algorithm.update(batch, 0.0)
    old, new = batch.extras["probs"], probabilities(algorithm, batch)
    return metrics, *(mean_with_choice(divergence(*pair), batch) for pair in ((old, new), (new, old)))


@pytest.mark.parametrize("seed", range(3))
def test_no_step_that_leaves_the_trust_region_is_accepted(seed):
    """A full step almost without damping has a divergence of delta but for terms of third order. Here it is more: it is cut."""
    metrics, moved, _ = trusted(seed, delta=0.05, damping=1e-4, cg_steps=40)
    assert metrics["trust/accepted"] == 1
    assert metrics["trust/tries"] > 1
    assert (moved < 0.05 * (1 + 1e-4)).all()


def test_the_trust_region_bounds_the_divergence_of_the_old_policy_from_the_new_one():
    metrics, moved, back = trusted(delta=0.3)
    assert metrics["trust/accepted"] == 1
    assert metrics["policy/kl"] == pytest.approx(moved.mean().item(), rel=1e-3)
    assert metrics["policy/kl"] != pytest.approx(back.mean().item(), rel=0.05)


# Q-learners


@pytest.mark.parametrize("name", ["iql", "vdn", "qmix"])
def test_the_value_of_the_next_row(name):
    """y = r + gamma f(max Q', s') with f = Q^i (iql), their sum (vdn), or the mixer at the next state (qmix)."""
    algorithm = build(name, gamma=0.9, batch_size=8)
    for part in (algorithm.actor, algorithm.mixer):
        shaken(part)
    for target, online in ((algorithm.target_actor, algorithm.actor), (algorithm.target_mixer, algorithm.mixer)):
        target.load_state_dict(online.state_dict())
    batch = play(algorithm)
    q = torch.where(batch.avail, algorithm.actor(batch.obs), -1e9)[1:].max(-1).values.detach()
    value = {"iql": lambda: q, "vdn": lambda: q.sum(-1), "qmix": lambda: algorithm.mixer(q, batch.state[1:])}[name]()
    reward = batch.reward if name == "iql" else batch.reward.sum(-1)
    expected = (reward + 0.9 * value).mean()
    assert algorithm.update(batch, 0.0)["value/mean"] == pytest.approx(expected.item(), abs=1e-4)


# jointq_doc, mat


def test_the_next_episodes_action_is_not_the_next_action_of_this_one():
    """After a cut in the middle of a batch Q' is its mean under the policy; elsewhere it is Q' of the action that followed."""
    algorithm = build("jointq_doc")
    shaken(algorithm.critic)
    batch = play(algorithm)
    truncated = batch.truncated.clone()
    truncated[2] = True
    changed = replace(batch, action=(batch.action + 1) % algorithm.spec.n_actions)
    found, other = (algorithm.next_q(replace(one, truncated=truncated)).detach() for one in (batch, changed))
    same = torch.isclose(found, other).all(-1).all(-1)
    assert same.tolist() == [False, False, True, False, False, True]


def test_mats_agents_explore_independently():
    """Policies that start almost uniform: two of three agents with four actions agree in a quarter of the rows."""
    game = Noise(envs=4000)
    algorithm = build("mat")
    obs, avail, _ = game.observe()
    action, _, _ = algorithm.act(obs, torch.ones_like(avail), None, torch.Generator().manual_seed(0))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (action[:, one] == action[:, other]).float().mean().item() == pytest.approx(0.25, abs=0.05)


# networks


def test_the_memory_is_a_gru():
    net = agent.AgentNet(1, 4, [5], 2, "full_no_id", 1.0, recurrent=True)
    shaken(net)
    cell = nn.GRUCell(5, 5)
    with torch.no_grad():
        for gate, kind in zip(net.gates, ("ih", "hh"), strict=True):
            getattr(cell, f"weight_{kind}").copy_(gate.weight[0])
            getattr(cell, f"bias_{kind}").copy_(gate.bias[0])
    x, memory = torch.randn(3, 7, 1, 4), torch.randn(7, 1, 5)
    _, after = net.unroll(x, memory)
    expected = memory[:, 0]
    for row in x[:, :, 0]:
        (layer,) = net.layers
        trunk = functional.layer_norm(functional.relu(functional.linear(row, layer.weight[0], layer.bias[0])), (5,))
        expected = cell(trunk, expected)
    assert_close(after[:, 0], expected)


@pytest.mark.parametrize(("group", "starts_as"), [([0, 1, 1], [0, 1, 1]), ([1, 0, 1], [0, 1, 0]), ([2, 2, 2], [0, 0, 0])])
def test_a_cluster_starts_with_the_network_of_its_first_agent(group, starts_as):
    net = agent.AgentNet(3, 4, [5], 2, "seps", 1.0)
    regroup(net, [0, 1, 2])
    shaken(net)
    x = torch.randn(6, 1, 4).expand(6, 3, 4)
    before = net(x)
    regroup(net, group)
    assert_close(net(x), before[:, starts_as])


# statistics


def test_episodes_are_resampled_for_each_seed_anew():
    """Trainings without any difference: what remains is the mean of S x E independent episodes."""
    episodes = np.random.default_rng(0).normal(0, 1, 20)
    low, high = statistics.bootstrap(np.tile(episodes, (5, 1)), lambda x: x.mean(axis=-1), 4000)
    assert (high - low) / 2 == pytest.approx(1.96 * episodes.std() / np.sqrt(5 * 20), rel=0.1)


def test_an_equal_delay_counts_half_in_the_probability_of_improvement():
    """Pairs of (1, 3) with (2, 3): better, better, worse, equal."""
    assert statistics.probability_of_improvement([1.0, 3.0], [2.0, 3.0])[0] == (1 + 1 + 0 + 0.5) / 4
