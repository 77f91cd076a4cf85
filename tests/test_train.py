"""Training: the same numbers again, after an interruption too; seeds; the interval."""

import io
import os
import resource
import signal
import threading
from contextlib import contextmanager, suppress

import numpy as np
import pytest
import torch
from helpers.cli import until, workers_of
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tsc_marl import algos
from tsc_marl.config import check_eval_seeds, parse
from tsc_marl.errors import UserError
from tsc_marl.evaluation import statistics, tables
from tsc_marl.rollout.types import EpisodeMetrics
from tsc_marl.sim.seeds import TRAIN_SEEDS, train_seed
from tsc_marl.tracking import checkpoint
from tsc_marl.tracking.run_folder import RunFolder, TrainingFolder
from tsc_marl.training.loop import run_lock
from tsc_marl.training.run import TrainingRun
from tsc_marl.types import Spec

pytest_plugins = ["helpers.fixtures"]

LINE = (
    "train --net grid2x2 --algos jointq --episodes 8 --eval-seeds 1 --baselines max_pressure --algo.epochs 2 --checkpoint-every 1"
)
EPISODES = 8


@pytest.fixture(scope="module")
def trained(new_home):
    home = new_home()
    assert home.main(f"{LINE} --workers 2") == 0
    return home


@pytest.fixture(scope="module")
def undisturbed(trained):
    return trained.checkpoint()


def assert_same(saved, expected):
    assert saved["episode"] == expected["episode"] == EPISODES
    weights, others = saved["training"]["weights"], expected["training"]["weights"]
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert [row["delay"] for row in saved["history"]] == [row["delay"] for row in expected["history"]]


def actor_of(weights):
    return torch.cat([weight.flatten() for name, weight in weights.items() if name.startswith("actor.")])


def test_same_command_same_numbers(home, undisturbed):
    assert home.main(f"{LINE} --workers 1") == 0
    assert_same(home.checkpoint(), undisturbed)
    kept = [checkpoint.load(path) for path in sorted(home.training.glob("*/snapshots/*.pt"))]
    assert [saved.episode for saved in kept] == [0, 4]
    first, second = [actor_of(saved.training["weights"]) for saved in kept]
    assert not torch.equal(first, second)
    assert not torch.equal(second, actor_of(undisturbed["training"]["weights"]))


@pytest.mark.sumo
def test_kill_and_resume(home, undisturbed):
    """Killed after an update that MLflow knows and the checkpoint does not: the resumed training comes by it again."""
    from mlflow import MlflowClient

    process = home.start(f"{LINE} --workers 2")
    home.wait_for_checkpoint()
    (path,) = home.checkpoints
    first, workers = path.read_bytes(), []
    with pytest.raises(UserError, match="is being trained by another process"), run_lock(RunFolder(home.training)):
        pass
    client = MlflowClient(f"sqlite:///{home.folder / 'mlflow.db'}")
    (run_id,) = [run.info.run_id for run in training_runs(client)]

    def steps():
        return [metric.step for metric in client.get_metric_history(run_id, "reward")]

    def simulates():  # each episode has a worker of its own, forked anew
        workers[:] = workers_of(process.pid)
        return bool(workers)

    until(lambda: simulates() and len(steps()) > 1, 60)
    process.kill()
    process.communicate()
    path.write_bytes(first)
    assert 0 < home.checkpoint()["episode"] < EPISODES
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in workers), 20)  # they notice that the parent is gone
    assert home.main(["train", "--resume", home.training.name, "--workers", "1"]) == 0  # the dead hold nothing
    assert_same(home.checkpoint(), undisturbed)
    found = steps()
    assert len(found) == EPISODES // 2
    assert found == sorted(set(found))


def test_two_processes_never_train_the_same(trained, capsys):
    before = trained.statuses()
    with run_lock(RunFolder(trained.training)):
        assert trained.main(["train", "--resume", trained.training.name]) == 2
    name = trained.training.name
    assert capsys.readouterr().err == f"error: {name} is being trained by another process; wait for it, or stop it first\n"
    assert trained.statuses() == before


