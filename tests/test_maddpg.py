# pyright: reportAttributeAccessIssue=false, reportGeneralTypeIssues=false
# Attributes of a torch module are those of its parts, which pyright does not know.
"""MADDPG: its sampling and gradients, its targets, its two options, and games with known or recorded answers."""

import dataclasses
from copy import deepcopy

import pytest
import torch
from helpers.games import CLIMBING, QTRAN_PAYOFF, Matrix, Noise, RingDump, TwoStep, Xor, collect, greedy_return, penalty, train
from torch.testing import assert_close

from tsc_marl import ops
from tsc_marl.algos.maddpg import Maddpg, MaddpgConfig
from tsc_marl.errors import UserError
from tsc_marl.nn import agent
from tsc_marl.training.learner import Learner
from tsc_marl.types import Batch, Spec

GIVEN = {"epsilon_start": 0.0, "epsilon_end": 0.0}
"""The games were recorded without random actions beside the draws."""
TINY = GIVEN | {"hidden": (16,), "critic_hidden": (16,), "batch_size": 16, "gradient_steps": 2}


def build(seed=0, spec=None, **settings):
    torch.manual_seed(seed)
    return Maddpg(spec or Noise().spec, MaddpgConfig(**(TINY | settings)))


def played(algorithm, seed=0, steps=12):
    return collect(Noise(seed=seed), algorithm, steps, torch.Generator().manual_seed(seed))


def inputs(algorithm, batch):
    """x and the one-hot joint action, as `update` makes them."""
    return batch.state, torch.nn.functional.one_hot(batch.action, algorithm.spec.n_actions).float()


# --- Gumbel-softmax


def test_hard_samples_are_softmax_samples_and_never_illegal():
    """1e5 draws: every frequency within 3 standard errors, whatever the temperature."""
    logits, avail = torch.tensor([1.0, -0.5, 0.3, 2.0, 0.0]), torch.tensor([True, True, True, False, True])
    expected, n = ops.log_policy(logits, avail).exp(), 100_000
    for temperature in (0.1, 1.0, 5.0):
        generator = torch.Generator().manual_seed(0)
        draws = ops.gumbel_softmax(logits.expand(n, 5), avail.expand(n, 5), temperature, generator)
        assert ((draws == 0) | (draws == 1)).all()
        assert (draws.sum(-1) == 1).all()
        error = (draws.mean(0) - expected).abs()
        assert (error <= 3 * (expected * (1 - expected) / n).sqrt()).all()
        assert draws[:, 3].sum() == 0


def test_gradient_is_that_of_the_relaxed_sample():
    """Against central differences of softmax((l + g) / tau), the noise g being the same by a seed."""
    torch.manual_seed(0)
    logits, weight = torch.randn(6, 4, dtype=torch.float64, requires_grad=True), torch.randn(6, 4, dtype=torch.float64)
    avail, tau = torch.tensor([True, True, False, True]).expand(6, 4), 0.7
    (ops.gumbel_softmax(logits, avail, tau, torch.Generator().manual_seed(1)) * weight).sum().backward()
    noise = -torch.empty(6, 4, dtype=torch.float64).exponential_(generator=torch.Generator().manual_seed(1)).log()

    def relaxed(at):
        return (torch.softmax((at.masked_fill(~avail, ops.ILLEGAL) + noise) / tau, -1) * weight).sum()

    numeric = torch.zeros_like(logits)
    for index in torch.cartesian_prod(torch.arange(6), torch.arange(4)):
        step = torch.zeros_like(logits)
        step[tuple(index)] = 1e-6
        numeric[tuple(index)] = (relaxed(logits.detach() + step) - relaxed(logits.detach() - step)) / 2e-6
    assert_close(logits.grad, numeric, atol=1e-7, rtol=1e-5)
    assert (logits.grad[:, 2] == 0).all()


def test_temperature_goes_from_start_to_end():
    algorithm = build(temperature=(4.0, 0.1))
    for progress, expected in ((0.0, 4.0), (0.5, 2.05), (1.0, 0.1)):
        found = Learner(algorithm).learn(played(algorithm), progress)
        assert found["policy/temperature"] == pytest.approx(expected)


# --- critic


