"""MLflow: experiments, runs, metrics, artifacts. The only file that imports mlflow."""

import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from tsc_marl.errors import UserError
from tsc_marl.sim.scenario import ROOT

FREE_BYTES = 500e6


def home() -> Path:
    """Return the folder of runs/, mlflow.db and mlartifacts/: TSC_MARL_HOME, or the repository."""
    return Path(os.environ.get("TSC_MARL_HOME") or ROOT).absolute()


def uri() -> str:
    """Return the tracking store: MLFLOW_TRACKING_URI, or SQLite in `home()`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow.db'}"


class Tracker:
    """The runs of one experiment, which is one road network.

    What is written goes through one thread, in order, so that a slow store never holds up training. When the store is
    lost, `say` is told once and nothing more is written: training must outlive its store.

    Raises:
        UserError: at construction, when the store cannot be reached or written.
    """

    def __init__(self, experiment: str, say: Callable[[str], None] = print) -> None:
        _check_disk()
        for name, value in (
            ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"), ("MLFLOW_HTTP_REQUEST_TIMEOUT", "15"), ("MLFLOW_DISABLE_TELEMETRY", "true"),
            ("GIT_PYTHON_REFRESH", "quiet"),
        ):  # fmt: skip
            os.environ.setdefault(name, value)
        import mlflow
        from mlflow import entities
        from mlflow.exceptions import MlflowException

        for noisy in ("alembic", "mlflow"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        self._entities, self._errors = entities, (MlflowException, OSError)
        self._say, self._lost = say, False
        self._thread = ThreadPoolExecutor(max_workers=1)
        try:
            with FileLock(home() / "mlflow.db.lock"):  # two trainings that make the same tables at once break the store
                self.client = mlflow.MlflowClient(uri())
                self.experiment_id = self._experiment(experiment)
        except Exception as error:  # every kind of store fails in its own way
            advice = "start the server, or unset" if os.environ.get("MLFLOW_TRACKING_URI") else "move it away, or set"
            raise UserError(
                f"tracking store {uri()} cannot be used: {_first_line(error)}; {advice} MLFLOW_TRACKING_URI"
            ) from None

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":  # in the UI; a run cannot be added to it as it is
                self.client.restore_experiment(found.experiment_id)
            return found.experiment_id
        local = uri().startswith("sqlite:")
        artifacts = (home() / "mlartifacts" / name).as_uri() if local else None
        kind = {"mlflow.experimentKind": "custom_model_development"}  # else the UI opens its pages for language models
        return self.client.create_experiment(name, artifact_location=artifacts, tags=kind)

    def start(self, name: str, tags: dict[str, str], params: dict[str, Any], parent: str | None = None) -> str:
        """Open a run and return its id, empty when the store is lost."""
        nested = {"mlflow.parentRunId": parent} if parent else {}
        entries = [self._entities.Param(key, str(value)[:6000]) for key, value in params.items()]

        def open_run() -> str:
            run_id = self.client.create_run(self.experiment_id, run_name=name, tags=tags | nested | _versions()).info.run_id
            self.client.log_batch(run_id, params=entries)
            return run_id

        return self._write(open_run, wait=True) or ""

    def reopen(self, run_id: str) -> bool:
        """Set a run to running again; False when the store does not know it."""
        try:
            self.client.update_run(run_id, status="RUNNING")
        except self._errors:
            return False
        return True

    def logged_until(self, run_id: str) -> int:
        """Return the last step whose metrics the store has, -1 for none: a resumed training may come by it again."""
        try:
            return max((metric.step for metric in self.client.get_metric_history(run_id, "reward")), default=-1)
        except self._errors:
            return -1

    def log(self, run_id: str, metrics: dict[str, float], step: int) -> None:
        """Send metrics; undefined ones (nan) are left out."""
        now = int(time.time() * 1000)
        entries = [self._entities.Metric(key, float(value), now, step) for key, value in metrics.items() if value == value]
        self._write(lambda: self.client.log_batch(run_id, metrics=entries))

    def artifact(self, run_id: str, path: Path) -> None:
        """Copy a file to a run; it must not change before `end`."""
        self._write(lambda: self.client.log_artifact(run_id, str(path)))

    def describe(self, run_id: str, markdown: str) -> None:
        """Set the text that the UI shows on a run."""
        self._write(lambda: self.client.set_tag(run_id, "mlflow.note.content", markdown))

    def end(self, run_id: str, status: str) -> None:
        """Close a run as FINISHED, FAILED or KILLED, after everything sent has arrived."""
        self._write(lambda: self.client.set_terminated(run_id, status=status), wait=True)

    def _write(self, action: Callable[[], Any], wait: bool = False) -> Any:
        def guarded() -> Any:
            if self._lost:
                return None
            try:
                return action()
            except Exception as error:  # whatever kind the store raises
                self._lost = True
                goes_on = f"training goes on, its results are in {home() / 'runs'}"
                self._say(f"tracking store {uri()} was lost ({_first_line(error)}); {goes_on}")
                return None

        future = self._thread.submit(guarded)
        return future.result() if wait else None

    def finished(self, where: str = "") -> list[Any]:
        """Return the finished trainings of the experiment, newest first; `where` is a filter of MLflow's.

        Raises:
            UserError: when MLflow does not understand the filter.
        """
        wanted = "status = 'FINISHED' and tags.kind = 'training'" + (f" and {where}" if where else "")
        found, token = [], None
        while True:
            try:
                page = self.client.search_runs([self.experiment_id], wanted, order_by=["start_time DESC"], page_token=token)
            except self._errors as error:
                raise UserError(f"where {where} is no filter of MLflow's: {_first_line(error)}") from None
            found += page
            token = page.token
            if not token:
                return found

    def history(self, run_id: str, metric: str) -> np.ndarray:
        """Return all values of a metric in the order of their steps."""
        values = self.client.get_metric_history(run_id, metric)
        return np.array([entry.value for entry in sorted(values, key=lambda entry: (entry.step, entry.timestamp))])

    def download(self, run_id: str, artifact: str) -> Path:
        """Return a local copy of a run's artifact.

        Raises:
            UserError: when the run or the artifact does not exist.
        """
        try:
            return Path(self.client.download_artifacts(run_id, artifact))
        except Exception as error:
            raise UserError(f"run {run_id} has no {artifact} in {uri()}: {_first_line(error)}") from None


def ui(port: int, say: Callable[[str], None] = print) -> None:
    """Serve MLflow's pages on this machine until Ctrl-C.

    Raises:
        UserError: when the port is taken.
    """
    if uri().startswith("http"):
        raise UserError(f"the tracking store is a server with pages of its own: open {uri()} in a browser")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise UserError(f"port {port} cannot be used ({error}); give another with --port") from None
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri(), "--host", "127.0.0.1", "--port", str(port)]
    quiet = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
        "PYTHONWARNINGS": "ignore",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
    }
    say(f"MLflow on {uri()}: http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning (in some seconds; Ctrl-C ends)")
    subprocess.run([*command, "--workers", "1", "--uvicorn-opts", "--log-level warning"], check=False, env=os.environ | quiet)


def _check_disk() -> None:
    folder = home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise UserError(f"runs and the tracking store cannot be kept in {folder}: it is not a writable folder; set TSC_MARL_HOME")
    free = shutil.disk_usage(folder).free
    if free < FREE_BYTES:
        raise UserError(f"only {free / 1e6:.0f} MB are free in {folder}; a run needs {FREE_BYTES / 1e6:.0f} MB: free some space")


def _versions() -> dict[str, str]:
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() if shutil.which("git") else ""
    return {"git_commit": commit or "unknown", "sumo_version": version("eclipse-sumo"), "torch_version": version("torch")}


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
