"""Tracker: writes runs, their metrics, files and policies to the tracking store."""

import logging
import math
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tsc_marl.paths import ROOT, home
from tsc_marl.tracking.connection import first_line, uri
from tsc_marl.tracking.stored_runs import StoredRuns

logger = logging.getLogger(__name__)


class Tracker(StoredRuns):
    """Writes new runs of one experiment, which is one road network.

    One thread writes, in order, so that a slow store never delays training. When the connection breaks, a warning is logged
    and later writes are dropped: training continues.

    Args:
        experiment: name of the network.

    Raises:
        UserError: when the store cannot be reached or written.
    """

    def __init__(self, experiment: str) -> None:
        super().__init__(experiment)
        self.lost = False
        self._thread = ThreadPoolExecutor(max_workers=1)

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
            run_id: id of the run.
            name: name of the artifact.
            loader: the module whose `_load_pyfunc` reads the file `data`.
            data: the file; it must not change before `end`.
            tensors: type and shape of each input of `predict` by name, and of its result as `action`; -1 is any size.
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
        """Set the description of a run in the UI, in Markdown."""
        self._write(lambda: self.client.set_tag(run_id, "mlflow.note.content", markdown))

    def end(self, run_id: str, status: str) -> None:
        """Close a run as FINISHED, FAILED or KILLED, after all earlier writes."""
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
                logger.warning(f"tracking store {uri()} was lost ({first_line(error)}); {goes_on}")
                return None

        future = self._thread.submit(guarded)
        return future.result() if wait else None


def versions() -> dict[str, str]:
    """Return git commit, SUMO's and torch's version, as every run is tagged."""
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() if shutil.which("git") else ""
    return {"git_commit": commit or "unknown", "sumo_version": version("eclipse-sumo"), "torch_version": version("torch")}