@pytest.mark.parametrize("sharing", ["full", "full_no_id", "none"])
def test_the_common_input_of_a_layer_equals_a_copy_per_agent(sharing):
    layer = agent.GroupLinear(3, 5, 4, sharing, 1.0)
    x = torch.randn(6, 2, 5)
    assert_close(layer.common(x), layer(x.unsqueeze(-2).expand(6, 2, 3, 5)))


def test_views_have_the_own_action_on_the_diagonal():
    joint, own = torch.randn(5, 3, 4), torch.randn(5, 3, 4)
    views = ops.action_views(joint, own)
    for i in range(3):
        for j in range(3):
            assert torch.equal(views[:, i, j], own[:, i] if i == j else joint[:, j])
    assert torch.equal(ops.action_views(joint), ops.action_views(joint, joint))


def test_the_critic_sees_every_action_and_its_own_slot_alone_moves_the_actor():
    algorithm = build()
    torch.nn.init.normal_(algorithm.critic.net.head.weight)
    batch = played(algorithm)
    x, joint = inputs(algorithm, batch)
    views = ops.action_views(joint).clone().requires_grad_(True)
    algorithm.critic(batch.obs[:-1], x[:-1], views)[..., 1].sum().backward()
    assert views.grad[..., 1, :, :].abs().sum((0, 1, 3)).gt(0).all()
    assert not views.grad[..., [0, 2], :, :].any()


@pytest.mark.parametrize("others", ["replay", "current"])
def test_an_actors_gradient_is_that_of_its_own_critic(others):
    """Unshared actors: with critic 0 silenced to a constant, actor 0 feels nothing and the others do."""
    algorithm = build(others=others, sharing="none", logit_penalty=0.0)
    torch.nn.init.normal_(algorithm.critic.net.head.weight)
    with torch.no_grad():
        algorithm.critic.net.head.weight[0] = 0
    batch = played(algorithm)
    loss, _, _ = algorithm.actor_loss(batch, *inputs(algorithm, batch), 1.0)
    loss.backward()
    for parameter in algorithm.actor.parameters():
        assert not parameter.grad[0].any()
        assert parameter.grad[1:].flatten(1).any(1).all()


# --- targets


def scripted_target(**settings):
    algorithm = build(gamma=0.9, target_action="argmax", **settings)
    for module in (algorithm.target_critic, algorithm.target_actor):
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    algorithm.returns.update(torch.tensor([3.0, 7.0]))
    batch = played(algorithm)
    return algorithm, dataclasses.replace(batch, terminated=torch.rand(batch.terminated.shape) < 0.3)


@pytest.mark.parametrize("reward", ["own", "team"])
def test_target_by_hand(reward):
    """y = r + gamma (1 - terminated) (mean + deviation Qbar(x', argmax of the legal target logits)), one agent at a time."""
    algorithm, batch = scripted_target(reward=reward)
    found = algorithm.target(batch, batch.state)
    logits = algorithm.target_actor(batch.obs[1:])[..., 0, :, :].masked_fill(~batch.avail[1:], -1e9)
    joint = torch.nn.functional.one_hot(logits.argmax(-1), 4).float()
    for i in range(3):
        later = 5 + 2 * algorithm.target_critic(batch.obs[1:], batch.state[1:], ops.action_views(joint))[..., i]
        first = batch.reward[..., i] if reward == "own" else batch.reward.sum(-1)
        expected = first + 0.9 * torch.where(batch.terminated, 0.0, later)
        assert_close(found[..., i], expected.detach(), atol=1e-4, rtol=1e-4)


def test_inferred_policies_replace_what_is_inferred_and_nothing_else():
    algorithm, batch = scripted_target(infer="neighbours")
    for parameter in algorithm.target_peers.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    seen = []
    algorithm.target_critic.register_forward_pre_hook(lambda _, given: seen.append(given[2]))
    algorithm.target(batch, batch.state)
    views, obs, avail = seen[0], batch.obs[1:], batch.avail[1:]
    assert list(zip(algorithm.peers.watcher.tolist(), algorithm.peers.watched.tolist(), strict=True)) == [(0, 1), (1, 2), (2, 0)]
    assert ((views.sum(-1) - 1).abs() < 1e-5).all()
    assert (views[~avail.unsqueeze(-3).expand_as(views)] == 0).all()
    logits = algorithm.target_peers(obs)
    for i in range(3):
        for j in range(3):
            hard = ((views[..., i, j, :] == 0) | (views[..., i, j, :] == 1)).all()
            assert hard == (j != (i + 1) % 3)
        j = (i + 1) % 3
        assert_close(views[..., i, j, :], ops.log_policy(logits[..., i, :], avail[..., j, :]).exp())


