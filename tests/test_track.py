"""MLflow: what a training leaves there, and what happens when it fails or its store does."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.cli import ROOT, one_line, serves, until
from mlflow import MlflowClient
from mlflow.models import Model

from tsc_marl import algos, deploy
from tsc_marl.config import COMMAND_ONLY, parse
from tsc_marl.rollout.policies import TrainedPolicy
from tsc_marl.rollout.pool import Pool
from tsc_marl.rollout.task import Task
from tsc_marl.tracking import checkpoint
from tsc_marl.types import Spec

pytest_plugins = ["helpers.fixtures"]

QUICK = "--eval-seeds 1 2 --baselines max_pressure --algo.epochs 1 --workers 2"
LINE = f"train --network cross --algos mappo jointq --seeds 0 1 --episodes 4 {QUICK}"
TRAINED = {"checkpoint.pt", "config.json", "curves.csv", "signals.csv", "signals.png"}
DECISIONS = 120  # of cross: 600 s, one every 5 s


@pytest.fixture(scope="module")
def home(new_home):
    home = new_home()
    assert home.main(LINE) == 0
    return home


@pytest.fixture(scope="module")
def client(home):
    return MlflowClient(f"sqlite:///{home.folder / 'mlflow.db'}")


@pytest.fixture(scope="module")
def runs(client):
    found = client.search_runs([client.get_experiment_by_name("cross").experiment_id])
    return {(run.data.tags.get("algorithm"), run.data.tags.get("seed")): run for run in found}


def test_one_child_for_each_algorithm_and_seed(runs):
    parent = runs.pop((None, None))
    try:
        assert set(runs) == {(name, seed) for name in ("mappo", "jointq") for seed in ("0", "1")}
        assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
        assert {run.info.status for run in (parent, *runs.values())} == {"FINISHED"}
    finally:
        runs[None, None] = parent


def test_tags(runs):
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    tags = runs["jointq", "1"].data.tags
    assert tags["network"] == "cross"
    assert tags["timing"] == "sumo-rl"
    assert tags["git_commit"] == (commit or "unknown")
    assert tags["sumo_version"].startswith("1.")
    assert tags["command"] == f"python -m tsc_marl {LINE}"
    assert "| jointq s1 |" in tags["mlflow.note.content"]
    assert f"runs:/{runs['jointq', '1'].info.run_id}/policy" in tags["mlflow.note.content"]
    parent = runs[None, None].data.tags
    assert (parent["network"], parent["git_commit"], parent["sumo_version"]) == (
        "cross",
        tags["git_commit"],
        tags["sumo_version"],
    )
    assert "| jointq s1 |" in parent["mlflow.note.content"]


def test_every_setting_is_a_param(runs):
    experiment = parse(LINE.split()[1:])
    for config in experiment.runs:
        settings = config.as_dict()
        assert runs[config.algorithm, str(config.seed)].data.params == {key: str(value) for key, value in settings.items()}
        assert (settings["algo.epochs"], settings["timing.yellow_s"], settings["episodes"]) == (1, 2, 4)
        assert not settings.keys() & set(COMMAND_ONLY)
    shared = runs[None, None].data.params
    assert shared == {key: str(value) for key, value in experiment.as_dict().items()}
    assert (shared["algos"], shared["seeds"]) == ("('mappo', 'jointq')", "(0, 1)")
    assert not [key for key in shared if key.startswith("algo.")]


def test_a_filter_chooses_by_a_param(home, capsys):
    assert home.main(["compare", "--network", "cross", "--where", "params.episodes = '4' and params.seed = '1'"]) == 0
    assert home.main(["compare", "--network", "cross", "--where", "params.episodes = '6'"]) == 2
    assert "no finished run on cross that match" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["mappo", "jointq"])
def test_metrics_of_each_update(runs, client, home, name):
    run = runs[name, "0"]
    metrics = {key: value for key, value in run.data.metrics.items() if not key.startswith("system/")}
    assert len(metrics) <= 25
    assert not [key for key in metrics if "/" in key]
    for key in (
        "delay_s",
        "reward",
        "training_min",
        "entropy_nat",
        "kl_nat",
        "critic_loss",
        "explained_variance",
        "simulation_s",
    ):
        assert [m.step for m in client.get_metric_history(run.info.run_id, key)] == [2, 4], key
    assert metrics["decisions"] == 4 * DECISIONS
    curves = pd.read_csv(client.download_artifacts(run.info.run_id, "curves.csv"))
    assert curves.decisions.tolist() == [2 * DECISIONS, 4 * DECISIONS]
    assert curves.delay_s.iloc[-1] == pytest.approx(metrics["delay_s"])
    assert {"traffic/queue", "grad_norm/actor"} <= set(curves.columns)
    signals = pd.read_csv(client.download_artifacts(run.info.run_id, "signals.csv"))
    assert (signals.episode.tolist(), signals.signal.nunique()) == ([2, 4], 1)
    assert {"reward", "entropy"} <= set(signals.columns)
    assert ("effect_on_others" in signals.columns) == (name == "jointq")
    written = json.loads((home.training / f"{name}-s0" / "evaluation.json").read_text(encoding="utf-8"))["results"][f"{name} s0"]
    assert [row["seed"] for row in written] == [1, 2]
    assert metrics["eval_delay_s"] == pytest.approx(sum(row["delay"] for row in written) / 2)


def test_artifacts(runs, client, home):
    for key, run in runs.items():
        expected = {"evaluation.json", "learning_curve.png"} | (TRAINED if key[0] else set())
        assert {file.path for file in client.list_artifacts(run.info.run_id)} == expected
        assert str(home.folder) in run.info.artifact_uri
    path = client.download_artifacts(runs["jointq", "0"].info.run_id, "config.json")
    with open(path, encoding="utf-8") as file:
        assert json.load(file)["algo.others_weight"] == 1.0


def test_a_policy_is_a_registered_model(runs, client, home, capsys):
    run = runs["jointq", "1"]
    newest, best = (client.get_model_version_by_alias("cross-jointq", alias) for alias in ("newest", "best"))
    assert (int(newest.version), newest.run_id) == (2, run.info.run_id)
    versions = client.search_model_versions("name='cross-jointq'")
    delays = {version.run_id: float(version.tags["eval_delay_s"]) for version in versions}
    assert delays[best.run_id] == min(delays.values())
    assert delays[run.info.run_id] == pytest.approx(run.data.metrics["eval_delay_s"], rel=1e-5)
    assert (newest.tags["timing"], newest.tags["scenario.network"]) == ("sumo-rl", run.data.tags["scenario.network"])
    (model,) = client.search_logged_models([run.info.experiment_id], f"source_run_id='{run.info.run_id}'")
    assert newest.source == model.artifact_location
    info = Model.load(model.artifact_location.removeprefix("file://"))
    assert (info.signature.inputs.input_names(), info.saved_input_example_info is None) == (["obs", "avail"], False)
    capsys.readouterr()
    line = f"evaluate --network cross --eval-seeds 1 --out {home.folder}/again --policy"
    assert home.main([*line.split(), "models:/cross-jointq@newest", "models:/cross-jointq/2"]) == 0
    (row,) = json.loads((home.training / "jointq-s1" / "evaluation.json").read_text(encoding="utf-8"))["results"].values()
    played = json.loads((home.folder / "again" / "cross" / "metrics.json").read_text(encoding="utf-8"))["results"]
    assert [of[0]["delay"] for of in played.values()] == [row[0]["delay"]] * 2
    assert home.main([*line.split(), "models:/cross-jointq@oldest"]) == 2
    assert "model models:/cross-jointq@oldest does not exist; the store has" in one_line(capsys.readouterr().err)


def test_the_network_with_its_demand_is_the_data_set(runs):
    inputs = [run.inputs.dataset_inputs for run in runs.values()]
    assert {(of.dataset.name, of.tags[0].value) for (of,) in inputs} == {("cross", "training")}
    assert len({of.dataset.digest for (of,) in inputs}) == 1


def test_the_command_compares_and_links_its_trainings(runs):
    parent = runs[None, None]
    measured = ("mappo s0", "mappo s1", "jointq s0", "jointq s1", "max_pressure")
    assert parent.data.metrics.keys() == {f"eval_delay_s/{name}" for name in measured}
    for run in (run for key, run in runs.items() if key[0]):
        assert f"](#/experiments/{run.info.experiment_id}/runs/{run.info.run_id})" in parent.data.tags["mlflow.note.content"]


LOADING = """import sys, mlflow, numpy
given = dict(numpy.load(sys.argv[1]))
numpy.save(sys.argv[2], mlflow.pyfunc.load_model(f"runs:/{sys.argv[3]}/policy").predict(given))
"""


def test_another_program_loads_the_policy_in_three_lines(runs, home, tmp_path):
    task, run = Task("cross"), runs["jointq", "1"]
    saved = checkpoint.load(home.training / "jointq-s1" / "checkpoint.pt")
    with Pool(1) as pool:
        spec = pool.read_spec(task)
    rng = np.random.default_rng(0)
    avail = rng.random((50, spec.n_agents, spec.n_actions)) < 0.5
    avail[..., 0] = True
    given = {"obs": rng.normal(size=(50, spec.n_agents, spec.obs_dim)).astype(np.float32), "avail": avail}
    np.savez(tmp_path / "given.npz", **given)
    arguments = [str(tmp_path / "given.npz"), str(tmp_path / "chosen.npy"), run.info.run_id]
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{home.folder / 'mlflow.db'}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", LOADING, *arguments],
        cwd=tmp_path,
        env=os.environ | store,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    algorithm = saved.policy(task.network).algorithm(spec)
    expected = algorithm.act(torch.from_numpy(given["obs"]), torch.from_numpy(given["avail"]), None, None)[0].numpy()
    chosen = np.load(tmp_path / "chosen.npy")
    assert chosen.tolist() == expected.tolist()
    assert len(np.unique(chosen)) > 1


def test_a_recurrent_policy_remembers_until_the_next_start(tmp_path):
    spec = Spec("town", ("a", "b"), 3, 5, 4, ((1,), (0,)))
    config = algos.find("ippo").Config(recurrent=True)
    algorithm = algos.find("ippo")(spec, config)
    deploy.save(tmp_path / "policy.pt", TrainedPolicy("ippo", config, algorithm.policy_state()), spec)
    loaded = deploy._load_pyfunc(str(tmp_path / "policy.pt"))
    obs, avail = torch.randn(2, 500, 2, 5), torch.ones(500, 2, 3, dtype=torch.bool)
    first, _, carry = algorithm.act(obs[0], avail, None, None)
    second, _, _ = algorithm.act(obs[1], avail, carry, None)
    given = [{"obs": each.numpy(), "avail": avail.numpy()} for each in obs]
    assert loaded.predict(given[0]).tolist() == first.tolist()
    assert loaded.predict(given[1]).tolist() == second.tolist()
    assert loaded.predict(given[1], {"start": True}).tolist() != second.tolist()
    assert loaded.predict(given[0], {"start": True}).tolist() == first.tolist()


def test_compare_lists_them(home, runs, capsys):
    assert home.main("compare --network cross") == 0
    out = capsys.readouterr().out
    rows = [line.split("│") for line in out.splitlines() if any(run.info.run_id in line for run in runs.values())]
    assert len(rows) == 4
    delays = [float(row[3]) for row in rows]
    assert delays == sorted(delays)


@pytest.mark.sumo
def test_a_crash_marks_the_runs_failed(new_home, tmp_path, monkeypatch, capsys):
    home = new_home()
    (tmp_path / "angry.py").write_text(
        "from pathlib import Path\nCALLS = Path(__file__).with_suffix('.calls')\n\n"
        "def reward(signal):\n    with CALLS.open('a') as file:\n        file.write('.')\n"
        "    if CALLS.stat().st_size > 300:  # in the third episode\n        raise ValueError('no more')\n    return 0.0\n",
        encoding="utf-8",
    )
    line = f"train --network cross --algos ippo --episodes 4 {QUICK} --sim.reward angry:reward"
    line += " --episodes-per-update 1 --workers 1"
    monkeypatch.syspath_prepend(tmp_path)
    assert home.main(line) == 2
    out, err = capsys.readouterr()
    assert one_line(err) == f"error: reward angry:reward failed with ValueError: no more ({tmp_path / 'angry.py'}, line 8)\n"
    assert "inserted [veh]" not in out
    assert home.statuses() == {"comparison": "FAILED", "training": "FAILED"}
    assert home.checkpoint()["episode"] == 2


OPENING = """import sys
from tsc_marl.tracking.store import Tracker
tracker = Tracker("cross")
tracker.end(tracker.start("a run", {"seed": sys.argv[1]}, {}), "FINISHED")
"""


@pytest.mark.sumo
def test_two_processes_make_the_store_together(tmp_path):
    """Both are the first in their folder: one makes the tables, the other waits."""
    env = os.environ | {"TSC_MARL_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    commands = [[sys.executable, "-c", OPENING, seed] for seed in ("1", "2")]
    both = [subprocess.Popen(c, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for c in commands]
    said = [process.communicate(timeout=600) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    found = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").search_runs(["1"])
    assert sorted((run.data.tags["seed"], run.info.status) for run in found) == [("1", "FINISHED"), ("2", "FINISHED")]


@pytest.mark.parametrize(
    "env",
    [
        {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"},
        {"MLFLOW_TRACKING_URI": "sqlite:////dev/null/x.db"},
        {"TSC_MARL_HOME": "/dev/null/x"},
    ],
)
def test_a_store_that_cannot_be_used(new_home, capsys, env):
    home, start = new_home(), time.monotonic()
    assert home.main(f"train --network cross --algos ippo --episodes 4 {QUICK}", **env) == 2
    assert time.monotonic() - start < 30
    said = capsys.readouterr()
    (name, value) = next(iter(env.items()))
    assert value in one_line(said.err)
    assert name in said.err
    assert said.out == ""
    assert not (home.folder / "runs").exists()


@pytest.fixture
def server(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--artifacts-destination", str(tmp_path / "artifacts")]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *store]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # eight processes more
    process = subprocess.Popen(command, start_new_session=True, cwd=tmp_path, env=env, **quiet)

    try:
        until(lambda: serves(port), 90)
        yield f"http://127.0.0.1:{port}", process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.sumo
def test_a_store_lost_midway(new_home, server, capsys):
    home = new_home()
    uri, process = server

    def lose():
        home.wait_for_checkpoint()
        os.killpg(process.pid, signal.SIGKILL)

    thread = threading.Thread(target=lose)
    thread.start()
    line = f"train --network cross --algos ippo mappo --episodes 4 {QUICK} --checkpoint-every 1"
    assert home.main(line, MLFLOW_TRACKING_URI=uri) == 0
    thread.join()
    out, err = capsys.readouterr()
    lost = [line for line in out.splitlines() if "was lost" in line]
    assert len(lost) == 1
    assert f"tracking store {uri} was lost" in lost[0]
    assert "inserted [veh]" in out
    assert "Traceback" not in out + err
    assert [path.parent.name for path in home.checkpoints] == ["ippo-s0", "mappo-s0"]
