"""Ctrl-C and SIGTERM at any moment: exit code 130, no process left, a checkpoint that loads."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.cli import ROOT, until, workers_of

from tsc_marl.rollout.interrupts import AGAIN
from tsc_marl.rollout.policies import ControllerPolicy
from tsc_marl.rollout.pool import Pool
from tsc_marl.rollout.task import Task
from tsc_marl.rollout.types import Job
from tsc_marl.tracking import checkpoint
from tsc_marl.training import study

pytest_plugins = ["helpers.fixtures"]

TRAINING = "--network cross --algos ippo --episodes 40 --eval-seeds 1 --baselines"
LINES = {
    "train": f"train {TRAINING} --workers 2",
    "evaluate": "evaluate --network cross --policy random fixed_time --eval-seeds 1 2 3 4 5 6 7 8 --workers 2 --out {home}/out",
    "study": f"study {TRAINING} --seeds 0 1 --jobs 2",
}
MOMENTS = [("train", "SIGTERM", 1.0), ("evaluate", "SIGINT", 3.0), ("study", "SIGTERM", 4.0)]
SWEEP = [(verb, name, half / 2) for verb in LINES for name in ("SIGTERM", "SIGINT") for half in range(9)]
SWALLOWS = """
import os, signal, time
from tsc_marl.sim.metrics.base import Metric
class Mine(Metric):
    title, unit, format = "mine", "", ".1f"
    def __call__(self, record): return 0.0
try:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)
except BaseException:
    pass
"""


def handles_stops(pid):
    """Whether a process has a handler for SIGTERM: before that, the interpreter starts."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return False
    (caught,) = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt")]
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def processes_of(home):
    """Every process whose environment names the home."""
    named = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if int(path.name) != os.getpid() and f"TSC_MARL_HOME={home.folder}".encode() in (path / "environ").read_bytes():
                named.append(int(path.name))
        except OSError:
            continue
    return named


def assert_stopped(home, process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in out + err
    until(lambda: not processes_of(home), 60)
    for path in home.checkpoints:
        assert checkpoint.load(path).algorithm == "ippo"
    return out, err


@pytest.mark.parametrize(
    ("verb", "name", "delay_s"),
    [*MOMENTS, *(pytest.param(*moment, marks=pytest.mark.slow) for moment in SWEEP if moment not in MOMENTS)],
)
def test_a_stop_at_any_moment(home, verb, name, delay_s):
    process = home.start(LINES[verb].format(home=home.folder))
    until(lambda: handles_stops(process.pid) or process.poll() is not None, 60)
    time.sleep(delay_s)
    process.send_signal(signal.Signals[name])
    assert_stopped(home, process)


@pytest.mark.parametrize("verb", ["train", *(pytest.param(verb, marks=pytest.mark.sumo) for verb in ("evaluate", "study"))])
def test_a_stop_that_an_import_swallows(home, tmp_path, verb):
    (tmp_path / "swallows.py").write_text(SWALLOWS, encoding="utf-8")
    line = f"{LINES[verb].format(home=home.folder)} --metrics swallows:Mine"
    out, _ = assert_stopped(home, home.start(line, PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}"))
    assert "to go" not in out
    assert all(checkpoint.load(path).episode == 0 for path in home.checkpoints)


@pytest.mark.sumo
def test_ctrl_c_again_does_not_break_off_what_the_first_one_saves(home):
    process = home.start(LINES["train"])
    home.wait_for_checkpoint()
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    out, err = assert_stopped(home, process)
    assert out.splitlines()[-1] == f"stopped; go on with: make train RESUME={home.training.name}"
    assert set(err.splitlines()) <= {AGAIN.decode().strip()}  # signals that arrive together are one
    assert home.statuses() == {"comparison": "KILLED", "training": "KILLED"}


def test_a_study_kills_what_does_not_end(monkeypatch, caplog):
    monkeypatch.setattr(study, "STOP_S", 0.2)
    program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    deaf = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True)
    deaf.stdout.readline()
    study._stop([deaf])
    assert deaf.returncode == -signal.SIGKILL
    assert "is killed; its last checkpoint stays" in caplog.text


def jobs(number):
    return [Job(i, Task("cross"), ControllerPolicy("fixed_time"), 1000 + i) for i in range(number)]


def delays(pool, number):
    return [result.metrics.values["delay"] for result in sorted(pool.run(jobs(number)), key=lambda result: result.job.episode)]


def test_a_stopped_pool_starts_no_process_until_it_gets_work():
    with Pool(2) as pool:
        outcomes = pool.run_with_failures(jobs(4))
        next(outcomes)
        before = set(pool.pids)
        outcomes.close()
        assert set(workers_of(os.getpid())) < before  # one has played its episode, and nothing disturbs it
        assert len(delays(pool, 2)) == 2


def test_a_killed_process_that_forks_is_started_anew():
    with Pool(1) as pool:
        expected = delays(pool, 2)
        (worker,) = workers_of(os.getpid())
        server = int(Path(f"/proc/{worker}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
        os.kill(server, signal.SIGKILL)
        assert delays(pool, 2) == expected
