"""Stored runs of a road network: read them, take them out of the store, put them into another."""

import contextlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tsc_marl.errors import UserError
from tsc_marl.paths import process_folder
from tsc_marl.tracking import sealed
from tsc_marl.tracking.connection import PatientClient, check_artifact_uri, connect, experiment_id, first_line, uri
from tsc_marl.tracking.evaluation_file import Evaluation
from tsc_marl.tracking.leftovers import end_dead_runs, process_tags
from tsc_marl.tracking.run_folder import EVALUATION

IMPORTED = "imported"
"""Tag of imported trainings; they have no checkpoint here."""
LARGEST_BATCH = 1000
"""Metrics that MLflow takes at once."""


class StoredRuns:
    """The runs of one experiment, which is one road network.

    Args:
        experiment: name of the network.
        writes: whether runs will be written. Reading makes neither a store nor an experiment.

    Raises:
        UserError: when the store cannot be reached, or written, or read.
    """

    def __init__(self, experiment: str, writes: bool = False) -> None:
        self._client = connect(writes)
        self.client: Any = PatientClient(self._client)
        self.experiment_id = experiment_id(self.client, experiment, writes)
        from mlflow import entities
        from mlflow.exceptions import MlflowException

        self._entities, self._errors = entities, (MlflowException, OSError)
        with contextlib.suppress(UserError, *self._errors):  # a store that one may only read
            end_dead_runs(self.client)

    def experiments(self) -> dict[str, str]:
        """Return the id of each experiment by its name."""
        return {experiment.name: experiment.experiment_id for experiment in self.client.search_experiments()}

    def finished(self, where: str = "") -> list[Any]:
        """Return the finished trainings of the experiment, newest first; `where` is a filter in MLflow's syntax.

        Raises:
            UserError: when MLflow does not understand the filter.
        """
        if self.experiment_id is None:
            return []
        wanted = "status = 'FINISHED' and tags.kind = 'training'" + (f" and {where}" if where else "")
        runs, token = [], None
        while True:
            try:
                page = self.client.search_runs([self.experiment_id], wanted, order_by=["start_time DESC"], page_token=token)
            except self._errors as error:
                raise UserError(f"where {where} is no filter of MLflow's: {first_line(error)}") from None
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
        """Create a finished run from the result of `record`, with a file and a description, and return its id.

        Raises:
            UserError: when the store refuses it.
        """
        try:
            return self._restore(record, artifact, description, parent)
        except (*self._errors, ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{record['name']} cannot be taken into {uri()}: {first_line(error)}") from None

    def _restore(self, record: Mapping[str, Any], artifact: Path, description: str, parent: str | None) -> str:
        tags = record["tags"] | {IMPORTED: "yes"} | process_tags() | ({"mlflow.parentRunId": parent} if parent else {})
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
        """Mark a run as deleted in MLflow."""
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
            return sealed.loads(self.download(run_id, EVALUATION).read_bytes(), Evaluation)
        except ValueError as error:
            raise UserError(f"{EVALUATION} of run {run_id} in {uri()} is damaged ({error})") from None

    def download(self, run_id: str, artifact: str) -> Path:
        """Return a local copy of a run's artifact, which is removed when the program ends.

        Raises:
            UserError: when the run or the artifact does not exist, or lies outside the store.
        """
        try:
            location = self.client.get_run(run_id).info.artifact_uri
            check_artifact_uri(f"{location}/{artifact}", f"run {run_id}")
            return Path(self._client.download_artifacts(run_id, artifact, tempfile.mkdtemp(dir=process_folder())))
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"run {run_id} has no {artifact} in {uri()}: {first_line(error)}") from None
