# pyright: reportAttributeAccessIssue=false, reportGeneralTypeIssues=false
# Attributes of a torch module are those of its parts, which pyright does not know.
"""What every algorithm promises, whatever it learns: parametrised over all files of `algos/` and all sharings."""

import dataclasses
import functools
import io
import typing
from copy import deepcopy

import pytest
import torch
from helpers.games import Noise, collect
from torch.testing import assert_close

from tsc_marl import algos
from tsc_marl.errors import UserError
from tsc_marl.nn import sharing as networks
from tsc_marl.training.learner import Learner

SMALL = {
    "hidden": (16,), "critic_hidden": (16, 16), "num_minibatches": 2, "batch_size": 16, "gradient_steps": 2,
}  # fmt: skip
MAY_REST: dict[str, tuple[str, ...]] = {}
"""Parameters that two updates need not move, by algorithm: none so far."""
CENTRAL_EXECUTION: tuple[str, ...] = ("mat",)
"""Algorithms whose agents see what others see or do when they act."""


def config(name, **settings):
    cls = algos.find(name).Config
    known = {field.name for field in dataclasses.fields(cls)}
    return cls(**{key: value for key, value in (SMALL | settings).items() if key in known})


def allowed():
    """Return (algorithm, sharing, recurrent) wherever the algorithm does not refuse it."""
    found = []
    for name in algos.available():
        known = {field.name for field in dataclasses.fields(algos.find(name).Config)}
        for sharing in ("full", "full_no_id", "none", "seps"):
            for recurrent in (False, True) if "recurrent" in known and sharing == "full" else (False,):
                try:
                    config(name, sharing=sharing, recurrent=recurrent)
                except UserError:
                    continue
                found.append((name, sharing, recurrent))
    return found


def fast():
    """Return one or two combinations of each algorithm: full sharing, with a memory if it has one, and no sharing."""
    combinations = {case[:2]: case for case in allowed() if case[1] in ("full", "none")}  # that with a memory comes last
    return list(combinations.values())


def test_every_algorithm_has_a_fast_combination():
    combinations = fast()
    assert {name for name, *_ in combinations} == set(algos.available())
    for i in (1, 2):
        for name in algos.available():
            values = {combination[i] for combination in allowed() if combination[0] == name} & {"full", "none", False, True}
            assert {combination[i] for combination in combinations if combination[0] == name} == values


every = pytest.mark.parametrize(
    ("name", "sharing", "recurrent"),
    [case if case in fast() else pytest.param(*case, marks=pytest.mark.sumo) for case in allowed()],
)
PPO = [name for name in algos.available() if issubclass(algos.find(name), algos.find("ippo"))]
valued = pytest.mark.parametrize("name", [name for name in PPO if name != "coma"])  # it has no value alone
ratio = pytest.mark.parametrize("name", [name for name in PPO if name != "hatrpo"])  # it reports the KL after its step


def unshared(name):
    """Return the sharing `none`, or what the algorithm allows in its place."""
    possible = [sharing for known, sharing, _ in allowed() if known == name]
    return "none" if "none" in possible else possible[0]


def build(name, sharing=None, recurrent=False, seed=0, **settings):
    torch.manual_seed(seed)
    sharing = sharing or unshared(name)
    algorithm = algos.find(name)(Noise().spec, config(name, sharing=sharing, recurrent=recurrent, **settings))
    if sharing == "seps":
        networks.regroup(algorithm, [0, 1, 1])
    return algorithm


def update(algorithm, batch, progress):
    return Learner(algorithm).learn(batch, progress)


def play(algorithm, seed=0, steps=12):
    return collect(Noise(seed=seed), algorithm, steps, torch.Generator().manual_seed(seed))


@functools.cache
def learned(name, sharing, recurrent):
    """Return an algorithm after an update; a test leaves it as it is."""
    algorithm = build(name, sharing, recurrent)
    update(algorithm, play(algorithm), 0.0)
    return algorithm


def rows_of(envs=300, seed=5):
    obs, avail, _ = Noise(envs=envs, seed=seed).observe()
    return obs, avail


