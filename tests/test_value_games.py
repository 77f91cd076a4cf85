# pyright: reportAttributeAccessIssue=false, reportGeneralTypeIssues=false
# Attributes of a torch module are those of its parts, which pyright does not know.
"""The Q-learners: exact targets, exploration, QMIX's monotonicity, and the games that tell their function classes apart."""

import statistics

import pytest
import torch
from helpers.games import CLIMBING, QTRAN_PAYOFF, Matrix, Noise, RingDump, TwoStep, Xor, collect, greedy_return, penalty, train
from torch.testing import assert_close

from tsc_marl import algos, ops
from tsc_marl.errors import UserError
from tsc_marl.nn import critics
from tsc_marl.types import Batch, Spec

SEEDS = range(10)
LEARNERS = ("iql", "vdn", "qmix", "qtran")
UNIFORM = {
    "hidden": (32,), "sequence_length": 1, "batch_size": 128, "gradient_steps": 4, "replay_episodes": 3200, "lr": 2e-3,
    "polyak": 0.02, "gamma": 0.99, "epsilon_start": 1.0, "epsilon_end": 1.0,
}  # fmt: skip


def build(name, spec, seed=0, **settings):
    torch.manual_seed(seed)
    cls = algos.find(name)
    return cls(spec, cls.Config(hidden=(16,), **settings))


# targets


def test_the_target_bootstraps_from_the_target_network_at_the_online_networks_best_legal_action():
    spec = Spec("fixture", ("a",), 3, 1, 1, ((),))
    online, target = torch.tensor([[1.0, 5.0, 2.0]] * 3), torch.tensor([[10.0, 20.0, 30.0]] * 3)
    avail = torch.tensor([[1, 1, 1], [1, 1, 1], [1, 0, 1]]).bool().view(3, 1, 1, 3)

    def targets(terminated, truncated):
        flags = (torch.tensor(flag).bool().view(2, 1) for flag in (terminated, truncated))
        one = torch.zeros(3, 1, 1)
        algorithm, seen = build("iql", spec, gamma=0.9), {}
        algorithm.actor.unroll = lambda obs, memory: (online.view(3, 1, 1, 3), memory)
        algorithm.target_actor.unroll = lambda obs, memory: (target.view(3, 1, 1, 3), memory)
        algorithm.returns.normalise = lambda x: seen.setdefault("target", x)
        reward = torch.tensor([1.0, 2.0]).view(2, 1, 1)
        algorithm.loss(Batch(one.unsqueeze(-1), avail, one, torch.zeros(2, 1, 1, dtype=torch.long), reward, *flags))
        return seen["target"].flatten().tolist()

    # row 1: the best is action 1, worth 20; row 2: action 1 is illegal, action 2 is next best, worth 30
    assert targets([0, 0], [0, 1]) == pytest.approx([1 + 0.9 * 20, 2 + 0.9 * 30])
    assert targets([0, 1], [0, 0]) == pytest.approx([1 + 0.9 * 20, 2.0])
    assert targets([1, 0], [0, 1]) == pytest.approx([1.0, 2 + 0.9 * 30])


@pytest.mark.parametrize("name", LEARNERS)
def test_target_network_updates_by_polyak_or_interval(name):
    for settings in ({"polyak": 0.25}, {"polyak": None, "target_update_interval": 2}):
        algorithm = train(name, Noise(), 1, 6, **UNIFORM | {"gradient_steps": 2, **settings})
        online = dict(algorithm.actor.named_parameters())
        same = all(torch.equal(value, online[key]) for key, value in algorithm.target_actor.named_parameters())
        assert same is (settings["polyak"] is None)
    with pytest.raises(UserError, match=r"exactly one way; got algo.polyak 0.01 and algo.target_update_interval 5"):
        algos.find(name).Config(target_update_interval=5)


# exploration


def test_epsilon_is_the_share_of_random_actions():
    algorithm = build("iql", Spec("fixture", ("a",), 4, 1, 1, ((),)))
    algorithm.epsilon.fill_(0.4)
    avail = torch.tensor([True, False, True, True]).expand(100_000, 1, 4)
    obs = torch.ones(100_000, 1, 1)
    best = int(algorithm.act(obs[:1], avail[:1], None, None)[0])
    action = algorithm.act(obs, avail, None, torch.Generator().manual_seed(0))[0]
    share = torch.bincount(action.flatten(), minlength=4) / 100_000
    expected = torch.where(avail[0, 0], 0.4 / 3, 0.0)
    expected[best] += 0.6
    assert share[1] == 0
    assert_close(share, expected, atol=0.005, rtol=0)


