"""Targets and losses against numbers worked out by hand, and against their limits; the optimiser against torch's."""

import sys
from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from tsc_marl import ops
from tsc_marl.nn.adam import Adam


def column(*numbers):
    """[T, B=1, K=1]."""
    return torch.tensor(numbers, dtype=torch.float64).view(-1, 1, 1)


def flags(length, *at):
    """[T, B=1], set at the given steps."""
    return torch.tensor([t in at for t in range(length)]).view(-1, 1)


NEVER = flags(4)
REWARD, VALUE = column(1, 2, 3, 4), column(0.5, 0.6, 0.7, 0.8, 0.9)


def test_gae_without_an_end():
    assert_close(ops.gae(REWARD, VALUE, NEVER, NEVER, 0.9, 0.8), column(5.563885, 6.28318, 5.9072, 4.01), atol=1e-5, rtol=0)


def test_gae_at_a_termination():
    assert_close(ops.gae(REWARD, VALUE, flags(4, 1), NEVER, 0.9, 0.8), column(2.048, 1.4, 5.9072, 4.01), atol=1e-5, rtol=0)


def test_gae_at_a_truncation():
    """The first episode is cut after two steps with V(final observation) = .95, the second begins at the third step."""
    reward = torch.cat([REWARD[:2], REWARD[2:]], dim=1)
    value = torch.cat([column(0.5, 0.6, 0.95), VALUE[2:]], dim=1)
    cut = flags(2, 1).expand(2, 2)
    advantage = ops.gae(reward, value, torch.zeros_like(cut), cut, 0.9, 0.8)
    assert_close(advantage[:, :1], column(2.6636, 2.255), atol=1e-5, rtol=0)
    assert_close(advantage[:, 1:], column(5.9072, 4.01), atol=1e-5, rtol=0)


def test_gae_of_a_truncation_inside_the_batch():
    """The recursion stops, the bootstrap with the next row stays: delta_1 = 2 + .9 * .7 - .6."""
    advantage = ops.gae(REWARD, VALUE, NEVER, flags(4, 1), 0.9, 0.8)
    assert_close(advantage, column(1.04 + 0.72 * 2.03, 2.03, 5.9072, 4.01), atol=1e-5, rtol=0)


@pytest.mark.parametrize("lam", [0.0, 0.95, 1.0])
def test_constant_reward_is_worth_100_when_the_clock_cuts(lam):
    """One state, reward 1, gamma .99: V = 100 however long the episodes are."""
    value = torch.zeros(11, 1, 1, dtype=torch.float64)
    for _ in range(2000):
        advantage = ops.gae(torch.ones(10, 1, 1), value, flags(10), flags(10, 9), 0.99, lam)
        value = (advantage + value[:-1]).mean().expand(11, 1, 1)
    assert value[0].item() == pytest.approx(100, abs=1e-3)


@pytest.mark.parametrize(("steps", "expected"), [(10, 9.562), (360, 97.317)])
def test_constant_reward_is_worth_less_when_the_task_ends(steps, expected):
    value = torch.full((steps + 1, 1, 1), 3.0)
    advantage = ops.gae(torch.ones(steps, 1, 1), value, flags(steps, steps - 1), flags(steps), 0.99, 1.0)
    assert (advantage + value[:-1])[0].item() == pytest.approx(expected, abs=1e-3)


@st.composite
def episodes(draw):
    """Rewards, values, both flags anywhere, a discount."""
    steps = draw(st.integers(1, 8))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    reward, value = (torch.randn(steps + extra, 3, 2, generator=random, dtype=torch.float64) for extra in (0, 1))
    terminated, truncated = (torch.rand(steps, 3, generator=random) < draw(st.sampled_from([0.0, 0.2, 0.6])) for _ in range(2))
    return reward, value, terminated, truncated & ~terminated, draw(st.floats(0, 1))


@settings(deadline=None, max_examples=50)
@given(episodes())
def test_lambda_0_is_one_step_td(case):
    reward, value, terminated, _, gamma = case
    follows = (~terminated).unsqueeze(-1)
    assert_close(ops.gae(*case, lam=0.0), reward + gamma * follows * value[1:] - value[:-1])


