"""Tracker: writes runs, their metrics, files and policies to the tracking store."""

import contextlib
import logging
import math
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tsc_marl.console import make_line
from tsc_marl.paths import ROOT, temporary_folder
from tsc_marl.tracking import pages, registry, waiting
from tsc_marl.tracking.connection import first_line, is_refusal, may_pass, uri
from tsc_marl.tracking.leftovers import process_tags
from tsc_marl.tracking.metric_names import metric_names
from tsc_marl.tracking.run_folder import runs
from tsc_marl.tracking.stored_runs import StoredRuns, log_table

logger = logging.getLogger(__name__)

RETRY_S = 600.0
"""Time [s] for which a write is repeated while the store is locked or does not answer; training goes on meanwhile.

Where the program waits for the write, the time is `waiting.GIVE_UP_S`.
"""
LARGEST_BATCH = {"metrics": 1000, "params": 100}
"""Entries that MLflow takes at once."""


class Tracker(StoredRuns):
    """Writes new runs of one experiment, which is one road network.

    One thread writes, in order, so that a slow store never delays training. While the store is locked or does not answer, its
    writes wait. When it is lost, a warning is logged and later writes are dropped: training continues. What the store refuses,
    such as a name, is named once and left out.

    Args:
        experiment: name of the network.

    Raises:
        UserError: when the store cannot be reached or written.
    """

    def __init__(self, experiment: str) -> None:
        super().__init__(experiment, writes=True)
        self.lost = False
        self._thread = futures.ThreadPoolExecutor(max_workers=1)
        self._folder, self._retry_s = "", RETRY_S
        self._refused: set[str] = set()

    def start(self, name: str, tags: dict[str, str], params: dict[str, Any], parent: str | None = None) -> str:
        """Open a run and return its id, empty when the store is lost."""
        self._folder = tags.get("folder", "")
        tags = tags | ({"mlflow.parentRunId": parent} if parent else {}) | versions() | process_tags() | pages.run_tags(tags)
        keys = metric_names(params)
        entries = [self._entities.Param(keys[key], str(value)[:6000]) for key, value in params.items()]

        def open_run() -> str:
            run_id = self._client.create_run(self.experiment_id, run_name=name[:250], tags=tags).info.run_id
            self._send(run_id, "params", entries)
            self._client.log_inputs(run_id, registry.dataset_inputs(tags))
            return run_id

        return self._write(open_run, wait=True) or ""

    def reopen(self, run_id: str) -> bool:
        """Set a run to running again; False when the store does not know it, or is lost."""

        def open_again() -> bool:
            try:
                for key, value in process_tags().items():  # before the status: else the run counts as one of a dead process
                    self._client.set_tag(run_id, key, value)
                self._client.update_run(run_id, status="RUNNING")
            except self._errors as error:
                if getattr(error, "error_code", "") not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    raise
                return False
            return True

        return bool(self._write(open_again, wait=True))

    def logged_until(self, run_id: str, metric: str) -> int:
        """Return the last step whose metric the store has, -1 for none. A resumed training may log earlier steps again."""
        history = self._write(lambda: self._client.get_metric_history(run_id, metric), wait=True)
        return max((entry.step for entry in history or ()), default=-1)

    def log(self, run_id: str, metrics: dict[str, float], step: int) -> None:
        """Send metrics; undefined ones (nan) are left out."""
        now = int(time.time() * 1000)
        finite = {name: float(value) for name, value in metrics.items() if not math.isnan(value)}
        entries = [self._entities.Metric(name, value, now, step) for name, value in finite.items()]
        self._write(lambda: self._send(run_id, "metrics", entries))

    def artifact(self, run_id: str, path: Path) -> None:
        """Copy a file to a run; it must not change before `end`."""
        self._write(lambda: self._client.log_artifact(run_id, str(path)))

    def tables(self, run_id: str, paths: Sequence[Path]) -> None:
        """Copy the tables of a training to its run; they must not change before `end`."""
        for path in paths:
            self._write(partial(log_table, self._client, run_id, path))

    @contextlib.contextmanager
    def measured(self, run_id: str) -> Iterator[None]:
        """Log the load of this machine to a run meanwhile, as MLflow's system metrics."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        if self.lost or not run_id:
            yield
            return
        monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=uri())
        monitor.start()
        try:
            yield
        finally:
            monitor.finish()

    def model(
        self,
        run_id: str,
        name: str,
        loader: str,
        data: Path,
        tensors: Mapping[str, tuple[str, tuple[int, ...]]],
        registered: str,
        tags: Mapping[str, str],
    ) -> None:
        """Log a policy as a model, which `mlflow.pyfunc.load_model("runs:/<run_id>/<name>")` loads, and register it.

        Its input example is the first decision in an empty network: no vehicle, and every phase is legal.

        Args:
            run_id: id of the run.
            name: name of the logged model.
            loader: the module whose `_load_pyfunc` reads the file `data`.
            data: the file; it must not change before `end`.
            tensors: type and shape of each input of `predict` by name, and of its result as `action`; -1 is any size.
            registered: name of the registered model.
            tags: tags of its version.
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
            example = {
                key: np.full([abs(size) for size in shape], kind == "bool", kind)
                for key, (kind, shape) in tensors.items()
                if key in specs
            }
            with temporary_folder() as folder:
                saved = Path(folder, name)
                pyfunc.save_model(
                    str(saved), loader, str(data), signature=signature, pip_requirements=needs, input_example=example
                )
                registry.register(self._client, self.experiment_id or "", run_id, registered, saved, tags)

        self._write(save)

    def describe(self, run_id: str, markdown: str) -> None:
        """Set the description of a run in the UI, in Markdown."""
        self.tag(run_id, "mlflow.note.content", markdown)

    def tag(self, run_id: str, key: str, value: str) -> None:
        """Set a tag of a run."""
        self._write(lambda: self._client.set_tag(run_id, key, value))

    def end(self, run_id: str, status: str, end_ms: int | None = None) -> None:
        """Close a run as FINISHED, FAILED or KILLED, after all earlier writes; it ends now, or at a time [ms] before."""
        self._write(lambda: self._client.set_terminated(run_id, status=status, end_time=end_ms), wait=True)

    def _send(self, run_id: str, kind: str, entries: Sequence[Any]) -> None:
        """Log metrics or params; those that the store refuses are left out."""
        for first in range(0, len(entries), LARGEST_BATCH[kind]):
            part = entries[first : first + LARGEST_BATCH[kind]]
            try:
                self._client.log_batch(run_id, **{kind: part})
            except self._errors as error:
                if not is_refusal(error):
                    raise
                if len(part) == 1:
                    self._refuse(f"{kind[:-1]} {part[0].key}", error)
                    continue
                for half in (part[: len(part) // 2], part[len(part) // 2 :]):
                    self._send(run_id, kind, half)

    def _write(self, action: Callable[[], Any], wait: bool = False) -> Any:
        future = self._thread.submit(self._until_written, action)
        if not wait:
            return None
        self._retry_s = waiting.GIVE_UP_S
        if not futures.wait([future], waiting.NOTICE_S).done:
            logger.warning(f"waiting for tracking store {uri()}, which writes results")
        result = future.result()
        self._retry_s = RETRY_S
        return result

    def _until_written(self, action: Callable[[], Any]) -> Any:
        """Return the result of a write, None when the store is lost or refuses it."""
        begun, warned = time.monotonic(), False
        while not self.lost:
            try:
                result = action()
            except Exception as error:  # whatever kind the store raises
                if is_refusal(error):
                    self._refuse("what was sent", error)
                    return None
                if not may_pass(error) or time.monotonic() - begun > self._retry_s:
                    self._lose(first_line(error))
                    return None
                if not warned:
                    logger.warning(f"tracking store {uri()} does not take results now ({first_line(error)}); they wait")
                warned = True
                time.sleep(1)
            else:
                if warned:
                    logger.info(f"tracking store {uri()} takes results again")
                return result
        return None

    def _refuse(self, what: str, error: Exception) -> None:
        if what not in self._refused:
            self._refused.add(what)
            logger.warning(f"tracking store {uri()} refuses {what}, which is left out: {first_line(error)}")

    def _lose(self, reason: str) -> None:
        if self.lost:
            return
        self.lost = True
        later = f"; when it works again: {make_line('train', RESUME=self._folder)}" if self._folder else ""
        kept = f"training goes on, its results are in {runs() / self._folder}" if self._folder else "it lacks this run"
        logger.warning(f"tracking store {uri()} was lost ({reason}); {kept}{later}")


def versions() -> dict[str, str]:
    """Return git commit, SUMO's and torch's version, as every run is tagged."""
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() if shutil.which("git") else ""
    return {"git_commit": commit or "unknown", "sumo_version": version("eclipse-sumo"), "torch_version": version("torch")}
