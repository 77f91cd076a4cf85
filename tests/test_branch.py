"""Branches: forks that repeat to the bit, an estimator without bias, scores of critics, and the verb with its file."""

import os
from contextlib import closing
from dataclasses import fields, replace

import numpy as np
import pytest
from helpers.cli import one_line

from tsc_marl.analysis import branch_effects, branch_scores, branching
from tsc_marl.analysis.branch_file import Branches, BranchHeader, together
from tsc_marl.cli.main import main
from tsc_marl.errors import UserError
from tsc_marl.rollout.branches import branch, in_fork
from tsc_marl.rollout.policies import ControllerPolicy
from tsc_marl.rollout.task import Task

pytest_plugins = ["helpers.fixtures"]


@pytest.mark.parametrize("policy", ["max_pressure", "random"])
def test_branches_repeat_to_the_bit_and_leave_the_episode_as_it_is(policy):
    with closing(Task("grid2x2").env()) as env:
        driver = ControllerPolicy(policy).start(env, 2000)
        while not (env.now > 150 and (env.avail.sum(1) > 1).all()):
            env.step(driver.act())

        def onwards():
            return np.stack([env.step(driver.act())[0] for _ in range(8)])

        before = in_fork(onwards)
        usual = [branch(env, driver, k, 8) for k in (0, 0, 1)]
        assert (usual[0][1] == usual[1][1]).all()
        assert (usual[0][1] != usual[2][1]).any()  # drivers dawdle otherwise, also under a policy without chance
        for signal, phase in enumerate(usual[0][0].tolist()):
            chosen, reward = branch(env, driver, 0, 8, (signal, phase))
            assert (chosen == usual[0][0]).all()
            assert (reward == usual[0][1]).all()
        other = next(a for a in np.flatnonzero(env.avail[1]).tolist() if a != usual[0][0][1])
        forced = [branch(env, driver, 0, 8, (1, other))[1] for _ in range(2)]
        assert (forced[0] == forced[1]).all()
        assert (forced[0] != usual[0][1]).any()
        assert (in_fork(onwards) == before).all()


def test_an_error_in_a_fork_is_one_of_the_parent():
    def refuse():
        raise UserError("correct the file")

    with pytest.raises(UserError, match="correct the file"):
        in_fork(refuse)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        in_fork(lambda: 1 / 0)
    with pytest.raises(UserError, match="a process that plays a branch died"):
        in_fork(lambda: os.kill(os.getpid(), 9))


NEIGHBOURS = ((1,), (0, 2), (1, 3), (2,))
"""Four signals in a row."""


def made(cases, effect, noise, rng, continuations=3):
    """Branches of signal 0 with four phases: effects [cases, 4, signals] known, and chance; a state each."""
    change = effect[:, :, None, :] + noise * rng.normal(size=(cases, 4, continuations, 4))
    header = BranchHeader("row", "rule", False, "sumo-rl", 5, tuple("abcd"), NEIGHBOURS, "movements", 3, 1.0, "1")
    shape = (cases, 4, 4)
    nothing = np.full(shape, np.nan)
    return Branches(
        header, seed=np.arange(cases), time_s=np.zeros(cases), obs=np.zeros((cases, 4, 1)), avail=np.ones(shape, bool),
        state=np.zeros((cases, 1)), occupancy=rng.random((cases, 4)), chosen=np.zeros((cases, continuations, 4), int),
        probs=np.full(shape, 0.25), own=nothing, others=nothing, place=np.arange(cases), signal=np.zeros(cases, int),
        change=change[:, :, :, None, :],
    )  # fmt: skip