def distance(algorithm):
    pairs = zip(algorithm.target_actor.parameters(), algorithm.actor.parameters(), strict=True)
    return sum((old - new).abs().sum().item() for old, new in pairs)


def targets_after(updates, batches=1, **settings):
    """The distance of the target actors from the actors after each batch of updates."""
    algorithm = build(gradient_steps=updates, **settings)
    learner, found = Learner(algorithm), []
    for seed in range(batches):
        learner.learn(played(algorithm, seed), 0.0)
        found.append(distance(algorithm))
    return found


def test_target_updates_by_updates():
    assert targets_after(3, polyak=None, target_update_interval=3) == [0]
    assert targets_after(2, polyak=None, target_update_interval=3)[0] > 0
    assert [x == 0 for x in targets_after(2, 3, polyak=None, target_update_interval=3)] == [False, False, True]


def test_target_updates_by_episodes_copy_before_the_updates():
    """8 episodes a batch: a copy after 16 comes with every second batch, when the actors are as they were after the first."""
    algorithm = build(polyak=None, target_update_interval_episodes=16)
    learner, first, copied = Learner(algorithm), deepcopy(algorithm.target_actor.state_dict()), []
    for seed in range(3):
        before = deepcopy(algorithm.actor.state_dict())
        learner.learn(played(algorithm, seed), 0.0)
        now = algorithm.target_actor.state_dict()
        copied.append([all(torch.equal(now[key], then[key]) for key in now) for then in (first, before)])
        first = deepcopy(now)
    assert copied == [[True, True], [False, True], [True, False]]


def test_polyak_moves_by_its_share():
    algorithm = build(polyak=0.25, gradient_steps=1)
    before = deepcopy(algorithm.target_critic.state_dict())
    Learner(algorithm).learn(played(algorithm), 0.0)
    for key, value in algorithm.critic.state_dict().items():
        assert_close(algorithm.target_critic.state_dict()[key], 0.75 * before[key] + 0.25 * value)
    assert targets_after(1, polyak=1.0)[0] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"target_update_interval": 200}, ("algo.polyak 0.01", "algo.target_update_interval 200")),
        ({"polyak": None, "target_update_interval": 2, "target_update_interval_episodes": 3},
         ("algo.target_update_interval 2", "algo.target_update_interval_episodes 3")),
        ({"polyak": None}, ("algo.polyak None", "algo.target_update_interval None", "algo.target_update_interval_episodes None")),
        ({"polyak": 0.0}, ("algo.polyak ", "0.0")),
        ({"polyak": 1.5}, ("algo.polyak ", "1.5")),
        ({"polyak": None, "target_update_interval_episodes": 0}, ("algo.target_update_interval_episodes ", "0")),
        ({"temperature": (1.0, 0.0)}, ("algo.temperature ", "(1.0, 0.0)")),
        ({"ensemble": 0}, ("algo.ensemble ", "0")),
        ({"logit_penalty": -1.0}, ("algo.logit_penalty ", "-1.0")),
        ({"infer_entropy": float("nan")}, ("algo.infer_entropy ", "nan")),
        ({"infer_entropy": 0.1}, ("algo.infer_entropy 0.1 has no effect with algo.infer none",)),
    ],
)  # fmt: skip
def test_bad_settings_are_named(settings, named):
    with pytest.raises(UserError) as error:
        MaddpgConfig(**settings)
    assert all(text in str(error.value) for text in named), str(error.value)
    assert "\n" not in str(error.value)


# --- exploration


