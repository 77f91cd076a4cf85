"""Rollouts: an episode in parts is the same episode, whoever plays them."""

import dataclasses
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tsc_marl import algos
from tsc_marl.config import parse
from tsc_marl.rollout import interrupts
from tsc_marl.rollout.policies import ControllerPolicy, TrainedPolicy
from tsc_marl.rollout.pool import Pool
from tsc_marl.rollout.task import Task, read_spec
from tsc_marl.rollout.types import Job
from tsc_marl.rollout.worker import Worker
from tsc_marl.sim import road_network
from tsc_marl.training.learner import Learner
from tsc_marl.types import Batch

TASK = Task("cross")
SEED = 1_000_000


@pytest.fixture
def worker():
    worker = Worker()
    yield worker
    worker.close()  # one simulation at a time in a process


def afresh(job):
    """Play with a worker that knows nothing of what came before."""
    worker = Worker()
    try:
        return worker.play(job)
    finally:
        worker.close()


@pytest.fixture(scope="module")
def spec():
    return read_spec(TASK)


def policy(spec, seed, *options):
    (config,) = parse(["--network", "cross", "--algos", "ippo", *options]).runs
    torch.manual_seed(seed)
    return TrainedPolicy("ippo", config.algo, algos.find("ippo")(spec, config.algo).policy_state())


def parts_of(play, policies, length):
    """Play an episode in rollouts, each with a policy of its own (the last one to the end)."""
    parts = []
    while not (parts and parts[-1].finished):
        now = policies[min(len(parts), len(policies) - 1)]
        earlier = tuple(policies[min(i, len(policies) - 1)] for i in range(len(parts)))
        parts.append(play(Job(0, TASK, now, SEED, explore_seed=7, rollout_length=length, previous_policies=earlier)))
    return parts


def assert_same(one: Batch, other: Batch):
    assert one.extras.keys() == other.extras.keys()
    pairs = [(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one) if f.name != "extras"]
    assert all(torch.equal(a, b) for a, b in [*pairs, *((one.extras[name], other.extras[name]) for name in one.extras)])


@pytest.mark.parametrize("recurrent", ["False", "True"])
def test_parts_are_the_whole(spec, worker, recurrent):
    chosen = policy(spec, 0, "--algo.recurrent", recurrent)
    whole = afresh(Job(0, TASK, chosen, SEED, explore_seed=7))
    parts = parts_of(worker.play, [chosen], 45)
    assert [len(part.batch.action) for part in parts] == [40, 40, 40]
    assert parts[-1].metrics == whole.metrics
    assert not any(part.finished or part.metrics for part in parts[:-1])
    np.testing.assert_allclose(np.sum([part.reward for part in parts], axis=0), whole.reward)
    for name in ("action", "reward"):
        assert torch.equal(torch.cat([getattr(part.batch, name) for part in parts]), getattr(whole.batch, name))
    for name in whole.batch.extras:
        assert torch.equal(torch.cat([part.batch.extras[name] for part in parts]), whole.batch.extras[name])
    for part, following in itertools.pairwise(parts):
        assert torch.equal(part.batch.obs[-1], following.batch.obs[0])  # the true next observation is bootstrapped
    assert all(part.batch.truncated[-1] and not part.batch.truncated[:-1].any() for part in parts)
    assert not any(played.batch.terminated.any() for played in (*parts, whole))  # the traffic goes on


def test_each_rollout_has_the_policy_of_its_time(spec, worker):
    first, second = policy(spec, 0), policy(spec, 1)
    parts = parts_of(worker.play, [first, second], 30)
    assert_same(parts[0].batch, afresh(first_part(first)).batch)
    loaded = algos.find("ippo")(spec, second.config)
    loaded.load_state_dict(second.weights, strict=False)
    batch = parts[1].batch
    probs = loaded.value_estimates(batch.obs[0], batch.avail[0], batch.state[0], None)["probs"]
    assert torch.allclose(probs, batch.extras["probs"][0])