def test_the_estimator_has_no_bias_under_chance_as_large_as_the_effect():
    """Own sd 2. Signal 1, the neighbour, gets -.5 of the own effect and sd 1 of its own; signal 2 sd .5; signal 3 nothing."""
    rng = np.random.default_rng(1)
    drawn = rng.normal(size=(3000, 4, 3))
    own = 2 * drawn[..., 0]
    effect = np.stack([own, -0.5 * own + drawn[..., 1], 0.5 * drawn[..., 2], 0 * own], axis=-1)
    branches = made(3000, effect, 2.0, rng)
    of = branch_effects.effects(branches, 1)
    others, team = 1 + 1 + 0.25, 1 + 1 + 0.25  # variances: .5 of own is left of 2, beside 1.25
    expected = {
        "own": 2, "near": 2**0.5, "others": others**0.5, "share": others / (4 + others), "correlation": -2 / (4 * others) ** 0.5,
        "per_own": -0.5, "cosine_own": 2 / (4 * team) ** 0.5, "cosine_near": 2 / (2 * team) ** 0.5,
    }  # fmt: skip
    for name, value in expected.items():
        found = getattr(of, name)
        assert found.value == pytest.approx(value, rel=0.08), name
        assert found.low < value < found.high, name
    assert of.noise_others == pytest.approx(2 * 3**0.5, rel=0.02)
    ((first, one, two, far),) = branch_effects.reach(branches, [0, 1])
    assert [first.value, one.value, two.value] == pytest.approx([2, 2**0.5, 0.5], rel=0.15)
    assert far.low < 0 < far.high


def test_phases_count_by_their_probabilities_where_the_policy_plays_them():
    """Two phases are played, a quarter and three quarters of the time: variance 3/16 of their squared difference."""
    rng = np.random.default_rng(4)
    effect = np.zeros((3000, 4, 4))
    effect[..., 0], effect[..., 1] = rng.normal(size=(2, 3000, 4))
    effect[:, 2:, 0] -= 9  # never played, and far worse
    branches = made(3000, effect, 1.0, rng)
    branches.probs[:, 0] = (0.25, 0.75, 0, 0)
    alike, played = (branch_effects.effects(branches, 1, played=played) for played in (False, True))
    assert alike.own.value > 5
    for of in (played.own, played.others):
        assert of.value == pytest.approx((3 / 16 * 2) ** 0.5, rel=0.05)
    own, others = np.zeros((2, 3000, 4, 4))
    own[:, 0], others[:, 0] = np.where(np.arange(4) < 2, 0, effect[..., 0]), -effect[..., 1]
    seen = replace(branches, own=own, others=others)
    for of, explained in ((False, 0.95), (True, 0.0)):  # it knows the bad phases, and nothing of the others
        assert branch_scores.scores(seen, 1, of)[0].explained.value == pytest.approx(explained, abs=0.06)
    assert branch_scores.scores(seen, 1, True)[1].slope.value == pytest.approx(-1, abs=0.1)


def test_a_variance_without_a_signal_comes_out_on_both_sides_of_zero():
    rng = np.random.default_rng(2)
    zero = np.zeros((10, 4, 4))
    found = [branch_effects.effects(made(10, zero, 1.0, rng), 1) for _ in range(40)]
    variances = np.array([np.sign(of.others.value) * of.others.value**2 for of in found])
    assert 8 < (variances < 0).sum() < 32
    assert abs(variances.mean()) < 3 * variances.std() / 40**0.5
    assert all(np.isnan(of.correlation.value) for of in found if of.others.low < 0)
    assert "cannot be told from chance" in branching.verdict(made(10, zero, 1.0, rng))