def test_epsilon_is_the_share_of_random_actions_while_exploring():
    """A policy that is sure of action 0, of four legal ones: it plays 1 - epsilon + epsilon / 4 of the time."""
    algorithm = build()
    with torch.no_grad():
        for parameter in algorithm.actor.parameters():
            parameter.zero_()
        algorithm.actor.members[0].head.bias[..., 0] = 50.0
    obs, avail = torch.zeros(20_000, 3, 5), torch.ones(20_000, 3, 4, dtype=torch.bool)
    algorithm.config = dataclasses.replace(algorithm.config, epsilon_start=0.4, epsilon_end=0.1, exploration_fraction=0.5)
    for progress, share in ((0.0, 0.4), (0.25, 0.25), (0.5, 0.1), (1.0, 0.1)):
        assert algorithm.on_new_episodes(played(algorithm), progress) == {"policy/epsilon": pytest.approx(share)}
        action = algorithm.act(obs, avail, None, torch.Generator().manual_seed(0))[0]
        assert (action == 0).float().mean() == pytest.approx(1 - 0.75 * share, abs=0.01)
        assert (algorithm.act(obs, avail, None, None)[0] == 0).all()


# --- sub-policies


class Plain(Maddpg):
    """MADDPG without any notion of sub-policies, written separately."""

    def act(self, obs, avail, carry, generator):
        logits = self.actor.members[0](obs)
        if generator is None:
            return ops.log_policy(logits, avail).argmax(-1), {}, None
        action = ops.gumbel_softmax(logits, avail, 1.0, generator).argmax(-1)
        return ops.epsilon_greedy(action, avail, self.epsilon, generator), {"sub_policy": torch.full_like(action, -1)}, None

    def target(self, batch, x):
        with torch.no_grad():
            joint = ops.gumbel_softmax(self.target_actor.members[0](batch.obs[1:]), batch.avail[1:], 1.0, None)
            later = self.returns.restore(self.target_critic(batch.obs[1:], x[1:], ops.action_views(joint)))
            return batch.reward + self.config.gamma * (~batch.terminated).float().unsqueeze(-1) * later

    def actor_loss(self, batch, x, joint, temperature):
        obs, avail = batch.obs[:-1], batch.avail[:-1]
        active = avail.sum(-1) > 1
        weight = active / active.sum((0, 1))
        logits = self.actor.members[0](obs)
        own = ops.gumbel_softmax(logits, avail, temperature, None)
        values = self.critic(obs, x[:-1], ops.action_views(joint, own))
        penalty = (logits**2 * avail).sum(-1) / avail.sum(-1)
        return (weight * (self.config.logit_penalty * penalty - values)).sum() / 3, logits, weight


@pytest.mark.parametrize("sharing", ["full", "none"])
def test_one_sub_policy_is_plain_maddpg_bit_for_bit(sharing):
    found = []
    for cls in (Maddpg, Plain):
        torch.manual_seed(0)
        algorithm = cls(Noise().spec, MaddpgConfig(**TINY, sharing=sharing, ensemble=1))
        learner, generator, game = Learner(algorithm), torch.Generator().manual_seed(0), Noise()
        for n in range(4):
            learner.learn(collect(game, algorithm, 12, generator), n / 4)
        found.append((algorithm.state_dict(), collect(game, algorithm, 12, None).action))
    assert torch.equal(found[0][1], found[1][1])
    for key, value in found[0][0].items():
        assert torch.equal(value, found[1][0][key]), key


def test_a_sub_policy_is_drawn_once_an_episode_and_uniformly():
    algorithm = build(ensemble=3)
    game = Noise(envs=2000)
    k = collect(game, algorithm, 3, torch.Generator().manual_seed(0)).extras["sub_policy"]
    assert (k == k[:1]).all()
    share = torch.nn.functional.one_hot(k[0], 3).float().mean(0)
    assert (share - 1 / 3).abs().max() < 3 * (2 / 9 / 2000) ** 0.5 + 1e-6
    assert (k[0, :, 0] != k[0, :, 1]).any()


def test_every_sub_policy_plays_legal_actions():
    algorithm = build(ensemble=3)
    obs, avail, _ = Noise(envs=300).observe()
    for generator in (None, torch.Generator().manual_seed(0)):
        action, _, _ = algorithm.act(obs, avail, None, generator)
        assert avail.gather(-1, action.unsqueeze(-1)).all()


