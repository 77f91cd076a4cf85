"""MLflow: experiments, runs, metrics, artifacts. The only file that imports mlflow."""

import logging
import os
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tsc_marl.errors import UserError
from tsc_marl.sim.scenario import ROOT

FREE_BYTES = 500e6


def uri() -> str:
    """Return the tracking store: MLFLOW_TRACKING_URI, or SQLite in the repository folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{ROOT / 'mlflow.db'}"


class Tracker:
    """The runs of one experiment, which is one road network.

    Raises:
        UserError: at construction, when the store cannot be reached or written.
    """

    def __init__(self, experiment: str) -> None:
        _check_disk()
        for name, value in (
            ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"), ("MLFLOW_HTTP_REQUEST_TIMEOUT", "15"), ("MLFLOW_DISABLE_TELEMETRY", "true"),
            ("GIT_PYTHON_REFRESH", "quiet"),
        ):  # fmt: skip
            os.environ.setdefault(name, value)
        import mlflow
        from mlflow.exceptions import MlflowException

        for noisy in ("alembic", "mlflow"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        self._entities, self._errors = mlflow.entities, (MlflowException, OSError)
        try:
            self.client = mlflow.MlflowClient(uri())
            self.experiment_id = self._experiment(experiment)
        except Exception as error:  # every kind of store fails in its own way
            raise UserError(
                f"tracking store {uri()} cannot be used: {_first_line(error)}; start the server, or unset MLFLOW_TRACKING_URI"
            ) from None
        self._pending: list[Any] = []
        self._lost = False

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        local = uri().startswith("sqlite:")
        artifacts = (ROOT / "mlartifacts" / name).as_uri() if local else None
        return self.client.create_experiment(name, artifact_location=artifacts)

    def start(self, name: str, tags: dict[str, str], params: dict[str, Any], parent: str | None = None) -> str:
        """Open a run and return its id."""
        nested = {"mlflow.parentRunId": parent} if parent else {}
        run = self.client.create_run(self.experiment_id, run_name=name, tags=tags | nested | _versions())
        run_id = run.info.run_id
        entries = [self._entities.Param(key, str(value)[:6000]) for key, value in params.items()]
        self.client.log_batch(run_id, params=entries)
        return run_id

    def reopen(self, run_id: str) -> bool:
        """Set a run to running again; False when the store does not know it."""
        try:
            self.client.update_run(run_id, status="RUNNING")
        except self._errors:
            return False
        return True

    def log(self, run_id: str, metrics: dict[str, float], step: int) -> str | None:
        """Send metrics in the background. Returns a line for the user when the store was just lost, else None."""
        import time

        now = int(time.time() * 1000)
        entries = [self._entities.Metric(key, float(value), now, step) for key, value in metrics.items() if value == value]
        return self._guard(lambda: self._pending.append(self.client.log_batch(run_id, metrics=entries, synchronous=False)))

    def artifact(self, run_id: str, path: Path) -> str | None:
        """Copy a file to a run. Returns as `log` does."""
        return self._guard(lambda: self.client.log_artifact(run_id, str(path)))

    def describe(self, run_id: str, markdown: str) -> str | None:
        """Set the text that the UI shows on a run. Returns as `log` does."""
        return self._guard(lambda: self.client.set_tag(run_id, "mlflow.note.content", markdown))

    def end(self, run_id: str, status: str) -> str | None:
        """Close a run as FINISHED, FAILED or KILLED, after everything sent has arrived. Returns as `log` does."""

        def close() -> None:
            for operation in self._pending:
                operation.wait()
            self._pending.clear()
            self.client.set_terminated(run_id, status=status)

        return self._guard(close)

    def _guard(self, action: Any) -> str | None:
        """Do something with the store; once it is lost, do nothing more."""
        if self._lost:
            return None
        try:
            action()
        except Exception as error:  # training must outlive its store, whatever that raises
            self._lost = True
            return f"tracking store {uri()} was lost ({_first_line(error)}); training goes on, its checkpoint is kept in runs/"
        return None

    def finished(self, algorithm: str | None = None) -> list[Any]:
        """Return the finished child runs of the experiment, newest first."""
        wanted = f" and tags.algorithm = '{algorithm}'" if algorithm else ""
        return list(
            self.client.search_runs(
                [self.experiment_id], f"status = 'FINISHED' and tags.kind = 'training'{wanted}", order_by=["start_time DESC"]
            )
        )

    def download(self, run_id: str, artifact: str) -> Path:
        """Return a local copy of a run's artifact.

        Raises:
            UserError: when the run or the artifact does not exist.
        """
        try:
            return Path(self.client.download_artifacts(run_id, artifact))
        except Exception as error:
            raise UserError(f"run {run_id} has no {artifact} in {uri()}: {_first_line(error)}") from None


def _check_disk() -> None:
    if not os.access(ROOT, os.W_OK):
        raise UserError(f"{ROOT} is read-only; runs and the tracking store are kept there: make it writable or clone elsewhere")
    free = shutil.disk_usage(ROOT).free
    if free < FREE_BYTES:
        raise UserError(f"only {free / 1e6:.0f} MB are free in {ROOT}; a run needs {FREE_BYTES / 1e6:.0f} MB: free some space")


def _versions() -> dict[str, str]:
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() if shutil.which("git") else ""
    return {"git_commit": commit or "unknown", "sumo_version": version("eclipse-sumo"), "torch_version": version("torch")}


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
