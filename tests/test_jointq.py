# pyright: reportAttributeAccessIssue=false, reportGeneralTypeIssues=false
# Attributes of a torch module are those of its parts, which pyright does not know.
"""The joint-Q critic: what its heads converge to, and what its advantages are."""

import itertools
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from helpers.games import Noise, collect, ring
from torch.testing import assert_close

from tsc_marl import algos, ops
from tsc_marl.errors import UserError
from tsc_marl.nn.sharing import polyak_update
from tsc_marl.types import Batch, Spec

N, A = 4, 3
POLICY = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5], [0.25, 0.5, 0.25]])
"""The behaviour policy of each agent: multiples of 1/4, so that 4^N rows hold every joint action as often as it occurs."""


def build(name, spec, seed=0, **settings):
    torch.manual_seed(seed)
    cls = algos.find(name)
    return cls(spec, cls.Config(**settings))


def matrix_game(sampled):
    """One state, one step, random payoffs R^i(a) in [N, A, A, A, A]; the task ends. Rows: all of POLICY, or a sample of it."""
    torch.manual_seed(1)
    payoff = 3 * torch.randn(N, *[A] * N)
    if sampled:
        action = torch.stack([torch.multinomial(p, sampled, replacement=True) for p in POLICY], dim=-1)
    else:
        copies = [[a for a in range(A) for _ in range(int(4 * p[a]))] for p in POLICY]
        action = torch.tensor(list(itertools.product(*copies)))
    rows = len(action)
    probs = POLICY.expand(rows, N, A)
    reward = payoff[:, *action.T].T
    spec = Spec("matrix", tuple("abcd"), A, 1, 1, ring(N))
    end = torch.ones(1, rows, dtype=torch.bool)
    batch = Batch(
        obs=torch.ones(2, rows, N, 1), avail=torch.ones(2, rows, N, A, dtype=torch.bool), state=torch.ones(2, rows, 1),
        action=action.unsqueeze(0), reward=reward.unsqueeze(0), terminated=end, truncated=~end,
        extras={"probs": probs.unsqueeze(0), "logp": ops.gather_actions(probs.log(), action).unsqueeze(0)},
    )  # fmt: skip
    return spec, payoff, batch


def effects(payoff):
    """E[R^k | a^i] - E[R^k] under POLICY, as [i, k, A]."""
    joint = torch.einsum("a,b,c,d->abcd", *POLICY)
    result = []
    for i in range(N):
        mean = (payoff * joint).movedim(i + 1, 1).flatten(2).sum(-1) / POLICY[i]
        result.append(mean - mean @ POLICY[i].unsqueeze(-1))
    return torch.stack(result)