def test_what_is_played_is_the_drawn_sub_policy_and_greedily_the_mean_of_all():
    algorithm = build(ensemble=2)
    for member, favourite in zip(algorithm.actor.members, (1, 2), strict=True):
        with torch.no_grad():
            member.head.weight.zero_()
            member.head.bias.copy_(torch.tensor([[2.0 if a == 0 else 20.0 * (a == favourite) for a in range(4)]]))
    obs, avail = torch.randn(500, 3, 5), torch.ones(500, 3, 4, dtype=torch.bool)
    action, extras, _ = algorithm.act(obs, avail, None, torch.Generator().manual_seed(0))
    assert torch.equal(action, extras["sub_policy"] + 1)
    with torch.no_grad():
        algorithm.actor.members[1].head.bias.copy_(torch.tensor([[3.0, 0.0, 2.5, 0.0]]))
        algorithm.actor.members[0].head.bias.copy_(torch.tensor([[0.0, 3.0, 2.9, 0.0]]))
    mean = torch.stack([torch.softmax(member(obs), -1) for member in algorithm.actor.members]).mean(0)
    action, _, _ = algorithm.act(obs, avail, None, None)
    assert torch.equal(action, mean.argmax(-1))
    assert (action == 2).all()


def test_each_sub_policy_learns_from_its_own_rows_with_weight_1_over_k():
    algorithm = build(ensemble=2, sharing="none")
    torch.nn.init.normal_(algorithm.critic.net.head.weight)
    batch = played(algorithm)
    k = torch.zeros_like(batch.extras["sub_policy"])
    k[..., 1] = 1
    k[:, :2, 2] = 1
    batch.extras["sub_policy"] = k
    loss, _, weight = algorithm.actor_loss(batch, *inputs(algorithm, batch), 1.0)
    loss.backward()
    heads = [member.head.weight.grad.flatten(1).any(1).tolist() for member in algorithm.actor.members]
    assert heads == [[True, False, True], [False, True, True]]
    active = batch.avail[:-1].sum(-1) > 1
    assert not weight[~active].any()
    for mine in (k[..., 2] == 0, k[..., 2] == 1):
        assert weight[..., 2][mine].sum().item() == pytest.approx(0.5)
        assert weight[..., 2][mine & active[..., 2]].std() < 1e-8


def test_the_next_action_comes_from_the_sub_policy_that_goes_on():
    algorithm = build(ensemble=2, target_action="argmax")
    for k, member in enumerate(algorithm.target_actor.members):
        with torch.no_grad():
            member.head.weight.zero_()
            member.head.bias.copy_(torch.tensor([[20.0 * (a == k) for a in range(4)]]))
    batch = played(algorithm)
    batch = dataclasses.replace(batch, avail=torch.ones_like(batch.avail))
    seen = []
    algorithm.target_critic.register_forward_pre_hook(lambda _, given: seen.append(given[2]))
    algorithm.target(batch, batch.state)
    assert torch.equal(seen[0].diagonal(dim1=-3, dim2=-2).transpose(-1, -2).argmax(-1), batch.extras["sub_policy"])


@pytest.mark.parametrize("settings", [{"ensemble": 3}, {"infer": "neighbours"}, {"infer": "all", "ensemble": 2},
                                      {"critic_input": "obs"}, {"others": "current", "target_action": "argmax"}])  # fmt: skip
def test_every_parameter_moves_under_each_option(settings):
    algorithm = build(sharing="none", gradient_steps=4, batch_size=64, **settings)
    before = {key: value.detach().clone() for key, value in algorithm.named_parameters()}
    for seed in (0, 1):
        metrics = Learner(algorithm).learn(played(algorithm, seed), 0.0)
        assert all(torch.tensor(value).isfinite() for value in metrics.values())
    rest = {key for key, value in algorithm.named_parameters() if not (value != before[key]).flatten(1).any(1).all()}
    assert not rest


