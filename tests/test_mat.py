# pyright: reportAttributeAccessIssue=false, reportGeneralTypeIssues=false
# Attributes of a torch module are those of its parts, which pyright does not know.
"""MAT acts as it is trained, knows who did what, and so coordinates where MAT-Dec, whose agents act alone, cannot."""

from statistics import median

import pytest
import torch
from helpers.games import (
    CLIMBING,
    QTRAN_PAYOFF,
    Matrix,
    Noise,
    Sign,
    TwoStep,
    Xor,
    collect,
    greedy_return,
    minibatch,
    penalty,
    train,
)
from torch.testing import assert_close

from tsc_marl import algos, ops
from tsc_marl.errors import UserError
from tsc_marl.nn import transformer


def noisy(name="mat", game=None, seed=0, **settings):
    """Return an algorithm whose weights are all random, so that no dependence is hidden by a small start."""
    torch.manual_seed(seed)
    cls = algos.find(name)
    settings = {"hidden": (16, 16), "critic_hidden": (16, 16), "heads": 2} | settings
    algorithm = cls((game or Noise(n=5)).spec, cls.Config(**settings))
    with torch.no_grad():
        for parameter in algorithm.parameters():
            parameter.normal_(std=0.3)
    return algorithm


def logits_of(algorithm, obs, action):
    with torch.no_grad():
        return algorithm.actor(obs, action)


@pytest.mark.parametrize("sharing", ["full", "full_no_id"])
def test_acting_one_by_one_gives_the_log_probabilities_of_the_parallel_evaluation(sharing):
    game = Noise(n=5, envs=64)
    algorithm = noisy(game=game, sharing=sharing)
    obs, avail, _ = game.observe()
    action, extras, _ = algorithm.act(obs, avail, None, torch.Generator().manual_seed(0))
    rows = minibatch(avail.shape[-1], obs=obs.unsqueeze(0), avail=avail.unsqueeze(0), action=action.unsqueeze(0))
    logp = algorithm.log_policy(rows)[0]
    assert_close(ops.gather_actions(logp, action), extras["logp"], atol=1e-5, rtol=0)
    assert_close(logp.exp(), extras["probs"], atol=1e-5, rtol=0)
    assert extras["probs"].std(0).max() > 0.05


def test_greedy_acting_takes_the_mode_given_the_actions_before():
    game = Noise(n=5, envs=64)
    algorithm = noisy(game=game)
    obs, avail, _ = game.observe()
    action = algorithm.act(obs, avail, None, None)[0]
    assert torch.equal(action, ops.log_policy(logits_of(algorithm, obs, action), avail).argmax(-1))


def test_masks_hold_at_every_step():
    game = Noise(n=5, envs=500)
    algorithm = noisy(game=game)
    obs, avail, _ = game.observe()
    for generator in (None, torch.Generator().manual_seed(0)):
        action, extras, _ = algorithm.act(obs, avail, None, generator)
        assert avail.gather(-1, action.unsqueeze(-1)).all()
    assert (extras["probs"][~avail] == 0).all()
    assert_close(extras["probs"].sum(-1), torch.ones(500, 5))


@pytest.mark.parametrize("m", range(5))
def test_an_action_moves_the_logits_of_later_agents_only(m):
    algorithm, obs = noisy(), torch.randn(20, 5, 5)
    action = torch.randint(4, (20, 5))
    other = action.clone()
    other[:, m] = (action[:, m] + 1) % 4
    move = (logits_of(algorithm, obs, other) - logits_of(algorithm, obs, action)).abs().amax((0, 2))
    assert (move[: m + 1] == 0).all()
    assert (move[m + 1 :] > 1e-3).all()


@pytest.mark.parametrize("k", range(5))
def test_an_observation_moves_the_logits_and_the_values_of_all(k):
    algorithm, obs, action = noisy(), torch.randn(20, 5, 5), torch.randint(4, (20, 5))
    other = obs.clone()
    other[:, k] = torch.randn(20, 5)
    move = (logits_of(algorithm, other, action) - logits_of(algorithm, obs, action)).abs().amax((0, 2))
    assert (move > 1e-3).all()
    value = algorithm.normalised_values(other, other[:, 0]) - algorithm.normalised_values(obs, obs[:, 0])
    assert (value.abs().amax(0) > 1e-3).all()


def test_attention_is_softmax_of_the_scaled_products():
    """Two heads, causal, written out for one row."""
    torch.manual_seed(0)
    layer = transformer.Attention(8, 2, causal=True)
    query, stream = torch.randn(3, 8), torch.randn(3, 8)
    q, k, v = layer.query(query), layer.key(stream), layer.value(stream)
    for m in range(3):
        heads = [slice(0, 4), slice(4, 8)]
        weights = [torch.softmax(q[m, h] @ k[: m + 1, h].T / 2, dim=-1) for h in heads]
        mixed = torch.cat([w @ v[: m + 1, h] for w, h in zip(weights, heads, strict=True)])
        assert_close(layer(query, stream)[m], layer.out(mixed.unsqueeze(0))[0])


def test_one_optimiser_has_every_parameter_once():
    algorithm = noisy()
    assert algorithm.critic_optimiser is algorithm.actor_optimiser
    held = [id(p) for group in algorithm.actor_optimiser.param_groups for p in group["params"]]
    assert sorted(held) == sorted({id(p) for p in algorithm.parameters()})


