"""What killed processes leave is cleared by the next command; what belongs to somebody is not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.cli import ROOT, one_line, until
from mlflow import MlflowClient

from tsc_marl import paths
from tsc_marl.cli import doctor
from tsc_marl.paths import is_dead, machine, process_mark, temporary_folder
from tsc_marl.tracking import leftovers
from tsc_marl.tracking.store import Tracker

pytest_plugins = "helpers.fixtures"

KILLED = """import os, signal
from tsc_marl.paths import process_folder, temporary_folder
from tsc_marl.tracking.run_folder import runs
runs().mkdir(parents=True)
kept = temporary_folder(), temporary_folder(runs())
process_folder()
os.kill(os.getpid(), signal.SIGKILL)
"""
LINE = "train --network cross --algos ippo --episodes 60 --eval-seeds 1 --baselines random --workers 1 --algo.epochs 1"


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A folder of temporary files of our own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def client_of(home):
    return MlflowClient(f"sqlite:///{home.folder / 'mlflow.db'}")


def ended_process():
    """The mark of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        mark = process_mark(process.pid)
        process.communicate(b"\n")
    return mark


def test_a_mark_tells_a_process_from_a_later_one_with_the_same_number():
    mine = process_mark(os.getpid())
    dead = ended_process()
    assert not is_dead(mine)
    assert is_dead(dead)
    name, pid, start = mine.split("-")
    assert is_dead(f"{name}-{pid}-{int(start) - 1}")


@pytest.mark.parametrize("text", ["", "abc", "1-2", "00000000-999999999-1", f"{machine()}-x-1", f"{machine()}-1-2-3"])
def test_what_is_no_mark_of_this_machine_is_nobody_known_dead(text):
    assert not is_dead(text)


def test_a_temporary_folder_has_the_mark_of_its_process():
    with temporary_folder() as name:
        assert Path(name).name.startswith(f"{paths.TEMPORARY}{process_mark(os.getpid())}_")


def test_the_next_command_removes_the_folders_of_killed_processes(home, temporary, capsys):
    env = os.environ | {"PYTHONPATH": str(ROOT), "TSC_MARL_HOME": str(home.folder)}
    done = subprocess.run([sys.executable, "-c", KILLED], env=env)
    assert done.returncode == -signal.SIGKILL
    alive = temporary_folder()
    others = [temporary / f"{paths.TEMPORARY}00000000-1-1_other", temporary / f"{paths.TEMPORARY}abcdefgh", temporary / "foreign"]
    for folder in others:
        folder.mkdir()
    left = [path for path in (*temporary.iterdir(), *(home.folder / "runs").iterdir())]
    assert len(left) == 3 + 1 + len(others)
    assert home.main("networks --network cross") == 0
    out = capsys.readouterr().out
    assert out.startswith("removed what killed processes had left: 3 temporary folders\n")
    assert sorted(temporary.iterdir()) == sorted([Path(alive.name), *others])
    assert list((home.folder / "runs").iterdir()) == []
    assert home.main("networks --network cross") == 0
    assert "removed" not in capsys.readouterr().out


@pytest.fixture
def store(home, monkeypatch):
    monkeypatch.setenv("TSC_MARL_HOME", str(home.folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return home


def test_runs_of_dead_processes_are_marked_failed_and_no_others(store, capsys):
    client, tracker = client_of(store), Tracker("cross")
    alive = tracker.start("alive", {"folder": "cross-1"}, {})
    dead = [tracker.start(f"dead {i}", {"folder": "my cross-2"}, {}) for i in range(2)]
    finished = tracker.start("finished", {}, {})
    tracker.end(finished, "FINISHED")
    foreign = client.create_run(tracker.experiment_id).info.run_id
    elsewhere = client.create_run(
        tracker.experiment_id, tags={leftovers.HOST: "x", leftovers.PROCESS: "00000000-1-1"}
    ).info.run_id
    mark = ended_process()
    for run in (*dead, finished):
        client.set_tag(run, leftovers.PROCESS, mark)
    assert store.main("compare --network cross") == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert line == (
        "marked as FAILED, since their process was killed: 2 runs in the store; make train RESUME=\"'my cross-2'\" goes on"
    )
    statuses = {run: client.get_run(run).info.status for run in (alive, *dead, finished, foreign, elsewhere)}
    assert list(statuses.values()) == ["RUNNING", "FAILED", "FAILED", "FINISHED", "RUNNING", "RUNNING"]
    assert store.main("compare --network cross") == 2
    assert capsys.readouterr().out == ""


def test_a_resumed_run_belongs_to_the_process_that_resumed_it(store):
    client, tracker = client_of(store), Tracker("cross")
    run = tracker.start("a run", {}, {})
    client.set_tag(run, leftovers.PROCESS, ended_process())
    client.set_terminated(run, "FAILED")
    assert tracker.reopen(run)
    Tracker("cross")
    assert client.get_run(run).info.status == "RUNNING"


def test_exports_do_not_tell_the_machine(store):
    tracker = Tracker("cross")
    run = tracker.start("a run", {"kind": "training"}, {})
    tags = tracker.record(tracker.client.get_run(run))["tags"]
    assert "kind" in tags
    assert not {leftovers.HOST, leftovers.PROCESS} & tags.keys()


@pytest.mark.sumo
def test_nothing_is_left_of_a_killed_training(new_home, temporary, capsys):
    home = new_home()
    process = home.start(LINE)
    until(lambda: home.statuses().get("training") == "RUNNING", 90)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert any(temporary.iterdir())
    assert home.main("compare --network cross") == 2
    out = capsys.readouterr().out
    assert "removed what killed processes had left" in out
    assert f"2 runs in the store; make train RESUME={home.training.name} goes on" in out
    assert [path for path in temporary.iterdir() if path.name.startswith(("tsc_marl_", "pymp-"))] == []
    assert home.statuses() == {"comparison": "FAILED", "training": "FAILED"}


# doctor


def rows(out):
    """The state of each check by its name, and its text."""
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    states, name = {}, ""
    for what, state, text in lines:
        name = what or name
        states.setdefault(name, [state, ""])[1] += f" {text}"
    return states


def test_the_doctor_finds_nothing_here(store, capsys, temporary):
    assert store.main("doctor") == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    states = rows(out)
    assert {state for name, (state, _) in states.items() if name != "display"} == {"ok"}
    assert "1.28.0" in states["SUMO program"][1]
    assert "0 runs" in states["tracking store"][1]


def test_the_doctor_makes_no_store(store, capsys):
    (store.folder / "mlflow.db").unlink()
    assert store.main("doctor") == 0
    assert "none yet" in rows(capsys.readouterr().out)["tracking store"][1]
    assert list(store.folder.iterdir()) == []


def test_the_doctor_names_what_stops_the_program(store, capsys, monkeypatch):
    (store.folder / "mlflow.db").write_bytes(b"not a store, but some text" * 100)
    monkeypatch.setattr(doctor, "version", lambda name: {"traci": "1.20.0", "torch": "1.0"}.get(name, "1.28.0"))
    assert store.main("doctor") == 2
    out, err = capsys.readouterr()
    states = rows(out)
    assert [states[name][0] for name in ("tracking store", "SUMO packages", "torch", "sumo-rl")] == ["problem"] * 4
    assert "it is damaged" in states["tracking store"][1]
    assert "traci 1.20.0 instead of 1.28.0" in states["SUMO packages"][1]
    assert "tracking store" in one_line(err)
