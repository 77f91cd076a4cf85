"""The ring of past episodes: cuts are true pieces of them, the oldest go first, the state is everything."""

import re

import pytest
import torch
from helpers.cli import one_line

from tsc_marl.algos.base import OffPolicyConfig
from tsc_marl.errors import UserError
from tsc_marl.nn.effects import EffectRows
from tsc_marl.nn.reservoir import Reservoir
from tsc_marl.rollout.task import Task, spec_from_env
from tsc_marl.training.replay import Replay, check_memory
from tsc_marl.types import Batch

pytest_plugins = ["helpers.fixtures"]

T = 6


def episodes(*numbers):
    """Return episodes whose every entry tells its episode and step: 100 x number + t."""
    stamp = 100.0 * torch.tensor(numbers) + torch.arange(T + 1.0).unsqueeze(1)
    terminated = torch.zeros(T, len(numbers), dtype=torch.bool)
    truncated = terminated.clone()
    truncated[-1] = True
    one = stamp.unsqueeze(-1)
    return Batch(
        one.unsqueeze(-1), torch.ones(T + 1, len(numbers), 1, 2, dtype=torch.bool), one, one[:-1].long(), one[:-1],
        terminated, truncated, {"hidden": one[:-1].unsqueeze(-1)},
    )  # fmt: skip


def filled(*batches, **settings):
    replay = Replay(OffPolicyConfig(**settings))
    for batch in batches:
        replay.add(batch)
    return replay


@pytest.mark.parametrize("window", [1, 3, T, T + 5])
def test_a_sample_is_cuts_of_episodes(window):
    torch.manual_seed(0)
    cut = filled(episodes(1, 2), episodes(3), batch_size=500, sequence_length=window).sample()
    length = min(window, T)
    assert cut.obs.shape == (length + 1, 500, 1, 1)
    assert cut.reward.shape == (length, 500, 1)
    stamps = cut.obs[..., 0, 0]
    assert (stamps.diff(dim=0) == 1).all()  # consecutive rows of one episode
    for other in (cut.state[:-1, :, 0], cut.reward[..., 0], cut.action[..., 0], cut.extras["hidden"][..., 0, 0]):
        assert torch.equal(other.float(), stamps[:-1])
    assert torch.equal(cut.truncated, stamps[:-1] % 100 == T - 1)
    starts = stamps[0].unique().tolist()
    assert starts == [100 * e + t for e in (1, 2, 3) for t in range(T - length + 1)]  # every cut can be drawn


def test_the_oldest_episodes_go_first():
    cut = filled(episodes(1, 2), episodes(3, 4), replay_episodes=3, batch_size=500).sample()
    assert sorted(set((cut.reward // 100).flatten().tolist())) == [2, 3, 4]


def test_state_is_everything():
    one, other = filled(episodes(1, 2)), filled(episodes(5))
    other.load(one.state())
    assert torch.equal(one.state()["obs"], other.state()["obs"])
    draws = []
    for replay in (one, other):
        torch.manual_seed(3)
        draws.append(replay.sample().reward)
    assert torch.equal(*draws)
    other.load(None)
    with pytest.raises(RuntimeError, match="replay is empty"):
        other.sample()


@pytest.mark.parametrize("setting", ["replay_episodes", "batch_size", "sequence_length", "gradient_steps"])
def test_settings_must_be_positive(setting):
    with pytest.raises(UserError, match=f"algo.{setting} must be at least 1; got 0"):
        OffPolicyConfig(**{setting: 0})


def test_windows_are_drawn_evenly():
    torch.manual_seed(0)
    cut = filled(episodes(1, 2, 3, 4), batch_size=24_000, sequence_length=1).sample()
    _, counts = cut.reward.flatten().unique(return_counts=True)
    assert len(counts) == 4 * T
    assert ((counts - 1000).abs() < 5 * 1000**0.5).all()


def test_a_replay_beyond_this_machines_memory_is_refused_before_anything_starts(home, capsys):
    assert home.main("train --network cross --algos iql --episodes 2 --algo.replay-episodes 10000000") == 2
    error = one_line(capsys.readouterr().err)
    assert re.search(r"iql: a replay of 10000000 episodes needs \d+ GB of memory, this machine has \d+; ", error)
    fit = int(re.search(r"set algo.replay_episodes to at most (\d+)$", error)[1])
    assert not (home.folder / "runs").exists()
    task = Task("cross")
    env = task.env()
    env.reset(1)
    env.close()
    spec = spec_from_env(env)
    check_memory("iql", OffPolicyConfig(replay_episodes=fit), [spec], [task.decisions])
    with pytest.raises(UserError, match=f"at most {fit}"):
        check_memory("iql", OffPolicyConfig(replay_episodes=fit + 1), [spec], [task.decisions])


def marked(number, count=6, n_agents=2):
    """Rows of a batch whose every entry has its number."""
    shape = (1, count, n_agents)
    probs, action = torch.full((*shape, 2), 0.5), torch.zeros(shape, dtype=torch.long)
    obs, nothing = torch.full((*shape, 1), float(number)), torch.zeros(shape)
    return EffectRows(obs, torch.zeros(1, count, 0), probs, action, nothing, nothing + 1)


def numbers(reservoir):
    return [int(rows["obs"].flatten()[0]) for rows in reservoir.state()["kept"]]


def test_each_batch_of_the_training_is_as_likely_to_be_kept():
    """4 of 20 batches, 500 times: each is kept .2 of the time, deviation .018."""
    torch.manual_seed(0)
    kept = torch.zeros(20)
    for _ in range(500):
        reservoir = Reservoir(4, 100)
        for number in range(20):
            reservoir.add(marked(number))
            assert len(set(numbers(reservoir))) == min(number + 1, 4)
        kept[numbers(reservoir)] += 1
    assert (kept / 500 - 0.2).abs().max() < 4 * 0.018


def test_a_reservoir_keeps_some_rows_of_each_batch_and_draws_from_all():
    torch.manual_seed(0)
    reservoir = Reservoir(3, 8)
    for number in range(3):
        reservoir.add(marked(number))
    drawn = [reservoir.draw(9) for _ in range(60)]
    assert all(rows.action.shape == (1, 4, 2) for rows in drawn)  # 4 rows of two agents
    assert reservoir.draw(3).action.shape == (1, 3, 2)
    assert {int(rows.obs.flatten()[0]) for rows in drawn} == {0, 1, 2}
    few = Reservoir(1, 1)
    few.add(marked(0))
    assert few.draw(9).action.shape == (1, 1, 2)  # one row at least


def test_a_reservoir_of_0_batches_keeps_nothing():
    reservoir = Reservoir(0, 8)
    reservoir.add(marked(0))
    assert numbers(reservoir) == []
    with pytest.raises(IndexError):
        reservoir.draw(1)


def test_the_state_of_a_reservoir_is_everything():
    torch.manual_seed(0)
    one, other = Reservoir(2, 8), Reservoir(2, 8)
    for number in range(5):
        one.add(marked(number))
    other.add(marked(9))
    other.load(one.state())
    for number in range(5, 9):
        for reservoir in (one, other):
            torch.manual_seed(number)
            reservoir.add(marked(number))
    assert numbers(one) == numbers(other)
    other.load(None)
    assert numbers(other) == []
