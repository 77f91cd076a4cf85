"""The PettingZoo view: conformance, seeding, what an agent is told, and a child process that ends and reports."""

import os
import pickle
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from helpers.cli import until
from pettingzoo.test import parallel_api_test, parallel_seed_test

from tsc_marl.errors import UserError
from tsc_marl.sim import scenario
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.sim.pettingzoo_env import ParallelTrafficEnv
from tsc_marl.sim.signal_timing import Timing


@pytest.fixture
def make():
    made = []

    def _make(*args, **kwargs):
        made.append(ParallelTrafficEnv(*args, **kwargs))
        return made[-1]

    yield _make
    for env in made:
        env.close()


def first_legal(infos):
    return {agent: int(info["action_mask"].argmax()) for agent, info in infos.items()}


def test_parallel_api(make):
    env = make("grid2x2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the test warns where it could fail
        parallel_api_test(env, num_cycles=130)  # a window of 600 s has 120 decisions: past its end


def test_parallel_seed(make):
    parallel_seed_test(lambda: make("cross"), num_cycles=40)


def test_same_seed_same_episode_other_seed_another(make):
    def episode(env, seed):
        obs, infos = env.reset(seed=seed)
        rows = [np.concatenate(list(obs.values()))]
        for _ in range(30):
            obs, rewards, *_, infos = env.step({a: int(np.flatnonzero(i["action_mask"])[-1]) for a, i in infos.items()})
            rows.append(np.concatenate([*obs.values(), list(rewards.values())]))
        return np.concatenate(rows)

    env = make("grid2x2")
    first, again, other = episode(env, 3), episode(env, 3), episode(env, 4)
    after_none, after_none_2 = episode(env, None), episode(env, None)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(other, after_none)
    assert not np.array_equal(after_none, after_none_2)
    episode(env, 4)
    assert np.array_equal(after_none, episode(env, None))  # the unseeded ones follow from the last seed


def test_agents_see_their_own_signal(make):
    env = make("cologne3", Timing(yellow_s=3, all_red_s=2, min_green_s=7))
    inner = TrafficEnv(scenario.load("cologne3"))
    assert env.possible_agents == list(inner.names)
    assert [env.action_space(a).n for a in env.possible_agents] == list(inner.n_phases) == [3, 4, 4]
    obs, infos = env.reset(seed=0)
    truncations = dict.fromkeys(env.agents, False)
    refused, step = 0, 0
    while env.agents and step < 60:
        masks = {a: infos[a]["action_mask"] for a in env.agents}
        for agent in env.agents:
            assert obs[agent] in env.observation_space(agent)
            assert masks[agent].dtype == np.int8
            assert masks[agent].shape == (env.action_space(agent).n,)
            assert masks[agent].any()
        assert env.state().shape == env.state_space.shape
        actions = {a: (step // 2) % env.action_space(a).n for a in env.agents}
        obs, _, terminations, truncations, infos = env.step(actions)
        for agent in env.agents:
            executed = infos[agent]["executed"]
            assert masks[agent][executed]
            assert executed == actions[agent] or not masks[agent][actions[agent]]
            refused += executed != actions[agent]
        assert not any(terminations.values())
        assert not any(truncations.values())
        step += 1
    assert refused > 0


def test_window_ends_in_truncation_and_then_nothing_happens(make):
    env = make("cross")
    _, infos = env.reset(seed=1)
    steps = 0
    while env.agents:
        _, _, terminations, truncations, infos = env.step(first_legal(infos))
        steps += 1
    assert steps == 600 // 5
    assert list(truncations.values()) == [True]
    assert list(terminations.values()) == [False]
    assert env.step({}) == ({}, {}, {}, {}, {})


def test_sumo_rl_spaces_and_bounds(make):
    env = make("cologne3", config=SimConfig(observation="sumo-rl", reward="queue"))
    obs, infos = env.reset(seed=0)
    assert all(obs[a] in env.observation_space(a) for a in env.agents)
    assert all(obs[a].max() <= 1 for a in env.agents)
    _, rewards, *_ = env.step(first_legal(infos))
    assert all(isinstance(r, float) and r <= 0 for r in rewards.values())


def test_errors_reach_the_parent(make):
    with pytest.raises(UserError, match="did you mean grid2x2"):
        make("grid2x3")
    with pytest.raises(UserError, match=r"max_red_s 11 cannot be kept.*at least \d+"):
        make("cross", Timing(max_red_s=11))
    with pytest.raises(UserError, match=r"observation nowhere.at_all:Class: import of nowhere.at_all failed"):
        make("cross", config=SimConfig(observation="nowhere.at_all:Class"))
    env = make("cross")
    _, infos = env.reset(seed=0)
    (agent,) = env.agents
    n = env.action_space(agent).n
    for wrong in ({}, {agent: n}, {agent: -1}):
        with pytest.raises(UserError, match=f"signal {agent}: expected a phase from 0 to {n - 1}; got"):
            env.step(wrong)
    env.step(first_legal(infos))  # a refused step has not harmed it
    os.kill(env.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match=r"exit code -9|closed"):
        env.step(first_legal(infos))


def test_close_ends_the_process_and_may_be_repeated(make):
    env = make("cross")
    env.reset(seed=0)
    env.close()
    assert not Path("/proc", str(env.pid)).exists()
    env.close()
    with pytest.raises(RuntimeError, match="closed"):
        env.reset()


def test_child_ends_when_the_parent_is_killed():
    program = "import tsc_marl; env = tsc_marl.make('cross'); print(env.pid, flush=True); input()"
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    until(lambda: not Path("/proc", str(child)).exists(), 20)


def test_a_pickled_environment_is_a_new_one(make):
    env = make("cross")
    copy = pickle.loads(pickle.dumps(env))
    try:
        assert copy.pid != env.pid
        (first, _), (second, _) = env.reset(seed=3), copy.reset(seed=3)
        assert all(np.array_equal(first[agent], second[agent]) for agent in env.agents)
    finally:
        copy.close()


def test_the_text_of_an_environment_names_network_and_size(make):
    text = repr(make("grid2x2"))
    assert "grid2x2" in text
    assert "4 signals" in text