def fitted(batch, spec, steps=600, **settings):
    """Train critic and effects alone, on rows that are prepared anew now and then."""
    algorithm = build("jointq", spec, **SMALL, **settings)
    learned = [*algorithm.critic.parameters(), *algorithm.online_effects.parameters()]
    optimiser = torch.optim.Adam(learned, lr=2e-2, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for n in range(steps):
        if n % (steps // 6) == 0:
            polyak_update(algorithm.effects, algorithm.online_effects, 1.0)
            rows = algorithm.prepare(batch)[0].map(lambda x: x.flatten(0, 1))
        optimiser.zero_grad()
        (algorithm.critic_loss(rows) + algorithm.effects_loss(algorithm.effect_rows(rows))).backward()
        optimiser.step()
        schedule.step()
    polyak_update(algorithm.effects, algorithm.online_effects, 1.0)
    return algorithm


SMALL = {"hidden": (16,), "critic_hidden": (32,), "adv_norm": "none", "value_norm_decay": 0.0, "clip_coef": 100.0}


def heads(algorithm, batch):
    """The centred effects in the reward's unit: own [N, A], and on others [N, A] at full trust."""
    algorithm = deepcopy(algorithm)
    algorithm.config = replace(algorithm.config, others_trust="full")
    with torch.no_grad():
        own, pairs = algorithm.centred_effects(batch.obs[0, :1], batch.state[0, :1], batch.extras["probs"][0, :1])
        return own[0] * algorithm.residual.deviation.unsqueeze(-1), algorithm.effects_on_others(pairs)[0]


def mean_by_action(advantage, action):
    """E[A^i | a^i] over the rows, [N, A]."""
    chosen = torch.nn.functional.one_hot(action, A).float()
    return (advantage.unsqueeze(-1) * chosen).sum((0, 1)) / chosen.sum((0, 1))


def reach_of(hops):
    """reach[i, k] = 1 where the effects of agent i reach agent k: on a ring each agent's neighbour is the next one."""
    return sum(torch.eye(N).roll(k, dims=1) for k in range(1, hops + 1))


@pytest.mark.parametrize("hops", [1, 2, 3, 9])
def test_hops(hops):
    spec, _, _ = matrix_game(sampled=0)
    effects = build("jointq", spec, **SMALL, hops=hops).effects
    reach = torch.zeros(N, N).index_put((effects.sender, effects.receiver), torch.ones(()), accumulate=True)
    assert torch.equal(reach, reach_of(min(hops, N - 1)))


@pytest.mark.parametrize(("hops", "sharing"), [(1, "full"), (3, "none")])
def test_heads_are_the_effects_on_own_and_others_streams(hops, sharing):
    """Every joint action as often as the policy takes it: no sampling error, only the fit's (payoffs deviate by 3)."""
    spec, payoff, batch = matrix_game(sampled=0)
    algorithm = fitted(batch, spec, hops=hops, sharing=sharing)
    own, others = heads(algorithm, batch)
    effect = effects(payoff)
    assert_close(own, torch.einsum("iia->ia", effect), atol=0.01, rtol=0)
    assert_close(others, torch.einsum("ik,ika->ia", reach_of(hops), effect), atol=0.01, rtol=0)
    metrics = algorithm.prepare(batch)[1]
    for head in ("own", "others"):  # all that it predicts happened
        assert metrics[f"critic/{head}_slope"] == pytest.approx(1, abs=0.02)
        assert metrics[f"critic/{head}_explained"] > 0.03


def test_heads_from_a_sample():
    """2000 rows: within 3 standard errors of a mean over the 500 rows of the least frequent action, deviation 3."""
    spec, payoff, batch = matrix_game(sampled=2000)
    own, others = heads(fitted(batch, spec, steps=240), batch)
    effect, error = effects(payoff), 3 * 3 / 500**0.5
    assert_close(own, torch.einsum("iia->ia", effect), atol=error, rtol=0)
    assert_close(others, torch.einsum("ik,ika->ia", reach_of(1), effect), atol=error, rtol=0)
    assert effect.abs().max() > 4 * error


def test_rows_of_a_noisier_time_have_the_same_effects_and_less_weight():
    """Three times the noise: the effects in the reward's unit stay, and count a ninth in the loss."""
    algorithm, batch, _, _ = prepared()
    rows = algorithm.effect_rows(algorithm.prepare(batch)[0])
    own, pairs = algorithm.taken(*algorithm.centred_effects(rows.obs, rows.state, rows.probs), rows.action)
    algorithm.online_effects.load_state_dict(algorithm.effects.state_dict())
    explained = own + algorithm.onto(pairs)
    noisier = replace(rows, residual=rows.residual / 3, unit=3 * rows.unit)
    assert_close(algorithm.effects_loss(noisier), ((rows.residual - explained) ** 2).mean() / 9)
    assert_close(algorithm.effects_loss(rows), ((rows.residual - explained) ** 2).mean())


@pytest.mark.parametrize(("told", "trust"), [(1.0, 1.0), (0.5, 1.0), (2.0, 0.5), (-1.0, 0.0)])
def test_trust_is_the_slope_of_observed_on_predicted_effects(told, trust):
    """Heads that tell `told` times the true effects; all joint actions as often as the policy takes them."""
    spec, _, batch = matrix_game(sampled=0)
    algorithm = fitted(batch, spec)
    head = algorithm.effects.pair.head
    with torch.no_grad():
        for weights in (head.weight, head.bias):
            weights *= told
    algorithm.evidence.zero_()
    selfish = deepcopy(algorithm)
    selfish.config = replace(selfish.config, others_weight=0.0)
    full = deepcopy(algorithm)
    full.config = replace(full.config, others_trust="full")
    rows, metrics = algorithm.prepare(batch)
    assert metrics["critic/trust"] == pytest.approx(trust, abs=0.02)
    assert metrics["critic/others_slope"] == pytest.approx(1 / told, rel=0.02)
    own, believed = selfish.prepare(batch)[0].advantage, full.prepare(batch)[0].advantage
    assert_close(rows.advantage, own + metrics["critic/trust"] * (believed - own), atol=1e-4, rtol=1e-4)


def test_trust_is_near_zero_for_noise():
    """Streams in which nobody's action matters, and heads that have learned the noise of 40 rows by heart."""
    game = Noise()
    algorithm = build("jointq", game.spec, effects_lr=1e-2, effects_epochs=20, num_minibatches=1)
    policy = torch.Generator().manual_seed(0)
    for seed in range(30):
        metrics = algorithm.update(collect(Noise(seed=seed), algorithm, 5, policy), 0.0)
    assert metrics["critic/trust"] < 0.3


def test_the_advantage_of_an_action_is_its_effect_on_the_team():
    """E[A^i | a^i] = E[R^J | a^i] - E[R^J] for every estimator."""
    spec, payoff, batch = matrix_game(sampled=0)
    algorithm = fitted(batch, spec, hops=3)
    for adv, share in (("own_plus_others", 0.0), ("own_plus_others", 0.5), ("mix", 0.0), ("mix", 0.5), ("mix", 1.0)):
        algorithm.config = replace(algorithm.config, advantage=adv, sampled_share=share, others_trust="full")
        advantage = algorithm.prepare(batch)[0].advantage
        assert_close(mean_by_action(advantage, batch.action), effects(payoff).sum(1), atol=0.01, rtol=0)


def prepared(**settings):
    """A critic with arbitrary weights on a random batch: the algorithm, the batch, V in raw units, advantage by options."""
    game = Noise()
    algorithm = build("jointq", game.spec, adv_norm="none", gamma=0.9, gae_lambda=0.8, **settings)
    algorithm.update(collect(Noise(seed=1), algorithm, 5, torch.Generator().manual_seed(1)), 0.0)
    with torch.no_grad():
        for head in (algorithm.critic.net.head, algorithm.effects.own.net.head, algorithm.effects.pair.head):
            head.weight.normal_()
    batch = collect(game, algorithm, 5, torch.Generator().manual_seed(0))
    with torch.no_grad():
        value = algorithm.returns.restore(algorithm.normalised_values(batch.obs, batch.state))

    def advantage(**options):
        algorithm.config = replace(algorithm.config, **options)
        return deepcopy(algorithm).prepare(batch)[0].advantage

    return algorithm, batch, value, advantage


def test_the_evidence_is_of_predicted_and_observed_effects_on_each_receiver():
    """On a ring only the agent before has an effect on one; residuals are those of lambda .8, in units of each agent."""
    algorithm, batch, value, _ = prepared()
    algorithm.evidence.zero_()
    unit = algorithm.residual.deviation.clone()
    assert unit.shape == (3,)
    with torch.no_grad():
        own, pairs = algorithm.effects(batch.obs[:-1], batch.state[:-1])
    own, pairs = (ops.centre_under_policy(head, batch.extras["probs"]) for head in (own, pairs))
    own, pairs = (ops.gather_actions(head, batch.action) for head in (own, pairs))
    residual = ops.gae(batch.reward, value, batch.terminated, batch.truncated, 0.9, 0.8) / unit
    predicted, observed = pairs.roll(1, dims=-1), residual - own
    metrics = algorithm.prepare(batch)[1]
    expected = 0.05 * torch.stack([(predicted * observed).sum(), (predicted**2).sum()]) / (observed**2).sum()
    assert_close(algorithm.evidence, expected, atol=1e-5, rtol=1e-3)
    assert metrics["critic/own_slope"] == pytest.approx(float((own * residual).sum() / (own**2).sum()), rel=1e-3)
    left = ((residual - own) ** 2).sum() / (residual**2).sum()
    assert metrics["critic/own_explained"] == pytest.approx(float(1 - left), rel=1e-3)
    left = ((observed - predicted) ** 2).sum() / (observed**2).sum()
    assert metrics["critic/others_explained"] == pytest.approx(float(1 - left), rel=1e-3)


def test_an_action_without_a_choice_has_no_effect():
    algorithm, batch, _, _ = prepared()
    with torch.no_grad():
        own, pairs = algorithm.centred_effects(batch.obs[:-1], batch.state[:-1], batch.extras["probs"])
        own, pairs = algorithm.taken(own, pairs, batch.action)
    forced = ~batch.has_choice
    assert 0.1 < forced.float().mean() < 0.9
    assert own[forced].abs().max() < 1e-4
    assert pairs[forced].abs().max() < 1e-4  # the sender of pair i is agent i
    assert pairs[~forced].abs().max() > 0.1


def test_one_step_team_is_own_reward_plus_the_step_of_the_teams_value():
    _, batch, value, advantage = prepared()
    total = value.sum(-1, keepdim=True)
    assert_close(advantage(advantage="one_step_team"), batch.reward + 0.9 * total[1:] - total[:-1], atol=1e-4, rtol=1e-4)


def test_one_step_team_at_a_termination():
    algorithm, batch, value, _ = prepared()
    algorithm.config = replace(algorithm.config, advantage="one_step_team")
    ended = replace(batch, terminated=batch.truncated, truncated=batch.terminated)
    advantage = deepcopy(algorithm).prepare(ended)[0].advantage
    assert_close(advantage[-1], batch.reward[-1] - value[-2].sum(-1, keepdim=True), atol=1e-4, rtol=1e-4)


def test_lambda_team_adds_the_later_residuals_of_the_team():
    _, batch, value, advantage = prepared()
    total, team = value.sum(-1, keepdim=True), batch.reward.sum(-1, keepdim=True)
    residual = team + 0.9 * total[1:] - total[:-1]
    result, one_step_team = advantage(advantage="lambda_team"), advantage(advantage="one_step_team")
    for t in range(5):
        tail = sum(0.72**k * residual[t + k] for k in range(1, 5 - t)) if t < 4 else torch.zeros_like(residual[0])
        assert_close(result[t] - one_step_team[t], tail.expand_as(result[t]), atol=1e-4, rtol=1e-4)


def test_ippo_nbr_learns_from_the_neighbours_rewards():
    algorithm, batch, _, _ = prepared()
    mixed = build("ippo_nbr", algorithm.spec, adv_norm="none", gamma=0.9, gae_lambda=0.8, neighbours_weight=0.5)
    own = deepcopy(mixed)
    own.config = replace(own.config, neighbours_weight=0.0)
    of_others = replace(batch, reward=batch.reward + 0.5 * batch.reward.roll(-1, dims=-1))
    assert_close(mixed.prepare(batch)[0].advantage, own.prepare(of_others)[0].advantage)


def test_mappo_sums_advantage_is_the_sum_of_all_own_ones():
    algorithm, batch, value, _ = prepared()
    shared = build("mappo_sum", algorithm.spec, adv_norm="none", gamma=0.9, gae_lambda=0.8)
    shared.normalised_values, shared.returns = algorithm.normalised_values, deepcopy(algorithm.returns)
    own = ops.gae(batch.reward, value, batch.terminated, batch.truncated, 0.9, 0.8)
    assert_close(shared.prepare(batch)[0].advantage, own.sum(-1, keepdim=True).expand_as(own))


def test_selfish_options_are_mappo_inds_advantage():
    algorithm, batch, value, advantage = prepared()
    baseline = build("mappo_ind", algorithm.spec, adv_norm="none", gamma=0.9, gae_lambda=0.8)
    baseline.normalised_values, baseline.returns = algorithm.normalised_values, deepcopy(algorithm.returns)
    expected = baseline.prepare(batch)[0].advantage
    assert_close(expected, ops.gae(batch.reward, value, batch.terminated, batch.truncated, 0.9, 0.8))
    assert_close(advantage(advantage="own_plus_others", others_weight=0.0), expected)
    assert_close(advantage(advantage="mix", sampled_share=1.0, others_weight=0.0), expected)
    assert not torch.isclose(
        advantage(advantage="own_plus_others", sampled_share=0.0, others_weight=1.0), expected, atol=1e-3
    ).all()


@pytest.mark.parametrize("adv", ["own_plus_others", "mix"])
def test_sampled_share_1_adds_the_gae_of_the_neighbours(adv):
    _, batch, value, advantage = prepared()
    own = ops.gae(batch.reward, value, batch.terminated, batch.truncated, 0.9, 0.8)
    assert_close(
        advantage(advantage=adv, sampled_share=1.0, others_weight=0.5), own + 0.5 * own.roll(-1, dims=-1), atol=1e-4, rtol=1e-4
    )


def test_sampled_share_interpolates_between_critic_and_sampled_returns():
    _, _, _, advantage = prepared()
    critic, sampled = (advantage(advantage="own_plus_others", sampled_share=share) for share in (0.0, 1.0))
    assert_close(advantage(advantage="own_plus_others", sampled_share=0.25), 0.75 * critic + 0.25 * sampled, atol=1e-4, rtol=1e-4)
    assert not torch.isclose(critic, sampled, atol=1e-3).all()


def test_jointq_doc_denormalises_the_next_q_with_the_moments_of_its_training():
    game = Noise()
    algorithm = build("jointq_doc", game.spec, gamma=0.9)
    batch = collect(game, algorithm, 12, torch.Generator().manual_seed(0))
    algorithm.prepare(batch)
    later = algorithm.next_q(batch).detach()
    shifted = replace(batch, reward=5 * batch.reward - 100)  # moves the normaliser
    rows, _ = algorithm.prepare(shifted)
    target = rows.extras["own_target"] * algorithm.returns.deviation + algorithm.returns.mean / game.spec.n_agents
    follows = (~batch.terminated).float().unsqueeze(-1)
    assert_close(target, shifted.reward + 0.9 * follows * later, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"advantage": "one_step_team", "others_weight": 0.5}, ("algo.others_weight 0.5", "algo.advantage one_step_team")),
        ({"advantage": "lambda_team", "sampled_share": 0.5}, ("algo.sampled_share 0.5", "algo.advantage lambda_team")),
        ({"advantage": "lambda_team", "others_trust": "full"}, ("algo.others_trust full", "algo.advantage lambda_team")),
        ({"advantage": "mix", "sampled_share": 1.5}, ("algo.sampled_share", "1.5")),
        ({"hops": 0}, ("algo.hops", "0")),
        ({"hops": 2, "advantage": "one_step_team"}, ("algo.hops 2", "algo.advantage one_step_team")),
    ],
)
def test_contradictions_name_both_settings_and_values(settings, named):
    with pytest.raises(UserError) as error:
        algos.find("jointq").Config(**settings)
    assert all(text in str(error.value) for text in named), str(error.value)