def test_the_step_descends_policy_loss_plus_weighted_value_loss():
    gradients = []
    for weight in (1.0, 3.0):
        algorithm = noisy(value_weight=weight, max_grad_norm=1e9)
        batch = collect(Noise(n=5), algorithm, 4, torch.Generator().manual_seed(0))
        rows = algorithm.prepare(batch)[0]
        algorithm.step(rows)
        gradients.append(torch.cat([p.grad.flatten() for p in algorithm.parameters()]))
    algorithm = noisy()
    algorithm.prepare(batch)
    algorithm.critic_loss(rows).backward()
    value = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in algorithm.parameters()])
    assert_close(gradients[1] - gradients[0], 2 * value, atol=1e-4, rtol=1e-3)


def test_mat_decs_policy_sends_no_gradient_to_the_encoder():
    algorithm = noisy("mat_dec")
    rows = algorithm.prepare(collect(Noise(n=5), algorithm, 4, torch.Generator().manual_seed(0)))[0]
    algorithm.actor_loss(algorithm.log_policy(rows), rows)[0].backward()
    assert all(p.grad is None for p in algorithm.critic.parameters())
    assert all(p.grad is not None for p in algorithm.actor.parameters())


@pytest.mark.parametrize("name", ["mat", "mat_dec"])
def test_values_and_rewards_by_setting(name):
    """The team's reward for all by default, one value per agent; or the mean value; or each agent's own reward."""
    for settings, width in (({}, 5), ({"mat_value": "mean"}, 1), ({"reward": "own"}, 5)):
        algorithm = noisy(name, **settings)
        batch = collect(Noise(n=5), algorithm, 4, torch.Generator().manual_seed(0))
        stream, value = algorithm.critic_reward(batch), algorithm.normalised_values(batch.obs, batch.state)
        assert stream.shape[-1] == value.shape[-1] == width
        expected = batch.reward if "reward" in settings else batch.reward.sum(-1, keepdim=True).expand_as(stream)
        assert_close(stream, expected)
        advantage = algorithm.prepare(batch)[0].advantage
        assert torch.isclose(advantage, advantage[..., :1]).all() == (width == 1)


@pytest.mark.parametrize(
    ("name", "settings", "named"),
    [
        ("mat", {"sharing": "none"}, ("algo.sharing", "none", "one network")),
        ("mat", {"sharing": "seps"}, ("algo.sharing", "seps", "one network")),
        ("mat", {"recurrent": True}, ("algo.recurrent", "True", "no memory")),
        ("mat", {"hidden": (32,)}, ("algo.hidden", "(32,)", "algo.critic_hidden", "(64,)")),
        ("mat", {"value_weight": 0.0}, ("algo.value_weight", "0.0")),
        ("mat_dec", {"critic_hidden": (64, 32)}, ("algo.critic_hidden", "(64, 32)")),
        ("mat_dec", {"heads": 3}, ("algo.heads", "3", "algo.critic_hidden", "(64,)")),
        ("mat_dec", {"heads": 0}, ("algo.heads", "0")),
        ("mat_dec", {"mat_value": "mean", "reward": "own"}, ("algo.mat_value mean", "algo.reward own")),
    ],
)
def test_invalid_settings_are_refused(name, settings, named):
    with pytest.raises(UserError) as error:
        algos.find(name).Config(**settings)
    assert all(text in str(error.value) for text in named), str(error.value)


LEARN = {
    "hidden": (16,), "critic_hidden": (16,), "lr": 1e-2, "lr_final_fraction": 1.0, "epochs": 3, "num_minibatches": 1,
    "gamma": 0.99, "gae_lambda": 0.95,
}  # fmt: skip
ENVS = 256


def returns(name, make, steps=1, batches=45, seeds=10, **settings):
    found = [greedy_return(make(), train(name, make(), batches, steps, seed, **LEARN | settings), steps) for seed in range(seeds)]
    print(f"\n{name}: {[round(x, 2) for x in found]}")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mat", "mat_dec"])
def test_either_sign_is_solved(name):
    """Both signs are right, and either will do."""
    assert median(returns(name, lambda: Sign(ENVS))) == pytest.approx(1, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "expected"), [("mat", 11), ("mat_dec", 7)])
def test_climbing(name, expected):
    """20 seeds: MAT 11 on all; MAT-Dec 7 on 18, 6 on 2."""
    assert median(returns(name, lambda: Matrix(CLIMBING, ENVS), batches=60)) == pytest.approx(expected, abs=0.3)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "k", "expected"), [("mat", -100, 10), ("mat_dec", -100, 2), ("mat", 0, 10), ("mat_dec", 0, 10)])
def test_penalty(name, k, expected):
    """With clip .2 the first agent flees from -100 before the second has learned to answer: MAT gets 2 on 6 seeds of 10."""
    assert median(returns(name, lambda: Matrix(penalty(k), ENVS))) == pytest.approx(expected, abs=0.3)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "expected"), [("mat", 8), ("mat_dec", 0)])
def test_qtran_payoff(name, expected):
    assert median(returns(name, lambda: Matrix(QTRAN_PAYOFF, ENVS))) == pytest.approx(expected, abs=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mat", "mat_dec"])
def test_two_step(name):
    assert median(returns(name, lambda: TwoStep(ENVS), steps=2)) == pytest.approx(8, abs=0.3)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "n"), [(name, n) for name in ("mat", "mat_dec") for n in (2, 4, 6)])
def test_xor(name, n):
    """20 seeds, n = 4: MAT 1 on 18, 0 on 2."""
    assert median(returns(name, lambda: Xor(n, ENVS))) == pytest.approx(1, abs=0.3)


@pytest.mark.slow
def test_two_step_from_the_mean_value():
    assert median(returns("mat", lambda: TwoStep(ENVS), steps=2, mat_value="mean")) == pytest.approx(8, abs=0.3)