def first_part(chosen):
    return Job(0, TASK, chosen, SEED, explore_seed=7, rollout_length=30)


def test_another_worker_can_go_on(spec, worker):
    """As after a death: it plays what came before with the policies of then."""
    policies = [policy(spec, seed) for seed in range(4)]
    found = parts_of(afresh, policies, 30)
    expected = parts_of(worker.play, policies, 30)
    assert found[-1].metrics == expected[-1].metrics
    for one, other in zip(found, expected, strict=True):
        assert_same(one.batch, other.batch)


def test_weights_go_once_to_the_process_that_plays_an_episode(spec):
    """A process that has played the earlier rollouts gets their policies without weights; a new one gets them whole."""
    policies = [policy(spec, seed) for seed in range(3)]
    expected = parts_of(afresh, policies, 30)
    with Pool(1) as pool:
        for dies in (False, True):
            parts = []
            for i, now in enumerate((*policies, policies[-1])):
                if dies and i == 2:
                    os.kill(pool.pids[0], signal.SIGKILL)
                earlier = (*policies, policies[-1])[:i]
                job = Job(0, TASK, now, SEED, explore_seed=7, rollout_length=30, previous_policies=earlier)
                parts += pool.run([job])
            for one, other in zip(parts, expected, strict=True):
                assert_same(one.batch, other.batch)


def test_a_worker_does_not_read_the_network_again(worker, monkeypatch):
    job = Job(0, TASK, ControllerPolicy("max_pressure"), SEED)
    expected = afresh(job)
    complete = dataclasses.replace(job, net=TASK.net())
    monkeypatch.setattr(road_network, "read", None)
    result = worker.play(complete)
    assert result.metrics == expected.metrics
    assert result.job == job
    assert result.job.net is None  # it does not travel back


def test_sizes_come_from_the_network_at_hand(spec, monkeypatch):
    net = TASK.net()
    monkeypatch.setattr(road_network, "read", None)
    assert (again := read_spec(TASK, net)).names == spec.names
    assert (again.obs_dim, again.state_dim, again.neighbours) == (spec.obs_dim, spec.state_dim, spec.neighbours)


def test_a_job_follows_only_the_rollout_before_it(spec):
    one, other = policy(spec, 0), policy(spec, 0, "--algo.epochs", "1")
    played, following = first_part(one), dataclasses.replace(first_part(other), previous_policies=(one,))
    light = dataclasses.replace(following, policy=one).without_previous_weights()
    assert dataclasses.replace(following, policy=one).follows(played.without_weights())
    assert [getattr(previous, "weights", None) for previous in light.previous_policies] == [None]
    assert light.follows(played.without_weights())
    assert not light.follows(None)
    assert not dataclasses.replace(light, sumo_seed=1).follows(played.without_weights())
    assert not played.follows(played.without_weights())


def test_a_simulation_is_paused_between_rollouts(spec, worker, monkeypatch):
    chosen = policy(spec, 0)
    worker.play(first_part(chosen))
    monkeypatch.setattr("tsc_marl.sim.env.TrafficEnv.reset", lambda *_, **__: pytest.fail("started anew"))
    worker.play(dataclasses.replace(first_part(chosen), previous_policies=(chosen,)))


@pytest.mark.parametrize(
    ("size", "standing", "processes"),
    [(2, 2, 2), *(pytest.param(*sizes, marks=pytest.mark.sumo) for sizes in ((1, 2, 2), (3, 2, 3), (1, 1, 1)))],
)
def test_a_pool_plays_rollouts_side_by_side(spec, size, standing, processes):
    chosen = policy(spec, 0)
    jobs = [Job(n, TASK, chosen, SEED + n, explore_seed=n) for n in (4, 5)]
    expected = {job.episode: afresh(job).metrics for job in jobs}
    with Pool(size, concurrent_episodes=standing) as pool:
        assert len(pool.pids) == processes
        earlier, figures = (), {}
        while not figures:
            rollouts = [dataclasses.replace(job, rollout_length=60, previous_policies=earlier) for job in jobs]
            figures = {part.job.episode: part.metrics for part in pool.run(rollouts) if part.metrics}
            earlier = (*earlier, chosen)
    assert figures == expected