def weights(algorithm):
    return {name: value.clone() for name, value in algorithm.state_dict().items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key in one:
        assert torch.equal(one[key], other[key]), key


@every
def test_actions_are_legal(name, sharing, recurrent):
    algorithm = learned(name, sharing, recurrent)
    obs, avail = rows_of()
    for generator in (None, torch.Generator().manual_seed(0)):
        action, _, _ = algorithm.act(obs, avail, None, generator)
        assert action.shape == avail.shape[:-1]
        assert avail.gather(-1, action.unsqueeze(-1)).all()


@every
def test_exploration_follows_the_generator_and_greedy_needs_none(name, sharing, recurrent):
    algorithm = build(name, sharing, recurrent)
    draws = [algorithm.act(*rows_of(), None, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(*(algorithm.act(*rows_of(), None, None)[0] for _ in range(2)))


@every
def test_two_updates_move_every_parameter_and_report_finite_metrics(name, sharing, recurrent):
    algorithm = build(name, sharing, recurrent)
    before = {key: value.detach().clone() for key, value in algorithm.named_parameters()}
    for seed in (0, 1):
        metrics = update(algorithm, play(algorithm, seed), 0.5 * seed)
        assert metrics
        assert all(torch.tensor(value).isfinite() for value in metrics.values()), metrics
    used = {"none": slice(None), "seps": slice(0, 2)}.get(sharing)
    for key, value in algorithm.named_parameters():
        assert value.isfinite().all()
        moved = (value != before[key]).flatten(1).any(1)[used] if used else (value != before[key]).any()
        assert moved.all() or key in MAY_REST.get(name, ()), key


@every
def test_training_state_is_all_that_a_resumed_training_needs(name, sharing, recurrent):
    """And the rows that it keeps, where it does."""
    one, file = deepcopy(learned(name, sharing, recurrent)), io.BytesIO()
    kept = hasattr(one, "reservoir")
    torch.save((one.training_state(), one.reservoir.state() if kept else None), file)
    batch = play(one, seed=1)
    other = build(name, sharing, recurrent, seed=9)
    update(other, play(other, seed=9), 0.3)
    file.seek(0)
    state, rows = torch.load(file, weights_only=True)
    other.load_training_state(state)
    if kept:
        other.reservoir.load(rows)
    assert torch.equal(one.act(*rows_of(), None, None)[0], other.act(*rows_of(), None, None)[0])
    after_other = update(other, batch, 0.5)
    torch.set_rng_state(state["torch_rng"])
    assert update(one, batch, 0.5) == after_other
    assert_same(weights(one), weights(other))


@every
def test_same_seed_same_weights(name, sharing, recurrent):
    found = []
    for seed in (3, 3, 4):
        algorithm = build(name, sharing, recurrent, seed)
        update(algorithm, play(algorithm), 0.0)
        found.append(weights(algorithm))
    assert_same(found[0], found[1])
    assert any(not torch.equal(found[0][key], found[2][key]) for key in found[0])


@every
def test_the_policys_gradient_reaches_every_agent(name, sharing, recurrent):
    algorithm = build(name, sharing, recurrent)
    acting = getattr(algorithm.actor, "members", [algorithm.actor])  # maddpg's sub-policies: one
    learners = list(getattr(algorithm, "learners", acting))  # one network for all agents, or one for each
    gradients = [[] for _ in learners]
    for learner, found in zip(learners, gradients, strict=True):

        def note(module, given, logits, found=found):
            if logits.requires_grad:
                logits.register_hook(found.append)

        (learner.head if recurrent else learner).register_forward_hook(note)
    update(algorithm, play(algorithm), 0.0)
    reached = torch.cat([sum(gradient.abs().flatten(0, -3).sum((0, -1)) for gradient in found) for found in gradients])
    assert (reached > 0.01 * reached.max()).all()


@every
def test_an_agent_acts_on_its_own_observation_alone(name, sharing, recurrent):
    """With common random numbers an agent's draw and all that `act` tells of it stay when the others see something else."""
    if name in CENTRAL_EXECUTION:
        pytest.skip("central execution")
    algorithm = build(name, sharing, recurrent)
    for seed in (0, 1):
        update(algorithm, play(algorithm, seed), 0.0)
    obs, avail = rows_of()
    for i in range(3):
        elsewhere = 3 * torch.randn_like(obs)
        elsewhere[:, i] = obs[:, i]
        for seed in (None, 7):
            results = []
            for seen in (obs, elsewhere):
                generator = None if seed is None else torch.Generator().manual_seed(seed)
                action, extras, _ = algorithm.act(seen, avail, None, generator)
                results.append({"action": action[:, i]} | {key: value[:, i] for key, value in extras.items()})
            assert torch.equal(results[0]["action"], results[1]["action"])
            assert_close(results[0], results[1])


@every
def test_policy_state_is_all_that_act_needs(name, sharing, recurrent):
    algorithm, worker = learned(name, sharing, recurrent), build(name, sharing, recurrent, seed=9)
    state = algorithm.policy_state()
    assert set(state) <= set(algorithm.state_dict())
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    worker.load_state_dict(state, strict=False)
    assert torch.equal(algorithm.act(*rows_of(), None, None)[0], worker.act(*rows_of(), None, None)[0])
    one, other = (a.act(*rows_of(), None, torch.Generator().manual_seed(1)) for a in (algorithm, worker))
    assert torch.equal(one[0], other[0])
    assert_close(one[1], other[1])


@every
def test_value_estimates_are_of_the_policy_that_acts(name, sharing, recurrent):
    algorithm = build(name, sharing, recurrent)
    update(algorithm, play(algorithm), 1.0)
    obs, avail, state = Noise(envs=50).observe()
    with torch.inference_mode():
        known = algorithm.value_estimates(obs, avail, state, None)
        greedy, _, _ = algorithm.act(obs, avail, None, None)
        _, told, _ = algorithm.act(obs, avail, None, torch.Generator().manual_seed(0))
    assert bool(known) == (name != "maddpg")
    if not known:
        return
    assert_close(known["probs"].sum(-1), torch.ones(50, 3))
    assert torch.equal(known["probs"].argmax(-1), greedy)
    assert (known["probs"][~avail] == 0).all()
    if "probs" in told and name != "mat":  # it appraises beside the likeliest phases, and acted beside others
        assert_close(known["probs"], told["probs"])
    for key in known.keys() & {"own", "others"}:
        assert known[key].shape == avail.shape
        mean = (known["probs"] * known[key]).sum(-1)
        assert (mean <= 1e-4).all() if name in ("iql", "vdn", "qmix", "qtran") else mean.abs().max() < 1e-4
    if "value" in known:
        assert_close(known["value"], algorithm.returns.restore(algorithm.normalised_values(obs, state)))


@ratio
@pytest.mark.parametrize("recurrent", [False, True])
def test_the_first_gradient_step_is_at_ratio_1(name, recurrent):
    """The stored log-probabilities are those of the stored actions, masks and memories."""
    if recurrent and (name, "full", recurrent) not in allowed():
        pytest.skip("refuses a memory")
    for chunk in (4, 10):  # of 12 decisions, so 4 begins in their midst too
        algorithm = build(name, recurrent=recurrent, epochs=1, num_minibatches=1, bptt_length=chunk)
        metrics = update(algorithm, play(algorithm), 0.0)
        assert abs(metrics["policy/kl"]) < 1e-6
        assert metrics["policy/clipped"] == 0


@pytest.mark.parametrize("name", sorted({name for name, _, recurrent in allowed() if recurrent}))
def test_the_memory_that_is_kept_is_that_before_the_decision(name):
    algorithm = build(name, recurrent=True)
    batch, carry = play(algorithm, steps=4), None
    for t in range(4):
        expected = torch.zeros_like(batch.extras["hidden"][t]) if carry is None else carry
        assert_close(batch.extras["hidden"][t], expected)
        carry = algorithm.act(batch.obs[t], batch.avail[t], carry, None)[2]
    assert batch.extras["hidden"][3].abs().max() > 0


@pytest.mark.parametrize("name", PPO)
def test_the_learning_rate_falls_to_its_end(name):
    algorithm = build(name, lr=0.01, lr_final_fraction=0.1)
    batch = play(algorithm)
    optimisers = [value for value in vars(algorithm).values() if isinstance(value, torch.optim.Optimizer)]
    start = [5e-4 if optimiser is vars(algorithm).get("effects_optimiser") else 0.01 for optimiser in optimisers]
    for progress, left in ((0.0, 1), (0.5, 0.55), (1.0, 0.1)):
        update(algorithm, batch, progress)
        assert optimisers
        assert [group["lr"] for one in optimisers for group in one.param_groups] == pytest.approx([left * lr for lr in start])


@valued
def test_popart_keeps_every_prediction(name):
    algorithm = build(name, popart=True, gae_lambda=0.95, estimator="gae")
    for seed in (0, 1):
        batch = play(algorithm, seed)
        scaled = dataclasses.replace(batch, reward=10.0 * (seed + 1) * batch.reward + 5)
        before = algorithm.returns.restore(algorithm.normalised_values(batch.obs, batch.state))
        moments = algorithm.returns.mean.clone(), algorithm.returns.deviation.clone()
        algorithm.prepare(scaled)
        assert abs(algorithm.returns.mean - moments[0]) > 1
        assert abs(algorithm.returns.deviation - moments[1]) > 1
        assert_close(algorithm.returns.restore(algorithm.normalised_values(batch.obs, batch.state)), before, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", ["coma", "ia2c", "maa2c"])
def test_popart_is_refused_where_predictions_would_not_stay(name):
    with pytest.raises(UserError, match=r"algo\.popart True"):
        algos.find(name).Config(popart=True)


@valued
def test_forced_rows_do_not_touch_the_advantages_scale(name):
    algorithm = build(name, adv_norm="batch")
    batch = play(algorithm)
    chosen = algorithm.prepare(batch)[0].advantage[batch.avail[:-1].sum(-1) > 1]
    assert chosen.mean().item() == pytest.approx(0, abs=1e-4)
    assert chosen.std(unbiased=False).item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("name", ["ippo", "coma"])
def test_an_agent_with_little_at_stake_is_lazy_however_advantages_are_normalised(name):
    found = {}
    for norm in ("none", "agent"):
        algorithm = build(name, adv_norm=norm)
        batch = play(algorithm)
        stakes = torch.ones(batch.reward.shape[-1])
        stakes[0] = 100.0
        metrics = update(algorithm, dataclasses.replace(batch, reward=batch.reward * stakes), 0.0)
        found[norm] = [value for key, value in metrics.items() if key.endswith("/laziness")]
    assert found["agent"] == pytest.approx(found["none"], abs=1e-4)
    assert found["agent"].count(0.0) == 1
    if name == "ippo":  # the others' rewards are not its own
        assert found["agent"][0] == 0
        assert min(found["agent"][1:]) > 0.8


def team_targets(algorithm, batch):
    copy = deepcopy(algorithm)
    return copy.returns.restore(copy.prepare(batch)[0].target)


@pytest.mark.parametrize(
    ("name", "later"), [("coma", team_targets), ("jointq_doc", lambda algorithm, batch: algorithm.next_q(batch))]
)
def test_a_part_of_an_episode_begins_with_what_was_remembered(name, later):
    """What follows on its rows is the same as in the whole episode."""
    algorithm = build(name, "full", recurrent=True, lr=3e-2)
    for seed in range(3):
        update(algorithm, play(algorithm, seed), 0.0)
    whole = play(algorithm, steps=4)
    part = whole.map(lambda x: x[2:])
    with torch.no_grad():
        assert_close(later(algorithm, part), later(algorithm, whole)[2:], atol=1e-4, rtol=1e-4)
        forgotten = dataclasses.replace(part, extras=part.extras | {"hidden": torch.zeros_like(part.extras["hidden"])})
        assert (later(algorithm, forgotten) - later(algorithm, part)).abs().max() > 1e-3


BAD = [
    ("mappo", "gamma", 1.5), ("mappo", "gamma", float("nan")), ("mappo", "gae_lambda", -0.1), ("mappo", "lr", 0.0),
    ("mappo", "lr", float("inf")), ("mappo", "clip_coef", -0.2), ("mappo", "epochs", 0), ("mappo", "rollout_length", -1),
    ("mappo", "entropy_coef", -0.01), ("mappo", "hidden", ()), ("mappo", "critic_hidden", (64, 0)),
    ("coma", "critic_epochs", 0), ("coma", "epsilon_end", 1.1), ("ia2c", "polyak", 0.0), ("hatrpo", "shrink", 1.0),
    ("jointq", "sampled_share", 1.1), ("jointq", "hops", 0), ("jointq_doc", "joint_weight", -1.0),
    ("mat_dec", "heads", 0), ("qtran", "lambda_opt", -0.1), ("iql", "target_update_interval", 0), ("iql", "batch_size", 0),
    ("maddpg", "temperature", (1.0, 0.0)), ("maddpg", "polyak", 2.0),
]  # fmt: skip
"""(algorithm, setting, value): one for each kind of bound, and for each way in which a family gets its bounds."""


@pytest.mark.parametrize(("name", "setting", "value"), BAD)
def test_config_refuses_bad_values(name, setting, value):
    with pytest.raises(UserError) as error:
        algos.find(name).Config(**{setting: value})
    assert f"algo.{setting} " in str(error.value)
    assert str(value) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", algos.available())
def test_every_number_among_the_settings_has_bounds(name):
    hints = typing.get_type_hints(algos.find(name).Config, include_extras=True)
    unbounded = [setting for setting, hint in hints.items() if hint in (int, float, int | None, float | None)]
    assert not unbounded


def test_the_effects_of_jointq_move_apart_from_its_critic():
    """A critic of two networks at once trains them too."""
    algorithm = build("jointq")
    before = {key: value.detach().clone() for key, value in algorithm.named_parameters()}
    type(algorithm).update_together([(algorithm, play(algorithm, 0)), (deepcopy(algorithm), play(algorithm, 1))], 0.0)
    rest = {key.rsplit(".", 1)[0] for key, value in algorithm.named_parameters() if torch.equal(value, before[key])}
    assert not rest


def test_mappo_gives_all_agents_one_advantage():
    algorithm = build("mappo", adv_norm="none")
    advantage = algorithm.prepare(play(algorithm))[0].advantage
    assert advantage.shape[-1] == 3
    assert_close(advantage, advantage[..., :1].expand_as(advantage))
    assert advantage.std() > 0


def test_mappo_ind_and_ippo_give_each_agent_its_own():
    for name in ("mappo_ind", "ippo"):
        algorithm = build(name, adv_norm="none")
        advantage = algorithm.prepare(play(algorithm))[0].advantage
        assert not torch.isclose(advantage[..., 0], advantage[..., 1]).any()
