"""What happens to the tracking store: locked, late, lost, damaged, of somebody else."""

import contextlib
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from helpers.cli import one_line, until
from mlflow import MlflowClient

from tsc_marl.tracking import waiting
from tsc_marl.tracking.store import Tracker

pytest_plugins = "helpers.fixtures"

HOLD = """import sqlite3, sys
store = sqlite3.connect(sys.argv[1], isolation_level=None)
store.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""
QUICK = "--eval-seeds 1 --baselines random --workers 1 --algo.epochs 1 --checkpoint-every 1"


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(waiting, "NOTICE_S", 0.3)
    monkeypatch.setattr(waiting, "GIVE_UP_S", 2.0)


@pytest.fixture
def here(home, monkeypatch):
    """The home of this process."""
    monkeypatch.setenv("TSC_MARL_HOME", str(home.folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return home


@contextlib.contextmanager
def locked(path):
    """Hold the lock of an SQLite file in another process, and yield its id."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"locked\n"
    try:
        yield process.pid
    finally:
        process.communicate()


@contextlib.contextmanager
def silent_server():
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept = []

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    kept.append(server.accept()[0])

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        for connection in kept:
            connection.close()


def runs_of(home):
    client = MlflowClient(f"sqlite:///{home.folder / 'mlflow.db'}")
    return client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])


@pytest.mark.parametrize("line", ["compare --network cross", "train --network cross --algos ippo --episodes 2"])
def test_a_locked_store_names_who_holds_it(home, capsys, impatient, line):
    with locked(home.folder / "mlflow.db") as pid:
        assert home.main(line) == 2
    out, err = capsys.readouterr()
    assert f"locked by process {pid} (" in one_line(err)
    assert "wait for its end or stop it" in err
    assert "move it away" not in err
    assert out.count("waiting for tracking store") == 1
    assert not (home.folder / "runs").exists()


def test_a_store_that_is_unlocked_in_time_is_used(home, capsys, impatient):
    with locked(home.folder / "mlflow.db"):
        thread = threading.Thread(target=lambda: home.main("compare --network cross"))
        thread.start()
        time.sleep(0.8)
    thread.join()
    assert "no finished run on cross" in one_line(capsys.readouterr().err)


def test_a_start_that_another_one_keeps_waiting(home, capsys, impatient):
    from filelock import FileLock

    with FileLock(home.folder / "mlflow.db.lock"):
        assert home.main("train --network cross --algos ippo --episodes 2") == 2
    assert str(home.folder / "mlflow.db.lock") in one_line(capsys.readouterr().err)


@pytest.mark.parametrize("verb", ["compare", "train"])
def test_a_server_that_never_answers(home, capsys, impatient, verb):
    with silent_server() as uri:
        assert home.main(f"{verb} --network cross", MLFLOW_TRACKING_URI=uri) == 2
    out, err = capsys.readouterr()
    assert f"tracking store {uri} has not answered for 2 s; start the server" in one_line(err)
    assert f"waiting for tracking store {uri}" in out


@pytest.mark.parametrize(
    ("content", "reason"), [(b"no database at all, but some text" * 100, "not a database"), (None, "unable to open")]
)
def test_a_file_that_is_no_store(home, capsys, content, reason):
    path = home.folder / "mlflow.db"
    path.unlink()
    path.mkdir() if content is None else path.write_bytes(content)
    begun = time.monotonic()
    for verb in ("compare", "train"):
        assert home.main(f"{verb} --network cross") == 2
        assert reason in one_line(capsys.readouterr().err)
    assert time.monotonic() - begun < 30


def remove(path):
    path.unlink()


def replace_by_folder(path):
    path.unlink()
    path.mkdir()


def truncate(path):
    os.truncate(path, 5000)


