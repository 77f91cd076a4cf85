"""Connection to the tracking store of MLflow, and the errors that it raises."""

import logging
import os
import re
import shutil
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock

from tsc_marl.errors import UserError
from tsc_marl.paths import home

FREE_BYTES = 500e6
"""Least free space of the disk [bytes] before a run starts."""


def uri() -> str:
    """Return the tracking store: MLFLOW_TRACKING_URI, or SQLite in `home()`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow.db'}"


def connect(experiment: str) -> tuple[Any, str]:
    """Return MLflow's client and the id of an experiment, which is created if it does not exist.

    Args:
        experiment: name of the experiment: a road network.

    Raises:
        UserError: when the store cannot be reached or written.
    """
    _check_disk()
    for name, value in (
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"), ("MLFLOW_HTTP_REQUEST_TIMEOUT", "15"), ("MLFLOW_DISABLE_TELEMETRY", "true"),
        ("GIT_PYTHON_REFRESH", "quiet"),
    ):  # fmt: skip
        os.environ.setdefault(name, value)
    import mlflow

    for noisy in ("alembic", "mlflow"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", ".*input example was not provided")
    try:
        with FileLock(home() / "mlflow.db.lock"):  # two trainings that make the same tables at once break the store
            client = mlflow.MlflowClient(uri())
            return client, _experiment_id(client, experiment)
    except Exception as error:  # every kind of store fails in its own way
        raise UserError(f"tracking store {uri()} cannot be used: {_reason(error)}") from None


def _experiment_id(client: Any, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        if experiment.lifecycle_stage == "deleted":  # in the UI; a run cannot be added to it as it is
            client.restore_experiment(experiment.experiment_id)
        return experiment.experiment_id
    local = uri().startswith("sqlite:")
    artifacts = (home() / "mlartifacts" / name).as_uri() if local else None
    kind = {"mlflow.experimentKind": "custom_model_development"}  # else the UI opens its pages for language models
    return client.create_experiment(name, artifact_location=artifacts, tags=kind)


def _reason(error: Exception) -> str:
    """Return why a store cannot be used and what to do about it."""
    outdated = re.search(r"database schema \(found version (\w+)", str(error))
    if outdated is None:
        advice = "start the server, or unset" if os.environ.get("MLFLOW_TRACKING_URI") else "move it away, or set"
        return f"{first_line(error)}; {advice} MLFLOW_TRACKING_URI"
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


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, at most 300 characters; the name of its class if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