@pytest.mark.parametrize("settings", [{"ensemble": 3}, {"infer": "all"}, {"polyak": None, "target_update_interval": 3}])
def test_training_resumes_under_each_option(settings):
    one, other = build(**settings), build(seed=9, **settings)
    Learner(one).learn(played(one), 0.0)
    state, batch = deepcopy(one.training_state()), played(one, 1)
    after = []
    for algorithm in (one, other):
        algorithm.load_training_state(deepcopy(state))
        after.append(Learner(algorithm).learn(batch, 0.5))
    assert after[0] == after[1]
    for key, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def test_one_agent_has_nobody_to_infer():
    algorithm = build(spec=Spec("one", ("only",), 4, 5, 6, ((),)), infer="all")
    game = Noise(n=1)
    batch = collect(game, algorithm, 4, torch.Generator().manual_seed(0))
    assert "infer/kl" not in Learner(algorithm).learn(batch, 0.0)


# --- inferred policies

SCRIPT = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.2, 0.6]])
"""What the two stationary agents do whatever they see: tenths, so that a batch holds every action exactly as often."""


def scripted(rows=1000):
    """A batch in which each agent plays its script, in an order of its own."""
    torch.manual_seed(3)
    action = torch.stack([torch.repeat_interleave(torch.arange(3), (p * rows).round().long()) for p in SCRIPT], dim=-1)
    action = torch.stack([column[torch.randperm(rows)] for column in action.T], dim=-1).unsqueeze(0)
    end = torch.ones(1, rows, dtype=torch.bool)
    ones = torch.ones(2, rows, 2, 3)
    extras = {"sub_policy": torch.zeros_like(action)}
    return Batch(ones[..., :1], ones.bool(), ones[..., 0, :1], action, torch.zeros(1, rows, 2), end, ~end, extras)


def flattened(p, weight):
    """argmax_q sum_a p_a log q_a + weight H(q): p_a / q_a - weight (log q_a + 1) = nu, both solved by bisection."""

    def q_of(nu):
        low, high = torch.full_like(p, -40.0), torch.full_like(p, 5.0)
        for _ in range(100):
            middle = (low + high) / 2
            above = p / middle.exp() - weight * (middle + 1) > nu
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        return low.exp()

    low, high = -10.0, 10.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if q_of(middle).sum() > 1 else (low, middle)
    return q_of(low)


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_the_inferred_policy_of_a_stationary_agent(weight):
    """KL < .01 to the script without an entropy bonus, else to the optimum that the bonus flattens."""
    spec = Spec("script", ("one", "other"), 3, 1, 1, ((1,), (0,)))
    algorithm, batch = (
        build(spec=spec, infer="all", infer_entropy=weight, batch_size=1000, sequence_length=1, lr=3e-3),
        scripted(),
    )
    algorithm.on_new_episodes(batch, 0.0)
    for _ in range(400):
        algorithm._infer(algorithm.peers, batch)
    found = ops.log_policy(algorithm.peers(batch.obs[0, :1]), torch.ones(1, 2, 3, dtype=torch.bool))[0].double()
    for (i, j), logq in zip(((0, 1), (1, 0)), found, strict=True):
        p = SCRIPT[j].double()
        wanted = p if weight == 0 else flattened(p, weight)
        assert wanted.sum().item() == pytest.approx(1, abs=1e-6)
        assert ops.kl(wanted.log(), logq) < 0.01, (i, j)
        if weight:
            assert ops.entropy(logq) > ops.entropy(p.log()) + 0.05
            assert ops.kl(p.log(), logq) > 0.01


def test_inference_takes_one_step_an_update_on_the_latest_episodes_alone():
    algorithm, calls = build(infer="neighbours", gradient_steps=3), []
    learner = Learner(algorithm)
    learner.learn(played(algorithm), 0.0)
    algorithm.peers.register_forward_hook(lambda _, given, __: calls.append(given[0]))
    latest = played(algorithm, 1)
    metrics = learner.learn(latest, 0.0)
    assert len(calls) == 3
    known = latest.obs[:-1].flatten(0, 1)
    assert all((row == known).all((1, 2)).any() for row in calls[0])
    assert metrics["infer/kl"] >= 0


# --- games

ONE_SHOT = GIVEN | {
    "hidden": (16,), "critic_hidden": (32,), "lr": 1e-2, "gradient_steps": 4, "batch_size": 64, "sequence_length": 1,
    "gamma": 0.9, "replay_episodes": 640,
}  # fmt: skip