def test_epsilon_falls_over_its_share_of_training():
    algorithm = build("vdn", Noise().spec, epsilon_start=0.9, epsilon_end=0.1, exploration_fraction=0.5)
    batch = collect(Noise(), algorithm, 2, torch.Generator())
    levels = []
    for progress in (0.0, 0.25, 0.5, 0.9):
        algorithm.on_new_episodes(batch, progress)
        levels.append(float(algorithm.policy_state()["epsilon"]))
    assert levels == pytest.approx([0.9, 0.5, 0.1, 0.1])


# QMIX


def test_qmix_is_monotone_and_its_best_joint_action_is_everyones_best():
    torch.manual_seed(0)
    mixer = critics.MonotoneMixer(3, 5)
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.normal_()
    q, state = torch.randn(200, 3, 4), torch.randn(200, 5)
    joint = torch.cartesian_prod(*[torch.arange(4)] * 3)
    values = torch.stack([ops.gather_actions(q, a.expand(200, 3)) for a in joint], dim=1).requires_grad_()
    total = mixer(values, state.unsqueeze(1).expand(-1, len(joint), -1))
    total.sum().backward()
    assert (values.grad >= 0).all()
    best = ops.gather_actions(q, q.argmax(-1))
    assert_close(total.max(1).values, mixer(best, state))


# games


def results(name, game, batches, steps=1, seeds=SEEDS, **settings):
    found = []
    for seed in seeds:
        algorithm = train(name, game(), batches, steps, seed, **UNIFORM | settings)
        found.append(round(greedy_return(game(), algorithm, steps), 2))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("name", "expected"), [("iql", 0), ("vdn", 0), ("qmix", 0), ("qtran", 8)])
def test_qtran_payoff(name, expected):
    """No monotone function of two Q fits it; under uniform data the best of it is 0."""
    assert statistics.median(results(name, lambda: Matrix(QTRAN_PAYOFF), 100)) == pytest.approx(expected, abs=0.3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"),
    [pytest.param("iql", 7, marks=pytest.mark.slow), ("vdn", 7), ("qmix", 8), pytest.param("qtran", 8, marks=pytest.mark.slow)],
)
def test_two_step(name, expected):
    """A sum cannot fit game B, so the certain 7 looks better; a mix by the state can."""
    assert statistics.median(results(name, TwoStep, 150, 2)) == pytest.approx(expected, abs=0.3)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "expected"), [("iql", 5), ("vdn", 5), ("qmix", 5), ("qtran", 11)])
def test_climbing(name, expected):
    """Under uniform data; QTRAN gets there with three times the updates and L_nopt at full weight."""
    more = {"gradient_steps": 12, "lambda_nopt": 1.0} if name == "qtran" else {}
    assert statistics.median(results(name, lambda: Matrix(CLIMBING), 200, **more)) == pytest.approx(expected, abs=0.3)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "expected"), [("iql", 2), ("vdn", 2), ("qmix", 2), ("qtran", 10)])
def test_penalty_100(name, expected):
    """k = -100, under uniform data; QTRAN with four times the updates, L_nopt at full weight, fails with one seed in five."""
    batches, more = (400, {"gradient_steps": 8, "lambda_nopt": 1.0}) if name == "qtran" else (200, {})
    assert statistics.median(results(name, lambda: Matrix(penalty(-100)), batches, **more)) == pytest.approx(expected, abs=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNERS)
def test_penalty_0(name):
    """k = 0: on uniform data a tie for the additive ones, broken as exploration decays."""
    assert statistics.median(results(name, lambda: Matrix(penalty(0)), 200, epsilon_end=0.05)) == pytest.approx(10, abs=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNERS)
def test_ring_dump_is_never_solved_for_oneself(name):
    """`delayed`: a Q of the own reward dumps on the next agent; those of the team's reward may stop."""
    game = RingDump(4)
    algorithm = train(
        name, game, 100, 16, **UNIFORM | {"sequence_length": 8, "batch_size": 32, "gamma": 0.95, "epsilon_end": 0.05}
    )
    reward = float(collect(game, algorithm, 50, None).reward[5:].mean())
    assert reward < -0.9 if name == "iql" else reward > -0.15


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("n", [2, 4])
def test_xor_needs_an_id(name, n):
    """On uniform data both symmetric optima tie, and the tie breaks as exploration decays; without id it cannot."""
    settings = {"epsilon_end": 0.05}
    found = results(name, lambda: Xor(n), 200, **settings)
    print(f"\nxor, {name}, {n} agents: {found}")
    assert statistics.median(found) == 1
    assert max(results(name, lambda: Xor(n), 60, sharing="full_no_id", **settings)) == 0
