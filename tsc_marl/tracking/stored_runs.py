"""Stored runs of a road network: read them, take them out of the store, put them into another."""

import contextlib
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tsc_marl.errors import UserError
from tsc_marl.paths import process_folder, temporary_folder
from tsc_marl.tracking import curves, histories, pages, registry, sealed
from tsc_marl.tracking.connection import PatientClient, check_artifact_uri, connect, experiment_id, first_line, uri
from tsc_marl.tracking.evaluation_file import Evaluation
from tsc_marl.tracking.leftovers import end_dead_runs, process_tags
from tsc_marl.tracking.metric_names import metric_names
from tsc_marl.tracking.run_folder import EVALUATION, PICTURES

IMPORTED = "imported"
"""Tag of imported trainings; they have no checkpoint here."""
SYSTEM = "system/"
"""Before MLflow's metrics of the machine, such as its load."""


def log_table(client: Any, run_id: str, path: Path) -> None:
    """Copy a table of a training (`curves.write`) to its run, with its checksum as a tag."""
    client.log_artifact(run_id, str(path))
    client.set_tag(run_id, f"{curves.CHECKSUM}{path.name}", curves.checksum(path))


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

    def run_of_model(self, address: str) -> str:
        """Return the id of the training of a model, such as `models:/grid4x4-jointq@best`.

        Raises:
            UserError: when there is no such model.
        """
        return registry.run_of(self._client, address)

    def describe_experiment(self, markdown: str) -> None:
        """Set the description of the experiment in the UI, in Markdown; a longer one than MLflow takes is cut."""
        self.client.set_experiment_tag(self.experiment_id, "mlflow.note.content", markdown[:5000])

    def experiments(self) -> dict[str, str]:
        """Return the id of each experiment by its name."""
        return {experiment.name: experiment.experiment_id for experiment in self.client.search_experiments()}

    def finished(self, where: str = "") -> list[Any]:
        """Return the finished trainings of the experiment, newest first; `where` is a filter in MLflow's syntax.

        Raises:
            UserError: when MLflow does not understand the filter.
        """
        wanted = "status = 'FINISHED' and tags.kind = 'training'" + (f" and {where}" if where else "")
        try:
            return self._search(wanted)
        except self._errors as error:
            raise UserError(f"where {where} is no filter of MLflow's: {first_line(error)}") from None

    def families(self) -> dict[str, Any]:
        """Return the runs of the commands that started trainings, by their ids; deleted ones too: trainings may remain."""
        runs = self._search("tags.kind = 'comparison'", run_view_type=self._entities.ViewType.ALL)
        return {run.info.run_id: run for run in runs}

    def newest_with_pictures(self) -> Any | None:
        """Return the newest run that has the engineers' pictures of an evaluation; None where there is none."""
        return next(iter(self._search(f"status = 'FINISHED' and tags.{PICTURES} != ''")), None)

    def _search(self, wanted: str, **options: Any) -> list[Any]:
        runs, token = [], None
        while self.experiment_id is not None:
            order = ["start_time DESC"]
            page = self.client.search_runs([self.experiment_id], wanted, order_by=order, page_token=token, **options)
            runs += page
            token = page.token
            if not token:
                break
        return runs

    def record(self, run: Any) -> dict[str, Any]:
        """Return a run without its artifacts, for `restore`.

        Keys: `name`, `start_ms`, `end_ms`, `tags`, `params`, and `metrics` (`all_curves` in six digits). Tags of
        MLflow itself, such as the user, and undefined values are left out.
        """
        metrics = {}
        for name, points in self.all_curves(run).items():
            step, value = points[np.isfinite(points[:, 1])].T
            if len(step):
                metrics[name] = [step.astype(int).tolist(), [float(f"{x:.6g}") for x in value]]
        return {
            "name": run.info.run_name, "start_ms": run.info.start_time, "end_ms": run.info.end_time,
            "tags": {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")},
            "params": run.data.params, "metrics": metrics,
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
        tags = record["tags"] | {IMPORTED: "yes"} | pages.run_tags(record["tags"]) | process_tags()
        tags |= {"mlflow.parentRunId": parent} if parent else {}
        start, end = record["start_ms"], record["end_ms"] or record["start_ms"]
        run_id = self.client.create_run(self.experiment_id, start, tags, record["name"]).info.run_id
        try:
            params = [self._entities.Param(key, value) for key, value in record["params"].items()]
            self.client.log_batch(run_id, params=params)
            histories.write(self.client, run_id, self._metrics(run_id, record["metrics"]), end)
            self.client.log_inputs(run_id, registry.dataset_inputs(tags))
            self.client.log_artifact(run_id, str(artifact))
            self.client.set_tag(run_id, "mlflow.note.content", description)
            self.client.set_terminated(run_id, end_time=end)
        except BaseException:
            self.discard(run_id)
            raise
        return run_id

    def _metrics(self, run_id: str, points: Mapping[str, Any]) -> histories.Points:
        """Keep the tables of a training beside its run; return the metrics for the store."""
        own = {name: np.stack([np.array(steps, float), np.array(values, float)], 1) for name, (steps, values) in points.items()}
        if curves.EPISODE not in own:
            return dict(points)  # not of a training
        with temporary_folder() as folder:
            for path in curves.write(own, Path(folder)):
                log_table(self.client, run_id, path)
        stored = curves.for_store(own)
        return {name: (each[:, 0].astype(int).tolist(), each[:, 1].tolist()) for name, each in stored.items()}

    def discard(self, run_id: str) -> None:
        """Mark a run as deleted in MLflow."""
        self.client.delete_run(run_id)

    def histories(self, wanted: Mapping[str, Iterable[str]]) -> dict[str, dict[str, np.ndarray]]:
        """Return steps and values [n, 2] of metrics by run and name, in the order of the steps; a step counts once.

        Args:
            wanted: names of metrics by the id of the run.
        """
        return histories.read(self.client, wanted)

    def all_curves(self, run: Any) -> curves.Curves:
        """Return all curves of a run over decisions, by names that MLflow takes: its metrics in the store, and its tables.

        Raises:
            UserError: when a table is missing or damaged.
        """
        run_id, tables = run.info.run_id, curves.Curves()
        names = [name for name in run.data.metrics if not name.startswith(SYSTEM)]
        for table in (curves.CURVES, curves.SIGNALS):
            tables |= self.table(run_id, run.data.tags, table, run.info.artifact_uri)
        stored = curves.from_store(self.histories({run_id: names})[run_id])
        moved = curves.over_decisions(tables) if tables else {}
        return stored | {legal: moved[name] for name, legal in metric_names(moved).items()}

    def table(self, run_id: str, tags: Mapping[str, str], name: str, location: str | None = None) -> curves.Curves:
        """Return the curves, over episodes, in a table of a training; none where it has no such table.

        Args:
            run_id: id of the run.
            tags: its tags.
            name: `curves.CURVES` or `curves.SIGNALS`.
            location: as for `download`.

        Raises:
            UserError: when the table is missing or damaged.
        """
        expected = tags.get(f"{curves.CHECKSUM}{name}")
        return {} if expected is None else curves.read(self.download(run_id, name, location), expected)

    def evaluation(self, run_id: str, location: str | None = None) -> dict[str, Any]:
        """Return the evaluation of a finished training, or of the command that started it.

        Args:
            run_id: id of the run.
            location: as for `download`.

        Raises:
            UserError: when there are none, or their file is damaged.
        """
        try:
            return sealed.loads(self.download(run_id, EVALUATION, location).read_bytes(), Evaluation)
        except (OSError, ValueError) as error:
            raise UserError(f"{EVALUATION} of run {run_id} in {uri()} is damaged ({first_line(error)})") from None

    def download(self, run_id: str, artifact: str, location: str | None = None) -> Path:
        """Return a local copy of a run's artifact, which is removed when the program ends.

        Args:
            run_id: id of the run.
            artifact: name of the artifact.
            location: `artifact_uri` of the run, where it is at hand: MLflow looks the run up twice otherwise.

        Raises:
            UserError: when the run or the artifact does not exist, or lies outside the store.
        """
        from mlflow import artifacts

        try:
            location = str(location or self.client.get_run(run_id).info.artifact_uri)
            place = f"{location.rstrip('/')}/{artifact}"
            check_artifact_uri(place, f"run {run_id}")
            folder = tempfile.mkdtemp(dir=process_folder())
            return Path(artifacts.download_artifacts(artifact_uri=place, dst_path=folder, tracking_uri=uri()))
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"run {run_id} has no {artifact} in {uri()}: {first_line(error)}") from None