def noisy(name, **settings):
    """An algorithm that has learned a little, and a batch of it with an end and a cut."""
    torch.manual_seed(0)
    game = Noise(envs=6)
    config = algos.find(name).Config
    algorithm = algos.find(name)(game.spec, config(gamma=0.9, adv_norm="none", **settings))
    batches = [collect(game, algorithm, 5, torch.Generator().manual_seed(seed)) for seed in range(3)]
    for batch in batches[:2]:
        algorithm.update(batch, 0.0)
    ended = torch.zeros_like(batches[2].terminated)
    ended[2, 0] = True
    return algorithm, replace(batches[2], terminated=ended)


def test_jointq_doc_advantage_and_targets():
    """R^i + gamma V' - V; the joint Q learns the team's one-step target, the Q^i R^i + gamma Q^i'."""
    algorithm, batch = noisy("jointq_doc", gae_lambda=0.5)
    value = algorithm.returns.restore(algorithm.normalised_values(batch.obs, batch.state)).detach()
    follows = (~batch.terminated).float().unsqueeze(-1)
    next_q = algorithm.next_q(batch).detach()
    rows, _ = algorithm.prepare(batch)
    assert_close(rows.advantage, batch.reward + 0.9 * follows * value[1:] - value[:-1])
    team = batch.reward.sum(-1, keepdim=True).expand_as(batch.reward)
    gae = ops.gae(team, value, batch.terminated, batch.truncated, 0.9, 0.5)
    joint = ops.one_step_target(team, value, gae + value[:-1], batch.terminated, batch.truncated, 0.9)
    assert_close(algorithm.returns.restore(rows.extras["joint_target"]), joint[..., 0], atol=1e-4, rtol=1e-4)
    own = rows.extras["own_target"] * algorithm.returns.deviation + algorithm.returns.mean / algorithm.spec.n_agents
    assert_close(own, batch.reward + 0.9 * follows * next_q, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("joint_weight", "own_weight"), [(1.0, 0.0), (0.0, 1.0)])