@pytest.mark.sumo
def test_what_the_store_lacks_is_sent_when_the_training_goes_on(trained):
    from mlflow import MlflowClient

    home = trained
    client = MlflowClient(f"sqlite:///{home.folder / 'mlflow.db'}")

    def logged(run, name):
        return [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]

    (first,) = training_runs(client)
    curve, end = logged(first, "delay_s"), logged(first, "eval_delay_s")
    assert (len(curve), len(end)) == (EPISODES // 2, 1)
    assert home.main(["train", "--resume", home.training.name, "--workers", "2"]) == 0
    assert (logged(first, "delay_s"), logged(first, "eval_delay_s")) == (curve, end)  # nothing twice
    client.delete_run(first.info.run_id)
    assert home.main(["train", "--resume", home.training.name, "--workers", "2"]) == 0
    (second,) = training_runs(client)
    assert second.info.run_id != first.info.run_id
    assert (logged(second, "delay_s"), logged(second, "eval_delay_s")) == (curve, end)


@pytest.mark.sumo
def test_an_off_policy_training_goes_on_with_its_replay(home, new_home):
    """Stopped after the first checkpoint, then resumed; epsilon falls as its settings say."""
    from mlflow import MlflowClient

    line = "train --net cross --algos iql --episodes 8 --eval-seeds 1 --baselines --checkpoint-every 1 --workers 2"
    line += " --algo.replay-episodes 3 --algo.gradient_steps 10"
    whole = new_home()
    assert whole.main(line) == 0
    process = home.start(line)
    home.wait_for_checkpoint()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert 0 < home.checkpoint()["episode"] < EPISODES
    assert home.main(["train", "--resume", home.training.name, "--workers", "2"]) == 0
    assert_same(home.checkpoint(), whole.checkpoint())
    client = MlflowClient(f"sqlite:///{whole.folder / 'mlflow.db'}")
    (run,) = training_runs(client)
    epsilon = [metric.value for metric in client.get_metric_history(run.info.run_id, "epsilon")]
    config = algos.find("iql").Config()
    assert epsilon == pytest.approx([config.epsilon(done / EPISODES) for done in (0, 2, 4, 6)])


NOTES = """
from pathlib import Path

def reward(signal):
    Path(__file__).with_name("noted").joinpath(signal.sumo.simulation.getOption("seed")).touch()
    return -float(signal.get_total_queued())
"""
"""A reward function that leaves a file named by the simulation's seed."""


@pytest.mark.sumo
def test_the_episodes_have_the_seeds_that_are_promised(home, tmp_path, monkeypatch):
    line = "train --net cross --algos ippo --seeds 2 --episodes 4 --eval-seeds 7 --baselines --algo.epochs 1 --workers 2"
    noted = tmp_path / "noted"
    noted.mkdir()
    (tmp_path / "notes_its_seed.py").write_text(NOTES, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert home.main(f"{line} --sim.reward notes_its_seed:reward") == 0
    promised = {train_seed(2, episode) for episode in range(4)} | {7}
    found = {int(path.name) for path in noted.iterdir()} - {0}  # a simulation of seed 0 told the sizes
    assert found == promised


def training_runs(client):
    return client.search_runs([e.experiment_id for e in client.search_experiments()], "tags.kind = 'training'")


@pytest.mark.parametrize(
    ("stop", "threads"),
    [
        pytest.param(lambda pid: os.killpg(pid, signal.SIGINT), 2, marks=pytest.mark.sumo),  # of a terminal: workers get it too
        (lambda pid: os.kill(pid, signal.SIGTERM), 1),  # as a scheduler does
    ],
    ids=["ctrl-c", "sigterm"],
)
def test_stop_and_resume(home, undisturbed, stop, threads):
    """The numbers are those of one thread, whatever the machine has."""
    process = home.start(f"{LINE} --workers 2", TMPDIR=str(home.folder), OMP_NUM_THREADS=str(threads))
    home.wait_for_checkpoint()
    stop(process.pid)
    out, err = process.communicate(timeout=60)
    name = home.training.name
    assert process.returncode == 130
    assert err == ""
    assert out.splitlines()[-1] == f"stopped; go on with: make train RESUME={name}"
    assert "inserted [veh]" not in out
    assert not list(home.folder.glob("tsc_marl_*"))  # SUMO's files of the training episodes
    assert home.statuses() == {"comparison": "KILLED", "training": "KILLED"}
    assert 0 < home.checkpoint()["episode"] < EPISODES
    assert home.main(["train", "--resume", f"runs/{name}", "--workers", "2"]) == 0
    assert_same(home.checkpoint(), undisturbed)
    assert home.statuses() == {"comparison": "FINISHED", "training": "FINISHED"}


@contextmanager
def killer(home, forever):
    """Kill a worker of this process, or every one as soon as it appears, once a checkpoint exists."""
    stop = threading.Event()

    def kill():
        until(lambda: home.checkpoints or stop.is_set(), 90)
        known = set() if forever else set(workers_of(os.getpid()))  # these may have done their work
        while not stop.wait(0.01):
            new = [pid for pid in workers_of(os.getpid()) if pid not in known]
            for pid in new[: None if forever else 1]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if new and not forever:
                return

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.sumo
def test_a_dead_worker_is_replaced(home, undisturbed, capsys):
    with killer(home, forever=False):
        assert home.main(f"{LINE} --workers 2") == 0
    died = [line for line in capsys.readouterr().out.splitlines() if "died" in line]
    assert len(died) == 1
    assert "restarted, the episode is played again" in died[0]
    assert_same(home.checkpoint(), undisturbed)


@pytest.mark.sumo
def test_three_deaths_end_the_run(home, capsys):
    with killer(home, forever=True):
        code = home.main(f"{LINE} --workers 1")
    said = capsys.readouterr()
    assert code == 2
    assert said.err.startswith("error: worker processes died 3 times in a row on episode ")
    assert said.err.endswith(f"the checkpoint is saved, go on with: make train RESUME={home.training.name}\n")
    assert said.err.count("\n") == 1
    assert said.out.count("died") == 2
    assert 0 < home.checkpoint()["episode"] < EPISODES
    assert home.statuses() == {"comparison": "FAILED", "training": "FAILED"}


def test_an_update_cut_short_is_not_saved(tmp_path):
    (config,) = parse(["--network", "cross", "--algos", "ippo"]).runs
    run = TrainingRun(config, Spec("cross", ("a",), 2, 3, 4, ((),)), TrainingFolder(tmp_path))
    algorithm = run.learner.algorithm
    before = {name: value.clone() for name, value in algorithm.state_dict().items()}
    with torch.no_grad():
        for value in algorithm.parameters():
            value += 1
    run.save()
    saved = checkpoint.load(tmp_path / "checkpoint.pt").training["weights"]
    assert all(torch.equal(saved[name], before[name]) for name in before)
    run.stage_checkpoint()
    run.save()
    saved = checkpoint.load(tmp_path / "checkpoint.pt").training["weights"]
    assert all(torch.equal(saved[name], value) for name, value in algorithm.state_dict().items())


def test_a_disk_that_takes_no_checkpoint_keeps_the_last_one(tmp_path):
    (config,) = parse(["--network", "cross", "--algos", "ippo"]).runs
    run = TrainingRun(config, Spec("cross", ("a",), 2, 3, 4, ((),)), TrainingFolder(tmp_path))
    run.save()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(UserError, match="the last one is whole; free some disk space and resume"):
            run.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert checkpoint.load(tmp_path / "checkpoint.pt").episode == 0


seeds, episodes = st.integers(0, 999), st.integers(0, TRAIN_SEEDS - 1)


@given(seeds, episodes, seeds, episodes)
def test_training_seeds_differ_and_never_meet_evaluation(seed, episode, other_seed, other_episode):
    ours, theirs = train_seed(seed, episode), train_seed(other_seed, other_episode)
    assert (ours == theirs) == ((seed, episode) == (other_seed, other_episode))
    assert ours < 2**31  # SUMO's limit
    with pytest.raises(UserError, match=f"got {ours}"):
        check_eval_seeds((0, ours))


def test_interval_of_normal_values():
    values = np.random.default_rng(1).normal(50, 10, size=200)
    low, high = statistics.interval(values.tolist())
    half = 1.96 * values.std() / np.sqrt(len(values))
    np.testing.assert_allclose([low, high], [values.mean() - half, values.mean() + half], atol=0.1 * half)


def test_one_value_has_no_interval():
    assert all(np.isnan(statistics.interval([3.0])))
    names = ("delay", "delay_p95", "worst_approach", "stops", "queue", "arrived", "scheduled", "never_inserted", "gridlock")
    results = {"random": [EpisodeMetrics(1, dict.fromkeys(names, 7.0))]}
    text = io.StringIO()
    Console(file=text, width=150, markup=False).print(tables.results_table("t", results, {}))
    (row,) = [line for line in text.getvalue().splitlines() if "random" in line]
    assert [cell.strip() for cell in row.split("│")][2:5] == ["7.0", "-", "7.0"]
    assert "delay [s]" in text.getvalue()  # the unit is no markup
    assert "| random | 7.0 | - |" in tables.markdown(results)
