"""MLflow: experiments, runs, metrics, artifacts. The only file that imports mlflow."""

import atexit
import functools
import json
import logging
import math
import os
import re
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from tsc_marl.errors import UserError
from tsc_marl.paths import ROOT, home
from tsc_marl.tracking.run_folder import EVALUATION

logger = logging.getLogger(__name__)

FREE_BYTES = 500e6
IMPORTED = "imported"
"""Tag of imported trainings; they have no checkpoint here."""
LARGEST_BATCH = 1000
"""Metrics that MLflow takes at once."""


def uri() -> str:
    """Return the tracking store: MLFLOW_TRACKING_URI, or SQLite in `home()`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow.db'}"


class Tracker:
    """The runs of one experiment, which is one road network.

    One thread writes, in order, so that a slow store never holds up training. When the store is lost, a warning is logged
    and nothing more is written: training outlives its store.

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
        from mlflow import entities
        from mlflow.exceptions import MlflowException

        for noisy in ("alembic", "mlflow"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", ".*input example was not provided")
        self._entities, self._errors = entities, (MlflowException, OSError)
        self.lost = False
        self._thread = ThreadPoolExecutor(max_workers=1)
        try:
            with FileLock(home() / "mlflow.db.lock"):  # two trainings that make the same tables at once break the store
                self.client = mlflow.MlflowClient(uri())
                self.experiment_id = self._experiment(experiment)
        except Exception as error:  # every kind of store fails in its own way
            raise UserError(f"tracking store {uri()} cannot be used: {_reason(error)}") from None

    def _experiment(self, name: str) -> str:
        experiment = self.client.get_experiment_by_name(name)
        if experiment is not None:
            if experiment.lifecycle_stage == "deleted":  # in the UI; a run cannot be added to it as it is
                self.client.restore_experiment(experiment.experiment_id)
            return experiment.experiment_id
        local = uri().startswith("sqlite:")
        artifacts = (home() / "mlartifacts" / name).as_uri() if local else None
        kind = {"mlflow.experimentKind": "custom_model_development"}  # else the UI opens its pages for language models
        return self.client.create_experiment(name, artifact_location=artifacts, tags=kind)

    def experiments(self) -> dict[str, str]:
        """Return the id of each experiment by its name."""
        return {experiment.name: experiment.experiment_id for experiment in self.client.search_experiments()}

    def start(self, name: str, tags: dict[str, str], params: dict[str, Any], parent: str | None = None) -> str:
        """Open a run and return its id, empty when the store is lost."""
        nested = {"mlflow.parentRunId": parent} if parent else {}
        entries = [self._entities.Param(key, str(value)[:6000]) for key, value in params.items()]

        def open_run() -> str:
            run_id = self.client.create_run(self.experiment_id, run_name=name, tags=tags | nested | versions()).info.run_id
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

    def logged_until(self, run_id: str, metric: str) -> int:
        """Return the last step whose metric the store has, -1 for none. A resumed training may log earlier steps again."""
        history = self._write(lambda: self.client.get_metric_history(run_id, metric), wait=True)
        return max((entry.step for entry in history or ()), default=-1)

    def log(self, run_id: str, metrics: dict[str, float], step: int) -> None:
        """Send metrics; undefined ones (nan) are left out."""
        now = int(time.time() * 1000)
        entries = [self._entities.Metric(key, float(value), now, step) for key, value in metrics.items() if not math.isnan(value)]
        self._write(lambda: self.client.log_batch(run_id, metrics=entries))

    def artifact(self, run_id: str, path: Path) -> None:
        """Copy a file to a run; it must not change before `end`."""
        self._write(lambda: self.client.log_artifact(run_id, str(path)))

    def model(self, run_id: str, name: str, loader: str, data: Path, tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
        """Keep a policy so that `mlflow.pyfunc.load_model("runs:/<run_id>/<name>")` loads it.

        Args:
            run_id: whose it is.
            name: of the artifact.
            loader: the module whose `_load_pyfunc` reads the file `data`, which must not change before `end`.
            data: the file.
            tensors: type and shape of what `predict` takes, by name, and as `action` of what it returns; -1 is any size.
        """

        def save() -> None:  # to a folder first: mlflow's own log_model wants a current run of the whole process
            from mlflow import models, pyfunc
            from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

            specs = {key: TensorSpec(np.dtype(kind), shape, key) for key, (kind, shape) in tensors.items()}
            outputs, start = Schema([specs.pop("action")]), ParamSchema([ParamSpec("start", "boolean", False)])
            signature = models.ModelSignature(Schema(list(specs.values())), outputs, start)
            needs = [
                f"{needed}=={version(needed).partition('+')[0]}" for needed in ("tsc_marl", "torch", "numpy")
            ]  # guessing is slow
            with tempfile.TemporaryDirectory() as folder:
                pyfunc.save_model(f"{folder}/{name}", loader, str(data), signature=signature, pip_requirements=needs)
                self.client.log_artifacts(run_id, f"{folder}/{name}", name)

        self._write(save)

    def describe(self, run_id: str, markdown: str) -> None:
        """Set the text that the UI shows on a run."""
        self._write(lambda: self.client.set_tag(run_id, "mlflow.note.content", markdown))

    def end(self, run_id: str, status: str) -> None:
        """Close a run as FINISHED, FAILED or KILLED, after everything sent has arrived."""
        self._write(lambda: self.client.set_terminated(run_id, status=status), wait=True)

    def _write(self, action: Callable[[], Any], wait: bool = False) -> Any:
        def guarded() -> Any:
            if self.lost:
                return None
            try:
                return action()
            except Exception as error:  # whatever kind the store raises
                self.lost = True
                goes_on = f"training goes on, its results are in {home() / 'runs'}"
                logger.warning(f"tracking store {uri()} was lost ({_first_line(error)}); {goes_on}")
                return None

        future = self._thread.submit(guarded)
        return future.result() if wait else None

    def finished(self, where: str = "") -> list[Any]:
        """Return the finished trainings of the experiment, newest first; `where` is a filter of MLflow's.

        Raises:
            UserError: when MLflow does not understand the filter.
        """
        wanted = "status = 'FINISHED' and tags.kind = 'training'" + (f" and {where}" if where else "")
        runs, token = [], None
        while True:
            try:
                page = self.client.search_runs([self.experiment_id], wanted, order_by=["start_time DESC"], page_token=token)
            except self._errors as error:
                raise UserError(f"where {where} is no filter of MLflow's: {_first_line(error)}") from None
            runs += page
            token = page.token
            if not token:
                return runs

    def record(self, run_id: str) -> dict[str, Any]:
        """Return a run without its artifacts, for `restore`.

        Keys: `name`, `start_ms`, `end_ms`, `tags`, `params`, and `metrics` (steps and values by name, in six digits). Tags of
        MLflow itself, such as the user, are left out.
        """
        run = self.client.get_run(run_id)
        curves = {name: self.points(run_id, name).T for name in sorted(run.data.metrics)}
        rounded = {
            name: [step.astype(int).tolist(), [float(f"{x:.6g}") for x in value]] for name, (step, value) in curves.items()
        }
        return {
            "name": run.info.run_name, "start_ms": run.info.start_time, "end_ms": run.info.end_time,
            "tags": {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")},
            "params": run.data.params, "metrics": rounded,
        }  # fmt: skip

    def restore(self, record: Mapping[str, Any], artifact: Path, description: str, parent: str | None = None) -> str:
        """Make a finished run of what `record` returned, with a file and a text, and return its id.

        Raises:
            UserError: when the store does not take it.
        """
        try:
            return self._restore(record, artifact, description, parent)
        except (*self._errors, ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{record['name']} cannot be taken into {uri()}: {_first_line(error)}") from None

    def _restore(self, record: Mapping[str, Any], artifact: Path, description: str, parent: str | None) -> str:
        tags = record["tags"] | {IMPORTED: "yes"} | ({"mlflow.parentRunId": parent} if parent else {})
        start, end = record["start_ms"], record["end_ms"] or record["start_ms"]
        run_id = self.client.create_run(self.experiment_id, start, tags, record["name"]).info.run_id
        try:
            entries = [
                self._entities.Metric(name, value, end, step)
                for name, points in record["metrics"].items()
                for step, value in zip(*points, strict=True)
            ]
            params = [self._entities.Param(key, value) for key, value in record["params"].items()]
            self.client.log_batch(run_id, params=params)
            for first in range(0, len(entries), LARGEST_BATCH):
                self.client.log_batch(run_id, entries[first : first + LARGEST_BATCH])
            self.client.log_artifact(run_id, str(artifact))
            self.client.set_tag(run_id, "mlflow.note.content", description)
            self.client.set_terminated(run_id, end_time=end)
        except BaseException:
            self.discard(run_id)
            raise
        return run_id

    def discard(self, run_id: str) -> None:
        """Move a run to MLflow's deleted ones."""
        self.client.delete_run(run_id)

    def history(self, run_id: str, metric: str) -> np.ndarray:
        """Return all values of a metric in the order of their steps."""
        return self.points(run_id, metric)[:, 1]

    def points(self, run_id: str, metric: str) -> np.ndarray:
        """Return [n, 2]: step and value of a metric, in the order of the steps."""
        entries = self.client.get_metric_history(run_id, metric)
        ordered = sorted(entries, key=lambda entry: (entry.step, entry.timestamp))
        return np.array([(entry.step, entry.value) for entry in ordered]).reshape(-1, 2)

    def evaluation(self, run_id: str) -> dict[str, Any]:
        """Return the evaluation of a finished training, or of the command that started it.

        Raises:
            UserError: when there are none, or their file is damaged.
        """
        try:
            return json.loads(self.download(run_id, EVALUATION).read_text())
        except ValueError as error:
            raise UserError(f"{EVALUATION} of run {run_id} in {uri()} is damaged ({error})") from None

    def download(self, run_id: str, artifact: str) -> Path:
        """Return a local copy of a run's artifact, which is removed when the program ends.

        Raises:
            UserError: when the run or the artifact does not exist.
        """
        try:
            return Path(self.client.download_artifacts(run_id, artifact, tempfile.mkdtemp(dir=_downloads())))
        except Exception as error:
            raise UserError(f"run {run_id} has no {artifact} in {uri()}: {_first_line(error)}") from None


@functools.cache
def _downloads() -> str:
    """Return a folder that is removed when the program ends."""
    folder = tempfile.mkdtemp(prefix="tsc_marl_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _reason(error: Exception) -> str:
    """Return why a store cannot be used and what to do about it."""
    outdated = re.search(r"database schema \(found version (\w+)", str(error))
    if outdated is None:
        advice = "start the server, or unset" if os.environ.get("MLFLOW_TRACKING_URI") else "move it away, or set"
        return f"{_first_line(error)}; {advice} MLFLOW_TRACKING_URI"
    from mlflow.store import db_migrations

    is_older = any((Path(db_migrations.__path__[0]) / "versions").glob(f"{outdated[1]}_*.py"))
    if is_older:
        return f"an older MLflow has made it; keep a copy of it, then run: python -m mlflow db upgrade {uri()}"
    return f"a newer MLflow than {version('mlflow')} has written it; install that version, or set TSC_MARL_HOME to another folder"


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


def versions() -> dict[str, str]:
    """Return git commit, SUMO's and torch's version, as every run is tagged."""
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() if shutil.which("git") else ""
    return {"git_commit": commit or "unknown", "sumo_version": version("eclipse-sumo"), "torch_version": version("torch")}


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