def make_full(path):
    """Allow the file no more pages, as on a full disk."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TRIGGER full BEFORE INSERT ON metrics BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END")
        database.commit()


@pytest.mark.parametrize("damage", [remove, replace_by_folder, truncate, make_full])
def test_a_store_lost_midway_costs_one_line(here, caplog, capfd, damage):
    tracker = Tracker("cross")
    run = tracker.start("a run", {"folder": "cross-1"}, {})
    damage(here.folder / "mlflow.db")
    for step in range(3):
        tracker.log(run, {"delay": 1.0}, step)
    tracker.end(run, "FINISHED")
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("tsc_marl")]
    assert line.startswith(f"tracking store sqlite:///{here.folder / 'mlflow.db'} was lost (")
    assert line.endswith(f"its results are in {here.folder / 'runs' / 'cross-1'}; when it works again: make train RESUME=cross-1")
    assert tracker.lost
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.slow  # MLflow waits 20 s for a lock
def test_a_store_locked_midway_gets_all_results_later(here, caplog, capfd):
    tracker = Tracker("cross")
    run = tracker.start("a run", {}, {})
    with locked(here.folder / "mlflow.db"):
        for step in range(3):
            tracker.log(run, {"delay": float(step)}, step)
        until(lambda: "they wait" in caplog.text, 60)
    until(lambda: "takes results again" in caplog.text, 60)
    tracker.end(run, "FINISHED")
    assert not tracker.lost
    history = MlflowClient(f"sqlite:///{here.folder / 'mlflow.db'}").get_metric_history(run, "delay")
    assert [(entry.step, entry.value) for entry in history] == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.slow
def test_a_store_that_stays_locked_is_lost(here, caplog, impatient):
    tracker = Tracker("cross")
    run = tracker.start("a run", {}, {})
    with locked(here.folder / "mlflow.db"):
        tracker.end(run, "FINISHED")
    assert tracker.lost
    assert caplog.text.count("was lost ((sqlite3.OperationalError) database is locked)") == 1


def test_what_the_store_refuses_is_named_and_left_out(here, caplog, monkeypatch):
    from mlflow.utils import validation

    tracker = Tracker("cross")
    run = tracker.start("a run", {}, {"a:b": 1, "c": 2})
    monkeypatch.setattr(validation, "validate_param_and_metric_name", lambda name: re.match(r"^[/\w.\- ]*$", name))  # on Windows
    other = tracker.start("another", {}, {"a:b": 1, "c": 2})
    for step in range(2):
        tracker.log(other, {"x:y": 1.0, "delay": 2.0, "reward": 3.0}, step)
    tracker.end(other, "FINISHED")
    assert not tracker.lost
    by_id = {run.info.run_id: run for run in runs_of(here)}
    assert by_id[run].data.params == {"a:b": "1", "c": "2"}
    assert by_id[other].data.params == {"c": "2"}
    assert by_id[other].data.metrics == {"delay": 2.0, "reward": 3.0}
    assert by_id[other].info.status == "FINISHED"
    lines = [record.getMessage() for record in caplog.records if "refuses" in record.getMessage()]
    assert ["refuses param a:b" in lines[0], "refuses metric x:y" in lines[1], len(lines)] == [True, True, 2]


def test_a_network_has_more_metrics_than_one_request_takes(here):
    tracker = Tracker("cross")
    run = tracker.start("a run", {}, {f"p{i}": i for i in range(250)})
    tracker.log(run, {f"agent/{i}/reward": float(i) for i in range(2300)}, 0)
    tracker.end(run, "FINISHED")
    assert not tracker.lost
    (stored,) = runs_of(here)
    assert (len(stored.data.metrics), len(stored.data.params)) == (2300, 250)


@pytest.mark.sumo
def test_a_run_without_its_store_gets_into_it_later(new_home, capsys):
    home = new_home()
    aside = home.folder / "aside.db"
    process = home.start(f"train --network cross --algos ippo --episodes 8 {QUICK}")
    home.wait_for_checkpoint()
    (home.folder / "mlflow.db").rename(aside)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    resume = re.search(r"not in the tracking store; when that works again: make train RESUME=(\S+)", out)[1]
    assert len(re.findall("was lost", out)) == 1
    aside.rename(home.folder / "mlflow.db")
    assert home.main(f"train --resume {resume}") == 0
    assert home.main("compare --network cross") == 0
    assert set(home.statuses().values()) == {"FINISHED"}
    (run,) = [run for run in runs_of(home) if run.data.tags["kind"] == "training"]
    client = MlflowClient(f"sqlite:///{home.folder / 'mlflow.db'}")
    assert [entry.step for entry in client.get_metric_history(run.info.run_id, "delay_s")] == [2, 4, 6, 8]


@pytest.mark.sumo
def test_a_home_removed_midway_ends_with_one_line(new_home):
    home = new_home()
    process = home.start(f"train --network cross --algos ippo --episodes 40 {QUICK}")
    home.wait_for_checkpoint()
    home.folder.rename(home.folder.with_name("elsewhere"))
    out, err = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "was removed while its run was going on" in one_line(err)
    assert "Traceback" not in out
    (saved,) = home.checkpoints
    assert str(saved) in err


# whose files


@pytest.mark.parametrize("place", ["file:///etc", "/etc", "file://{home}/mlartifacts/../secret", "file:///etc%2F.."])
@pytest.mark.parametrize("verb", ["evaluate --network cross --policy {run}", "compare --network cross"])
def test_files_outside_the_store_are_not_read(here, capsys, tmp_path, place, verb):
    place = place.format(home=here.folder)
    tracker = Tracker("cross")
    tags = {"kind": "training", "algorithm": "ippo", "seed": "0", "sumo_version": "1", "folder": "x"}
    run = tracker.start("a run", tags, {"episodes": 2})
    tracker.log(run, {"eval/delay": 1.0, "episode": 2.0}, 1)
    tracker.end(run, "FINISHED")
    with contextlib.closing(sqlite3.connect(here.folder / "mlflow.db")) as database:
        database.execute("UPDATE runs SET artifact_uri = ?", (place,))
        database.commit()
    assert here.main([*verb.format(run=run).split(), *(["--out", str(tmp_path / "out")] if "evaluate" in verb else [])]) == 2
    out, err = capsys.readouterr()
    text = one_line(err) if "evaluate" in verb else out
    assert f"run {run} in sqlite:///{here.folder / 'mlflow.db'} keeps its files in {place}" in text
    assert f"outside {here.folder / 'mlartifacts'}" in text
    assert "evaluate" in verb or "1 of them is damaged" in one_line(err)


def test_nothing_is_written_outside_the_store(here, capsys, tmp_path):
    client = MlflowClient(f"sqlite:///{here.folder / 'mlflow.db'}")
    client.create_experiment("cross", artifact_location=(tmp_path / "elsewhere").as_uri())
    assert here.main(f"train --network cross --algos ippo --episodes 2 {QUICK}") == 2
    assert "experiment cross in sqlite:///" in one_line(capsys.readouterr().err)
    assert not (here.folder / "runs").exists()


# reading makes nothing

READING = (
    "compare --network cross",
    "report --network cross",
    "export --network cross",
    "explain --network cross --policy ippo",
    "watch --network cross --policy ippo",
    "video --network cross --policy ippo",
    "evaluate --network cross --policy ippo",
)


@pytest.mark.parametrize("line", READING)
def test_reading_makes_no_experiment_and_no_store(here, capsys, monkeypatch, line):
    monkeypatch.chdir(here.folder)
    assert here.main(line) == 2
    assert [e.name for e in MlflowClient(f"sqlite:///{here.folder / 'mlflow.db'}").search_experiments()] == ["Default"]
    assert "no finished" in one_line(capsys.readouterr().err)
    (here.folder / "mlflow.db").unlink()
    assert here.main(line) == 2
    assert "there is no tracking store" in one_line(capsys.readouterr().err)
    assert {path.name for path in here.folder.iterdir()} <= {"results"}  # the folder of explain's option --out


def test_a_deleted_experiment_stays_deleted_when_it_is_read(here, capsys):
    client = MlflowClient(f"sqlite:///{here.folder / 'mlflow.db'}")
    client.delete_experiment(client.create_experiment("cross"))
    assert here.main("compare --network cross") == 2
    assert client.get_experiment_by_name("cross").lifecycle_stage == "deleted"
