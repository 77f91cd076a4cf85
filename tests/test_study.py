"""`study`: real trainings side by side; again it goes on, other settings are other trainings, failures are told."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from mlflow import MlflowClient

from tsc_marl.config import RunConfig, parse
from tsc_marl.errors import UserError
from tsc_marl.evaluation.evaluate import load_matching_results
from tsc_marl.rollout.types import EpisodeMetrics
from tsc_marl.sim.demand import Demand
from tsc_marl.tracking import sealed
from tsc_marl.tracking.evaluation_file import Evaluation
from tsc_marl.tracking.run_folder import RunFolder
from tsc_marl.training import settings, study
from tsc_marl.training.loop import run_lock

pytest_plugins = ["helpers.fixtures"]

QUICK = "--episodes 2 --algo.epochs 1 --eval-seeds 1 --baselines"
WITH_BASELINE = f"{QUICK} max_pressure"
ALGOS = ("ippo", "mappo-lam95")
BOTH = f"study --net cross --algos {' '.join(ALGOS)} --seeds 0 --jobs 1 {WITH_BASELINE}"


def trained(home):
    """Return (algorithm, seed) of each training that MLflow calls finished."""
    client = MlflowClient(f"sqlite:///{home.folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("cross")
    runs = client.search_runs([experiment.experiment_id], "tags.kind = 'training' and status = 'FINISHED'")
    return sorted((run.data.tags["algorithm"], run.data.tags["seed"]) for run in runs)


@pytest.fixture(scope="module")
def completed(new_home):
    """Return a home with a training of another length and a study, and what the study printed."""
    home = new_home()
    temporary = home.folder / "temporary"
    temporary.mkdir()
    assert home.main("train --net cross --algos iql --episodes 4 --eval-seeds 1 --baselines --algo.gradient_steps 1") == 0
    code, out, err = home.run(BOTH, TMPDIR=str(temporary))
    assert code == 0, err
    return home, out


@pytest.fixture
def home_of_study(completed, monkeypatch):
    """Return the home of the study, which this process has too."""
    monkeypatch.setenv("TSC_MARL_HOME", str(completed[0].folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return completed[0]


@pytest.mark.sumo
def test_a_study_trains_and_reports(completed):
    home, out = completed
    assert "2 trainings, 0 of them finished already" in out  # a training of another length is none of its business
    assert "finished: mappo-lam95 s0 on cross" in out
    assert f"report: {home.folder}/report/report.html" in out
    assert (home.folder / "report" / "report.html").exists()
    assert trained(home) == [("ippo", "0"), ("iql", "0"), ("mappo-lam95", "0")]


@pytest.mark.sumo
def test_nothing_is_left_of_finished_trainings(completed):
    left = (completed[0].folder / "temporary").iterdir()
    assert [path for path in left if path.name.startswith(("tsc_marl_", "pymp-"))] == []


@pytest.mark.sumo
def test_a_variant_that_a_study_has_trained_is_a_policy(completed, capsys, tmp_path):
    assert completed[0].main(f"evaluate --net cross --policy mappo-lam95 --eval-seeds 1 --out {tmp_path}") == 0
    assert "mappo-lam95" in capsys.readouterr().out


@pytest.mark.sumo
def test_a_study_is_never_repeated(completed, capsys):
    home, _ = completed
    before = trained(home)
    assert home.main(BOTH) == 0
    assert "2 trainings, 2 of them finished already" in capsys.readouterr().out
    assert trained(home) == before


def training_of(home):
    """Return MLflow's client, the run of the training of ippo and its folder."""
    (folder,) = (home.folder / "runs").glob("study-cross-ippo-s0-*")
    client = MlflowClient(f"sqlite:///{home.folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("cross").experiment_id
    (run,) = client.search_runs([experiment], f"tags.folder = '{folder.name}' and tags.kind = 'training'")
    return client, run.info.run_id, folder


@pytest.mark.sumo
def test_a_study_does_not_repeat_imported_trainings(completed, home, capsys, tmp_path):
    assert completed[0].main(f"export --net cross --out {tmp_path}/out") == 0
    assert home.main(f"import --folder {tmp_path}/out") == 0
    capsys.readouterr()
    assert home.main(BOTH) == 0
    assert "2 trainings, 2 of them finished already" in capsys.readouterr().out


@pytest.mark.sumo
def test_a_study_stopped_between_the_evaluation_and_the_end_goes_on(completed, capsys):
    home, _ = completed
    before = trained(home)
    client, run_id, folder = training_of(home)
    client.set_terminated(run_id, "KILLED")
    (folder / "finished").unlink()
    assert trained(home) == [training for training in before if training != ("ippo", "0")]
    capsys.readouterr()
    assert home.main(BOTH) == 0
    assert "2 trainings, 1 of them finished already" in capsys.readouterr().out
    assert trained(home) == before


@pytest.mark.sumo
def test_a_store_that_has_lost_a_training_is_reported(completed, capsys):
    home, _ = completed
    client, run_id, folder = training_of(home)
    client.delete_run(run_id)
    try:
        capsys.readouterr()
        assert home.main(BOTH) == 0
        assert f"not in the store, so not compared: {folder.name};" in capsys.readouterr().out
    finally:
        client.restore_run(run_id)


@pytest.mark.sumo
def test_classical_controllers_play_once_in_a_study(home_of_study):
    """The second training takes over what the first has measured, unless it was on something else."""
    first, second = study.trials(["cross"], ALGOS, [0], WITH_BASELINE.split())
    contents = [json.loads(cell.folder.evaluation.read_text(encoding="utf-8"))["results"] for cell in (first, second)]
    assert [sorted(content) for content in contents] == [[name, "max_pressure"] for name in ALGOS]
    assert not first.folder.measured.exists()
    task, path = second.config.eval_tasks()[0], second.folder.measured
    assert load_matching_results(path, task, ("max_pressure", "sotl"), (1,)) == {
        "max_pressure": [EpisodeMetrics.from_row(row) for row in contents[1]["max_pressure"]]
    }
    assert load_matching_results(path, task, ("max_pressure",), (1, 2)) == {}
    assert load_matching_results(path, replace(task, demand=Demand(scale=1.3)), ("max_pressure",), (1,)) == {}
    tampered = sealed.read(path, Evaluation, "")
    tampered["results"]["max_pressure"][0]["delay"] += 900
    sealed.write(path, tampered)
    second.folder.evaluation.unlink()
    assert home_of_study.main(f"train --resume {second.folder.name}") == 0
    again = json.loads(second.folder.evaluation.read_text(encoding="utf-8"))["results"]
    assert again["max_pressure"] == tampered["results"]["max_pressure"] != contents[1]["max_pressure"]
    assert again[ALGOS[1]] == contents[1][ALGOS[1]]


@pytest.mark.sumo
def test_a_wider_study_trains_what_is_missing(completed, capsys):
    home, _ = completed
    before = trained(home)
    assert home.main(BOTH.replace(" mappo-lam95", "").replace("--seeds 0", "--seeds 0 1")) == 0
    assert "2 trainings, 1 of them finished already" in capsys.readouterr().out
    client = MlflowClient(f"sqlite:///{home.folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("cross").experiment_id
    (new,) = client.search_runs([experiment], "tags.kind = 'training' and tags.seed = '1'")
    assert trained(home) == sorted([*before, ("ippo", "1")])
    client.delete_run(new.info.run_id)  # the tests may run in another order


def test_other_settings_are_another_training():
    cells = [study.trials(["cross"], ["ippo"], [0], ["--algo.epochs", epochs])[0] for epochs in "112"]
    assert cells[0].folder == cells[1].folder != cells[2].folder


@pytest.mark.sumo
def test_progress_counts_training_episodes_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("TSC_MARL_HOME", str(tmp_path))
    (trial,) = study.trials(["cross"], ["ippo"], [0], [])
    assert trial.episodes_done() == 0
    trial.folder.path.mkdir(parents=True)
    lines = ["ippo  episode   12/16  to go 0.2 min  delay 9.0 s", "ippo  episode   16/16  to go 0.0 min  delay 9.0 s"]
    lines.append("evaluation on 10 held-out seeds  episode    2/10  to go 1.5 min")
    trial.folder.log.write_text("\n".join(lines), encoding="utf-8")
    assert trial.episodes_done() == 16


def test_a_stopped_study_goes_on(home):
    """Stopped as schedulers do while two train; the checkpoints are taken up."""
    line = f"study --net cross --algos ippo --seeds 0 1 --jobs 2 {QUICK.replace('--episodes 2', '--episodes 16')}"
    process = home.start(line)
    logs = home.folder / "runs"
    for _ in range(600):
        if len(list(logs.glob("study-*/*/checkpoint.pt"))) == 2:
            break
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in out
    assert not list(logs.glob("study-*/finished"))
    assert home.main(line) == 0
    assert trained(home) == [("ippo", "0"), ("ippo", "1")]
    assert all(path.read_text(encoding="utf-8").count("stopped; go on with") == 1 for path in logs.glob("study-*/log.txt"))


def test_invalid_settings_of_a_study_are_refused_before_any_training(home, capsys):
    for line, said in (
        ("study --net cross --algos ippo mapo", "algorithm mapo not found"),
        ("study --net cross --algos ippo --algo.sampled_share 1", "Unrecognized options: --algo.sampled_share"),
        ("study --net cross --algos ippo --jobs 0", "jobs must be at least 1; got 0"),
        ("study --net cross cross --algos ippo", "network needs at least one entry and none twice"),
    ):
        assert home.main(line) == 2
        assert said in capsys.readouterr().err
    assert not (home.folder / "runs").exists()


@pytest.mark.sumo
def test_a_study_goes_on_after_one_that_fails_and_takes_what_another_study_has_left(home, caplog, monkeypatch):
    """The folder of coma holds a checkpoint that is none; that of ippo is locked until mappo has been trained."""
    caplog.set_level("INFO", "tsc_marl")
    monkeypatch.setenv("TSC_MARL_HOME", str(home.folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    found = study.trials(["cross"], ["ippo", "coma", "mappo"], [0], QUICK.split())
    locked, broken, cut_short = found
    for trial in (locked, broken):
        study.prepare(trial.folder, trial.line, trial.config)
    cut_short.folder.path.mkdir()  # before it began
    training = broken.folder.training("coma", 0)
    training.path.mkdir()
    training.checkpoint.write_text("no checkpoint", encoding="utf-8")
    with ThreadPoolExecutor() as pool:
        with run_lock(locked.folder):
            work = pool.submit(study.run, found, 2)
            while not (cut_short.finished or work.done()):
                time.sleep(0.1)
            assert locked.episodes_done() == 0
        with pytest.raises(UserError, match=r"1 of 3 trainings failed: coma s0 on cross: error: checkpoint .* cannot be read"):
            work.result()
    assert [trial.finished for trial in found] == [True, False, True]
    assert caplog.text.index("finished: mappo") < caplog.text.index("finished: ippo")


def test_a_folder_is_made_whole_or_not_at_all(home):
    folder, config = RunFolder(home.folder / "runs" / "x"), parse(["--network", "cross"])
    study.prepare(folder, ["--network", "cross"], config)
    with pytest.raises(FileExistsError):
        study.prepare(folder, ["--network", "grid2x2"], config)
    assert settings.read_command(folder) == ["--network", "cross"]
    assert list((home.folder / "runs").iterdir()) == [folder.path]


def test_a_training_of_before_a_setting_was_known_is_not_repeated(monkeypatch, tmp_path):
    monkeypatch.setenv("TSC_MARL_HOME", str(tmp_path))
    (today,) = study.trials(["cross"], ["ippo"], [0], QUICK.split())
    known = RunConfig.as_dict
    with monkeypatch.context() as patch:  # as an earlier version had them
        patch.setattr(RunConfig, "as_dict", lambda self: {k: v for k, v in known(self).items() if k not in study.LATER})
        (earlier,) = study.trials(["cross"], ["ippo"], [0], QUICK.split())
    assert today.folder != earlier.folder
    earlier.folder.path.mkdir(parents=True)
    (now,) = study.trials(["cross"], ["ippo"], [0], QUICK.split())
    assert now.folder == earlier.folder
    (other,) = study.trials(["cross"], ["ippo"], [0], f"{QUICK} --timing-preset field-priority".split())
    assert other.folder not in (earlier.folder, today.folder)
