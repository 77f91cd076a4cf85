"""Histories of metrics, all at once: by the tables of a store that is a database, one by one through MLflow elsewhere.

MLflow makes objects of every value and checks each again: 200 trainings then took minutes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from tsc_marl.errors import UserError
from tsc_marl.tracking.connection import first_line, uri

Points = Mapping[str, tuple[Sequence[int], Sequence[float]]]
"""Steps and values of each metric by its name."""
LARGEST_BATCH = 1000
"""Metrics that MLflow takes at once."""
LARGEST_QUERY = 500
"""Names in one query: every database takes as many."""


def read(client: Any, wanted: Mapping[str, Iterable[str]]) -> dict[str, dict[str, np.ndarray]]:
    """Return steps and values [n, 2] of metrics by run and name, in the order of the steps.

    A training that was continued after a crash may have logged a step twice: the last one counts.

    Args:
        client: MLflow's client.
        wanted: names of metrics by the id of the run.

    Raises:
        UserError: when the database cannot be read.
    """
    engine = _engine(client)
    if engine is None:
        return {run: {name: _points(_entries(client, run, name)) for name in sorted(names)} for run, names in wanted.items()}
    with _connected(engine) as connection:
        return {run: _of_run(connection, run, sorted(names)) for run, names in wanted.items()}


def write(client: Any, run_id: str, points: Points, time_ms: int) -> None:
    """Log histories of a run that has none; every step of a metric is greater than the one before.

    Raises:
        UserError: when the database cannot be written.
    """
    from mlflow.entities import Metric

    entries = {name: list(zip(*columns, strict=True)) for name, columns in points.items()}
    engine = _engine(client)
    if engine is not None:
        _insert(engine, run_id, {name: values[:-1] for name, values in entries.items()}, time_ms)
        entries = {name: values[-1:] for name, values in entries.items()}  # MLflow keeps the last values in a table of their own
    metrics = [Metric(name, value, time_ms, step) for name, values in entries.items() for step, value in values]
    for first in range(0, len(metrics), LARGEST_BATCH):
        client.log_batch(run_id, metrics[first : first + LARGEST_BATCH])


def _engine(client: Any) -> Any:
    """Return SQLAlchemy's engine of a store that is a database, None for a server."""
    return getattr(client._tracking_client.store, "engine", None)


@contextmanager
def _connected(engine: Any) -> Iterator[Any]:
    """Open a transaction.

    Raises:
        UserError: when the database cannot be read or written.
    """
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with engine.begin() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise UserError(f"tracking store {uri()} cannot be used: {first_line(error)}") from None


def _entries(client: Any, run_id: str, name: str) -> list[tuple[int, float]]:
    entries = sorted(client.get_metric_history(run_id, name), key=lambda entry: (entry.step, entry.timestamp))
    return [(entry.step, entry.value) for entry in entries]


def _of_run(connection: Any, run_id: str, names: Sequence[str]) -> dict[str, np.ndarray]:
    import sqlalchemy
    from mlflow.store.tracking.dbmodels.models import SqlMetric

    table = SqlMetric.__table__.c
    columns = sqlalchemy.select(table.key, table.step, sqlalchemy.case((table.is_nan, None), else_=table.value))
    of_run = columns.where(table.run_uuid == run_id).order_by(table.key, table.step, table.timestamp, table.value)
    points = {name: _points([]) for name in names}
    for first in range(0, len(names), LARGEST_QUERY):
        rows = connection.execute(of_run.where(table.key.in_(names[first : first + LARGEST_QUERY])))
        points |= {name: _points([row[1:] for row in group]) for name, group in groupby(rows, itemgetter(0))}
    return points


def _points(entries: Sequence[Sequence[Any]]) -> np.ndarray:
    """Return [n, 2] from pairs in the order of their steps; None is nan, and of equal steps the last counts."""
    points = np.array([tuple(entry) for entry in entries], dtype=float).reshape(-1, 2)
    return points[np.append(np.diff(points[:, 0]) != 0, True)] if len(points) else points


def _insert(engine: Any, run_id: str, entries: Mapping[str, Sequence[tuple[int, float]]], time_ms: int) -> None:
    import sqlalchemy
    from mlflow.store.tracking.dbmodels.models import SqlMetric

    fixed = {"run_uuid": run_id, "timestamp": time_ms, "is_nan": False}
    rows = [{"key": name, "step": step, "value": value, **fixed} for name, values in entries.items() for step, value in values]
    if rows:
        with _connected(engine) as connection:
            connection.execute(sqlalchemy.insert(SqlMetric.__table__), rows)