@settings(deadline=None, max_examples=50)
@given(episodes())
def test_lambda_1_is_the_discounted_sum_with_bootstrap(case):
    reward, value, terminated, truncated, gamma = case
    target = ops.gae(*case, lam=1.0) + value[:-1]
    for b in range(3):
        for t in range(len(reward)):
            expected, discount, last = torch.zeros(2, dtype=torch.float64), 1.0, t
            for last in range(t, len(reward)):
                expected, discount = expected + discount * reward[last, b], discount * gamma
                if terminated[last, b] or truncated[last, b]:
                    break
            expected = expected + (0.0 if terminated[last, b] else discount) * value[last + 1, b]
            assert_close(target[t, b], expected)


@settings(deadline=None, max_examples=50)
@given(episodes(), st.floats(0, 1))
def test_one_step_target_of_returns_with_lambda_1_is_the_return(case, lam):
    """y_t = r_t + gamma G_{t+1}; it equals G_t for lambda = 1, and for every lambda where the episode is cut or ends."""
    reward, value, terminated, truncated, gamma = case
    for weight in (lam, 1.0):
        returns = ops.gae(*case, lam=weight) + value[:-1]
        y = ops.one_step_target(reward, value, returns, terminated, truncated, gamma)
        same = (terminated | truncated).unsqueeze(-1) | torch.tensor(weight == 1.0)
        assert_close(torch.where(same, y, 0.0), torch.where(same, returns, 0.0))


def test_one_step_target_at_a_cut_and_at_an_end():
    reward, value, returns = column(1, 2, 3), column(0.5, 0.6, 0.7, 0.9), column(10, 20, 30)
    cases = [
        (flags(3), flags(3, 2), column(1 + 0.9 * 20, 2 + 0.9 * 30, 3 + 0.9 * 0.9)),
        (flags(3, 2), flags(3), column(1 + 0.9 * 20, 2 + 0.9 * 30, 3)),
        (flags(3), flags(3, 0), column(1 + 0.9 * 0.6, 2 + 0.9 * 30, 3 + 0.9 * 0.9)),
        (flags(3, 0), flags(3), column(1, 2 + 0.9 * 30, 3 + 0.9 * 0.9)),
    ]
    for terminated, truncated, expected in cases:
        assert_close(ops.one_step_target(reward, value, returns, terminated, truncated, 0.9), expected)


def test_ppo_at_ratio_1_is_the_plain_policy_gradient():
    logits = torch.randn(50, 4, requires_grad=True)
    advantage, active = torch.randn(50), (torch.rand(50) > 0.3).float()
    logp = ops.gather_actions(ops.log_policy(logits, torch.ones(50, 4, dtype=torch.bool)), torch.randint(4, (50,)))
    ratio = (logp - logp.detach()).exp()
    ppo = torch.autograd.grad(ops.ppo_loss(ratio, advantage, active, 0.2), logits, retain_graph=True)
    plain = torch.autograd.grad(-(logp * advantage * active).sum() / active.sum(), logits)
    assert_close(ppo, plain)


def test_ppo_clips_on_the_side_where_the_move_pays():
    ratio = torch.tensor([1.5, 0.5, 1.5, 0.5])
    advantage = torch.tensor([1.0, 1.0, -1.0, -1.0])
    for r, a, expected in zip(ratio, advantage, (-1.2, -0.5, 1.5, 0.8), strict=True):
        assert_close(ops.ppo_loss(r.view(1), a.view(1), torch.ones(1), 0.2), torch.tensor(expected))


def test_clipped_value_loss():
    """Huber with delta 10; a move beyond the clip radius towards the target earns nothing."""
    value = torch.tensor([1.0, 0.1, 0.0], requires_grad=True)
    target = torch.tensor([2.0, 2.0, 20.0])
    losses = torch.stack([ops.clipped_value_loss(v, torch.zeros(()), t, 0.2) for v, t in zip(value, target, strict=True)])
    assert_close(losses, torch.tensor([1.8**2 / 2, 1.9**2 / 2, 10 * (20 - 5.0)]))
    losses.sum().backward()
    assert_close(value.grad, torch.tensor([0.0, -1.9, -10.0]))


