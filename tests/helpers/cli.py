"""Running the program as a user does, with its runs, store and artifacts in a folder of the test (TSC_MARL_HOME)."""

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tsc_marl.cli.main import main
from tsc_marl.tracking import checkpoint

ROOT = Path(__file__).parents[2]


class Home:
    """A folder in which the program keeps everything."""

    def __init__(self, folder, empty_store):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        shutil.copy(empty_store, folder / "mlflow.db")

    def main(self, line, **env):
        """Run in this process and return the exit code."""
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("MLFLOW_TRACKING_URI", raising=False)
            for name, value in {"TSC_MARL_HOME": str(self.folder), **env}.items():
                patch.setenv(name, value)
            return main(line if isinstance(line, list) else line.split())

    def start(self, line, cwd=ROOT, **env):
        """Start a process of its own session; one thread, as the tests have."""
        command = [sys.executable, "-m", "tsc_marl", *(line if isinstance(line, list) else line.split())]
        own = {"TSC_MARL_HOME": str(self.folder), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=cwd, env=os.environ | own | env, start_new_session=True, **pipes)

    def run(self, line, cwd=ROOT, **env):
        """Run a process to its end and return exit code, stdout, stderr."""
        process = self.start(line, cwd, **env)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    @property
    def training(self):
        """The folder of the only training."""
        (folder,) = (self.folder / "runs").iterdir()
        return folder

    @property
    def checkpoints(self):
        return sorted((self.folder / "runs").glob("*/*/checkpoint.pt"))

    def checkpoint(self):
        """The content of the only checkpoint, as `torch.save` writes it in a file of format 3."""
        (path,) = self.checkpoints
        return {"format": 3, **vars(checkpoint.load(path))}

    def wait_for_checkpoint(self, seconds=90):
        until(lambda: self.checkpoints, seconds)

    def statuses(self):
        """The status of each run by its kind."""
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")
        runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
        return {run.data.tags["kind"]: run.info.status for run in runs}


def serves(port):
    """Whether an MLflow server on this machine answers."""
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).status == 200
    except OSError:
        return False


def until(condition, seconds):
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def workers_of(pid):
    """The process ids of a process's workers, from /proc: children of the server that forks them."""
    parents, servers = {}, set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
            if b"multiprocessing.forkserver" in (path / "cmdline").read_bytes():
                servers.add(int(path.name))
        except (OSError, IndexError):
            continue  # it has just ended
    return [child for child, parent in parents.items() if parent in servers and parents.get(parent) == pid]


def one_line(text):
    """What a user's mistake must leave on stderr: one line."""
    assert text.startswith("error: "), text
    assert text.count("\n") == 1, text
    assert text.endswith("\n")
    return text