@pytest.fixture
def one_thread():
    """Small tensors: more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def outcomes(make, steps=1, seeds=10, batches=60, **settings):
    """Sorted greedy returns after training with each seed."""
    trained = [train("maddpg", make(), batches, steps, seed, **(ONE_SHOT | settings)) for seed in range(seeds)]
    found = sorted(round(greedy_return(make(), algorithm, steps), 2) for algorithm in trained)
    print("\n", settings, found)
    return found


def median(found):
    return found[(len(found) - 1) // 2]


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_climbing_ends_between_5_and_7():
    """Recorded over 10 seeds: 5 six times, 6 twice, 7 twice; the same counts with others=current."""
    found = outcomes(lambda: Matrix(CLIMBING))
    assert sum(x in (5, 6, 7) for x in found) >= 9


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("k", "payoff"), [(-100, 2), (0, 10)])
def test_penalty(k, payoff):
    """Recorded over 10 seeds: k=-100 gives 2 nine times and 0 once; k=0 gives 10 eight times and 0 twice.

    The misses at k=0 have a right critic and a mixed policy at rest, though one action pays more: a straight-through
    gradient is the critic's slope at the action taken, which need not be the difference of its values.
    """
    assert median(outcomes(lambda: Matrix(penalty(k)))) == payoff


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_qtran_payoff_ends_at_0_or_8():
    """Recorded over 20 seeds: 0 sixteen times, 8 four times.

    With twice the learning rate and half the updates: 0 sixteen times, 8 three times, -12 once.
    """
    found = outcomes(lambda: Matrix(QTRAN_PAYOFF), seeds=20, batches=120, lr=5e-3, replay_episodes=1280)
    assert sum(x in (0, 8) for x in found) >= 18


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_two_step_is_solved():
    """Predicted 7 to 8; recorded over 10 seeds: 8 in all."""
    assert median(outcomes(TwoStep, steps=2)) == 8


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("n", [2, pytest.param(4, marks=pytest.mark.slow), pytest.param(6, marks=pytest.mark.slow)])
def test_xor_with_an_id(n):
    """Predicted 1; recorded over 10 seeds: 1 in all with two and with six agents, in eight with four, 0 in the others."""
    found = outcomes(lambda: Xor(n))
    assert sum(x == 1 for x in found) >= 7


@pytest.mark.usefixtures("one_thread")
def test_xor_without_an_id_cannot_be_solved():
    """The best shared policy of two agents tosses a coin: .5, here with 3 standard errors of 4000 plays."""
    for seed in range(3):
        algorithm = train("maddpg", Xor(2), 40, 1, seed, **ONE_SHOT, sharing="full_no_id")
        reward = collect(Xor(2, envs=4000), algorithm, 1, torch.Generator().manual_seed(seed)).reward.mean()
        assert reward < 0.5 + 3 * 0.5 / 4000**0.5


def dump(seed, batches, **settings):
    """Greedy reward per agent and step on the ring of four, and the best batch's."""
    game, best = RingDump(4, seed=seed), []
    torch.manual_seed(seed)
    config = ONE_SHOT | {"lr": 3e-3, "gradient_steps": 8, "sequence_length": 4, "gamma": 0.95, "replay_episodes": 160} | settings
    algorithm = Maddpg(game.spec, MaddpgConfig(**config))
    learner, generator = Learner(algorithm), torch.Generator().manual_seed(seed)
    for n in range(batches):
        batch = collect(game, algorithm, 16, generator)
        best.append(batch.reward.mean().item())
        learner.learn(batch, n / batches)
    return collect(RingDump(4, seed=99), algorithm, 16, None).reward[1:].mean().item(), max(best)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_selfish_critics_never_solve_ring_dump():
    """Each agent's own reward: always to act, -1."""
    found = [dump(seed, 20, reward="own") for seed in range(10)]
    assert max(greedy for greedy, _ in found) < -0.9
    assert max(best for _, best in found) < -0.3


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_team_critics_solve_ring_dump():
    """The optimum is 0; recorded over 10 seeds: 0 in all (0.01 with the reward's noise)."""
    found = sorted(dump(seed, 60, reward="team")[0] for seed in range(10))
    print("\n", [round(x, 2) for x in found])
    assert median(found) > -0.15