def test_jointq_doc_losses(joint_weight, own_weight):
    """(Q^J - y^J)^2, with V's loss, and (Q^i - y^i)^2, each as far as its weight says."""
    algorithm, batch = noisy("jointq_doc", joint_weight=joint_weight, own_weight=own_weight)
    rows, _ = algorithm.prepare(batch)
    heads = algorithm.critic["heads"](rows.obs, rows.state)
    q = ops.gather_actions(heads[..., 1:], rows.action)
    joint = ((q.sum(-1) - rows.extras["joint_target"]) ** 2).mean()
    joint = joint + ops.clipped_value_loss(heads[..., 0], rows.value, rows.target, algorithm.config.clip_coef)
    own = ((q - rows.extras["own_target"]) ** 2).mean()
    assert_close(algorithm.critic_loss(rows), joint_weight * joint + own_weight * own)


def test_comas_target_is_the_teams_and_its_advantage_has_mean_0():
    algorithm, batch = noisy("coma", gae_lambda=0.0)
    taken = torch.nn.functional.one_hot(batch.action, algorithm.spec.n_actions).float()
    joint = torch.cat([taken, taken[:1]])  # the last row is not looked at
    q = algorithm.returns.restore(algorithm.q(algorithm.target_critic, batch.obs, batch.state, joint)).detach()
    played = (joint * q).sum(-1)
    rows, _ = algorithm.prepare(batch)
    follows = (~batch.terminated).float().unsqueeze(-1)
    expected = batch.reward.sum(-1, keepdim=True) + 0.9 * follows * played[1:]
    assert_close(algorithm.returns.restore(rows.target)[:-1], expected[:-1], atol=1e-3, rtol=1e-3)
    for i in range(algorithm.spec.n_agents):
        mean = 0.0
        for action in range(algorithm.spec.n_actions):
            other = rows.action.clone()
            other[..., i] = action
            mean = mean + rows.probs[..., i, action] * algorithm.counterfactual(replace(rows, action=other))[..., i]
        assert mean.abs().max() < 1e-4
    assert algorithm.counterfactual(rows).abs().max() > 1e-3


def test_ia2cs_returns_are_of_n_steps():
    found = {}
    for n_steps in (1, 4):
        algorithm, batch = noisy("ia2c", n_steps=n_steps)
        value = algorithm.returns.restore(algorithm.normalised_values(batch.obs, batch.state)).detach()
        later = algorithm.returns.restore(algorithm.target_critic(batch.obs).squeeze(-1)).detach()
        done = (batch.terminated, batch.truncated)
        expected = ops.nstep_return(batch.reward, later, *done, 0.9, n_steps) - value[:-1]
        found[n_steps] = algorithm.prepare(batch)[0].advantage
        assert_close(found[n_steps], expected, atol=1e-4, rtol=1e-4)
    assert (found[1] - found[4]).abs().max() > 0.1