@pytest.mark.parametrize("controller", ["fixed_time", pytest.param("webster", marks=pytest.mark.sumo)])  # it plays a warm-up
def test_an_episode_does_not_depend_on_earlier_episodes_of_the_worker(controller):
    """SUMO breaks ties by where things lie in memory; cologne1 has many."""
    jobs = [Job(i, Task("cologne1"), ControllerPolicy(controller), 1000 + i % 2) for i in range(4)]
    with Pool(1) as pool:
        episodes = sorted(pool.run(jobs), key=lambda episode: episode.job.episode)
    figures = [episode.metrics for episode in episodes]
    assert figures[:2] == figures[2:]


@pytest.mark.parametrize(
    ("horizon", "rollout", "lengths"),
    [
        (720, 90, [90] * 8),
        (721, 90, [90] * 7 + [91]),  # no part of a single decision
        (100, 90, [100]),
        (10, 3, [3, 3, 4]),
        (720, 1000, [720]),
        (720, 0, [720]),
    ],
)
def test_equal_parts(spec, horizon, rollout, lengths):
    chosen = policy(spec, 0)
    job = Job(0, TASK, chosen, SEED, rollout_length=rollout, previous_policies=(chosen,) * (len(lengths) - 1))
    assert job.lengths(horizon) == lengths
    assert [
        dataclasses.replace(job, previous_policies=(chosen,) * i).lengths(horizon)[-1] for i in range(len(lengths))
    ] == lengths


@pytest.mark.parametrize(
    ("line", "first", "expected"),
    [
        ("ippo --algo.rollout_length 90", True, 90),
        ("ippo --algo.rollout_length 0", False, 0),
        ("ippo --algo.sharing seps", True, 0),  # clusters come from whole episodes
        ("ippo --algo.sharing seps --algo.rollout_length 90", False, 90),
        ("iql", False, 0),
    ],
)
def test_when_learning_begins(spec, line, first, expected):
    name, *options = line.split()
    (config,) = parse(["--network", "cross", "--algos", name, *options]).runs
    learner = Learner(algos.find(name)(spec, config.algo))
    learner.first = first
    assert learner.rollout_length == expected


@pytest.mark.sumo
def test_a_long_name_of_the_folder_of_temporary_files(tmp_path):
    """The process that forks listens at a path, which systems limit to about 104 characters."""
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    program = (
        "from tsc_marl.rollout.types import Task\nfrom tsc_marl.rollout.pool import Pool\n"
        "if __name__ == '__main__':\n    with Pool(1) as pool:\n        print(pool.read_spec(Task('cross')).network)\n"
    )
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    env = os.environ | {"TMPDIR": str(folder), "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, tmp_path / "program.py"], env=env, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("cross\n", 0), done.stderr


@pytest.fixture
def first_stop(monkeypatch):
    """Forget the stops of earlier tests in this process: a second one ends nothing."""
    monkeypatch.setattr(interrupts, "_arrived", [])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_that_arrives_while_a_worker_starts_is_not_lost(first_stop):
    masks = []

    def interrupted():
        with interrupts.kept_from_children():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)  # another thread may get it
            masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    (inherited,) = masks
    assert signal.SIGINT in inherited
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_the_process_that_forks_workers_never_gets_ctrl_c(tmp_path):
    program = (
        "from multiprocessing import forkserver\nfrom pathlib import Path\nfrom tsc_marl.rollout.pool import Pool\n"
        "if __name__ == '__main__':\n    with Pool(1):\n"
        "        print(Path(f'/proc/{forkserver._forkserver._forkserver_pid}/status').read_text())\n"
    )
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, tmp_path / "program.py"], env=env, capture_output=True, text=True, check=True)
    blocked = next(int(line.split()[1], 16) for line in done.stdout.splitlines() if line.startswith("SigBlk"))
    assert blocked >> signal.SIGINT - 1 & 1