def test_centred_sums_to_0_under_the_policy():
    values, probs = torch.randn(7, 3, 5), torch.randn(7, 3, 5).softmax(-1)
    result = ops.centre_under_policy(values, probs)
    assert_close((probs * result).sum(-1), torch.zeros(7, 3), atol=1e-6, rtol=0)
    assert_close(result[..., 1:] - result[..., :1], values[..., 1:] - values[..., :1])


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 6), st.floats(-50, 50), st.integers(0, 2**31))
def test_log_policy_gives_illegal_actions_nothing(n_actions, scale, seed):
    random = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(20, n_actions, generator=random)
    avail = torch.rand(20, n_actions, generator=random) > 0.5
    avail[torch.arange(20), torch.randint(n_actions, (20,), generator=random)] = True
    logp = ops.log_policy(logits, avail)
    assert (logp.exp()[~avail] == 0).all()
    assert_close(logp.exp().sum(-1), torch.ones(20))
    entropy = ops.entropy(logp)
    assert entropy.isfinite().all()
    assert (entropy > -1e-6).all()
    assert (entropy <= avail.sum(-1).log() + 1e-5).all()


def test_entropy_with_one_legal_action_is_0_and_has_no_gradient():
    logits = torch.randn(4, requires_grad=True)
    entropy = ops.entropy(ops.log_policy(logits, torch.tensor([False, True, False, False])))
    entropy.backward()
    assert entropy.item() == 0
    assert_close(logits.grad, torch.zeros(4))


@pytest.mark.parametrize("per_agent", [False, True])
def test_normalise_advantage_looks_at_active_rows_only(per_agent):
    advantage, active = 5 + 3 * torch.randn(40, 5, 3), torch.rand(40, 5, 3) > 0.5
    result = ops.normalise_advantage(advantage, active, per_agent)
    polluted = ops.normalise_advantage(torch.where(active, advantage, 1e3), active, per_agent)
    assert_close(result[active], polluted[active])
    for rows in [result[..., i][active[..., i]] for i in range(3)] if per_agent else [result[active]]:
        assert rows.mean().item() == pytest.approx(0, abs=1e-5)
        assert rows.std(unbiased=False).item() == pytest.approx(1, abs=1e-4)


def test_normalise_advantage_floors_the_deviation_of_an_agent_without_influence():
    advantage = torch.randn(100, 10, 3) * torch.tensor([1.0, 1.0, 1e-3])
    result = ops.normalise_advantage(advantage, torch.ones(100, 10, 3, dtype=torch.bool), per_agent=True)
    assert_close(result.std((0, 1))[:2], torch.ones(2), atol=1e-2, rtol=0)
    assert result[..., 2].std().item() == pytest.approx(1e-2, rel=0.1)


def test_normalise_advantage_without_active_rows_is_finite():
    assert ops.normalise_advantage(torch.randn(3, 2, 2), torch.zeros(3, 2, 2, dtype=torch.bool), True).isfinite().all()


def test_explained_variance():
    target = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert ops.explained_variance(target, target) == 1
    assert ops.explained_variance(target + 7, target) == pytest.approx(1)
    assert ops.explained_variance(torch.zeros(4), target) == pytest.approx(0)
    assert ops.explained_variance(-target, target) == pytest.approx(-3)
    assert ops.explained_variance(target, torch.ones(4)) == 0


def test_chunks_keep_the_order_of_time():
    """Steps 0 to 5 of two episodes, numbered along the rows."""
    cut = ops.chunks(torch.arange(12).view(6, 2), 3)
    assert cut.tolist() == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]


def trained(kind):
    """The weights after some steps, with a look into the state in between."""
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 3, generator=random).requires_grad_()
    optimiser = kind([weight], lr=1e-2, eps=1e-5)
    for _ in range(6):
        optimiser.load_state_dict(deepcopy(optimiser.state_dict()))
        optimiser.zero_grad()
        (torch.randn(8, 4, generator=random) @ weight).square().sum().backward()
        optimiser.step()
    return weight


def test_adam_takes_torchs_steps_without_its_compiler(monkeypatch):
    expected = trained(torch.optim.Adam)
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)  # an import fails
    assert torch.equal(trained(Adam), expected)