def test_scores_of_estimates_that_are_right_too_large_and_noise():
    rng = np.random.default_rng(3)
    effect = np.zeros((1500, 4, 4))
    effect[..., 0], effect[..., 2] = 2 * rng.normal(size=(2, 1500, 4))
    branches = made(1500, effect, 2.0, rng)
    shifted = np.zeros((1500, 4, 4))  # a constant over phases has no meaning
    shifted[:, 0] = effect[..., 0] + 7
    cases = {"right": shifted, "double": 2 * shifted, "noise": rng.normal(size=shifted.shape)}
    values = {}
    for name, own in cases.items():
        own_score, others_score = branch_scores.scores(replace(branches, own=own, others=np.where(own == 0, own, 1e-9)), 1)
        values[name] = (own_score.slope.value, own_score.explained.value, own_score.sign.value)
        assert (own_score.head, others_score.head) == ("own", "others")
    assert values["right"][:2] == pytest.approx((1, 1), abs=0.05)
    assert values["double"][:2] == pytest.approx((0.5, 0), abs=0.05)
    assert values["noise"][0] == pytest.approx(0, abs=0.1)
    assert values["noise"][1] < 0
    assert values["noise"][2] == pytest.approx(0.5, abs=0.03)
    assert values["right"][2] > 0.7


def tables(text):
    """The verdict and the tables, without the lines before them and the last, which names the files."""
    return text[text.index("short_grid2x2, pretrained, within") : text.index("branches: ")]


def test_the_verb_writes_what_it_can_read_again(short_networks, tmp_path, capsys):
    line = f"branch --network {short_networks[1]} --policy pretrained --states 2 --signals 2 --continuations 2 --horizon-s 30"
    assert main(f"{line} --seeds 2000 --workers 1 --out {tmp_path}".split()) == 0
    printed = capsys.readouterr().out
    assert max(len(row) for row in printed.splitlines() if row.startswith(("│", "┃"))) <= 80
    path = tmp_path / "branches_short_grid2x2_pretrained.npz"
    assert path.with_suffix(".png").stat().st_size > 20_000
    branches = Branches.load(path)
    assert branches.change.shape[2:] == (2, 6, 4)
    legal = branches.avail[branches.place, branches.signal]
    assert (np.isnan(branches.change).any(axis=(2, 3, 4)) == ~legal).all()
    own = np.take_along_axis(branches.chosen[branches.place], branches.signal[:, None, None], axis=2)[..., 0]
    for case, k in np.ndindex(own.shape):  # the policy's own choice changes nothing
        assert (branches.change[case, own[case, k], k] == 0).all()
    again = f"branch --file {path} --policy pretrained --out {tmp_path / 'again'}"
    assert main(f"{again} --network {short_networks[1]}".split()) == 0
    assert tables(capsys.readouterr().out) == tables(printed)
    scored = Branches.load(tmp_path / "again" / path.name)
    assert np.array_equal(scored.change, branches.change, equal_nan=True)
    np.testing.assert_allclose(scored.own, branches.own, atol=1e-4)
    assert main(f"{again} --network cross".split()) == 2
    assert "the branches are of short_grid2x2, got network cross" in one_line(capsys.readouterr().err)
    both = together([branches, branches])
    assert both.place.tolist() == [*branches.place, *(branches.place + 2)]
    assert all(len(getattr(both, field.name)) == 2 * len(getattr(branches, field.name)) for field in fields(both)[1:])
    with pytest.raises(UserError, match="must have the same settings; got policy pretrained and other"):
        together([branches, replace(branches, header=replace(branches.header, policy="other"))])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("--policy nobody", "nobody not found"),
        ("--policy fixed_time", "fixed_time leaves the lights to SUMO's programs, so no phase can be forced"),
        ("--network cross", "cross has one signal, so there are no others"),
        ("--continuations 1", "continuations must be at least 2"),
        ("--states 1", "states must be at least 2"),
        ("--horizon-s 0", "horizon_s must be positive"),
        ("--horizon-s 600", "horizon-s 600 does not fit into the window of grid2x2"),
        ("--seeds 1000000", "seeds must lie in 0 .. 999999"),
        ("--file pyproject.toml", "pyproject.toml is no file of branches"),
        ("--file nothing.npz", "nothing.npz"),
        ("--out /dev/null/x", "out /dev/null/x cannot be made"),
    ],
)
def test_bad_input_is_one_line(capsys, options, text):
    assert main(f"branch --network grid2x2 {options}".split()) == 2
    assert text in one_line(capsys.readouterr().err)
