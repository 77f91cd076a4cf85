"""Connection to the tracking store of MLflow: where it is, how it is opened, and what its errors mean."""

import contextlib
import logging
import os
import re
import shutil
import sqlite3
import time
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from filelock import FileLock, Timeout

from tsc_marl.errors import UserError
from tsc_marl.paths import file_name, home
from tsc_marl.tracking import pages, waiting

logger = logging.getLogger(__name__)

FREE_BYTES = 500e6
"""Least free space of the disk [bytes] before a run starts."""
ADVICE = {
    "locked": "another program writes to it: wait for its end or stop it, then start again",
    "readonly|read-only|[Pp]ermission": "make the file and its folder writable, or set TSC_MARL_HOME to another folder",
    "is full|No space": "free some disk space",
    "malformed|not a database|no such table|disk I/O": "it is damaged: put a copy of it back, or move it away",
}
"""What to do about an error of SQLite, by a pattern of its message."""


def uri() -> str:
    """Return the tracking store: MLFLOW_TRACKING_URI, or SQLite in `home()`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{_escaped(home() / 'mlflow.db')}"


def _escaped(path: Path) -> str:
    """Return a path for an SQLite URI, which SQLAlchemy unquotes."""
    return str(path).replace("%", "%25").replace("?", "%3F")


def sqlite_file() -> Path | None:
    """Return the file of an SQLite store; None for a server or another database."""
    if not uri().startswith("sqlite:///"):
        return None
    return Path(unquote(uri().removeprefix("sqlite:///").partition("?")[0])).absolute()


def artifact_folders() -> list[Path]:
    """Return the folders of this machine in which the artifacts of a store without a server may lie."""
    file = sqlite_file()
    return [folder / "mlartifacts" for folder in (home(), *([file.parent] if file is not None else []))]


def connect(writes: bool) -> Any:
    """Return MLflow's client.

    Args:
        writes: whether runs will be written. Reading makes no store.

    Raises:
        UserError: when the store cannot be reached, or written, or read.
    """
    file = sqlite_file()
    if writes:
        _check_disk()
    elif file is not None and not file.exists():
        raise UserError(f"there is no tracking store {uri()} yet; train first (make train), or set TSC_MARL_HOME to your runs")
    _import_quietly()
    import mlflow

    try:
        with _exclusive(writes and file is not None), without_stray_folders():
            if file is not None and file.exists():
                wait_for_lock(file, writes)
            return waiting.answer(lambda: _opened(mlflow.MlflowClient(uri())), uri(), sqlite_file() is None)
    except UserError:
        raise
    except Exception as error:  # every kind of store fails in its own way
        raise UserError(f"tracking store {uri()} cannot be used: {reason(error)}") from None


class PatientClient:
    """MLflow's client, whose every call says what it waits for, ends, and raises `UserError` where the store fails."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*arguments: Any, **named: Any) -> Any:
            try:
                return waiting.answer(lambda: method(*arguments, **named), uri(), sqlite_file() is None)
            except Exception as error:
                if may_pass(error) or "(sqlite3." in str(error):
                    raise UserError(f"tracking store {uri()} cannot be used: {reason(error)}") from None
                raise

        return call if callable(method) else method


def _opened(client: Any) -> Any:
    client.search_experiments(max_results=1)  # a server is asked only now
    return client


def _import_quietly() -> None:
    for name, value in (
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"), ("MLFLOW_HTTP_REQUEST_TIMEOUT", "15"), ("MLFLOW_DISABLE_TELEMETRY", "true"),
        ("GIT_PYTHON_REFRESH", "quiet"),
    ):  # fmt: skip
        os.environ.setdefault(name, value)
    import mlflow

    assert mlflow
    for noisy in ("alembic", "mlflow"):  # what MLflow logs as an error with its traceback, it raises too
        logging.getLogger(noisy).setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", ".*input example was not provided")


@contextlib.contextmanager
def _exclusive(needed: bool) -> Iterator[None]:
    """Hold the lock of those who may make the tables: two at once break the store."""
    if not needed:
        yield
        return
    path = home() / "mlflow.db.lock"
    lock = FileLock(path)
    try:
        try:
            lock.acquire(timeout=waiting.NOTICE_S)
        except Timeout:
            logger.warning(f"waiting for {path}: another training starts, {waiting.GIVE_UP_S:.0f} s at most")
            lock.acquire(timeout=waiting.GIVE_UP_S - waiting.NOTICE_S)
    except Timeout:
        raise UserError(f"{path} is held by {waiting.users(path)} for {waiting.GIVE_UP_S:.0f} s; {ADVICE['locked']}") from None
    try:
        yield
    finally:
        lock.release()


def wait_for_lock(file: Path, writes: bool) -> None:
    """Return when nobody else writes to an SQLite file; MLflow itself would wait without a word.

    Raises:
        UserError: when it stays locked, or cannot be used.
    """
    begun, warned = time.monotonic(), False
    while True:
        try:
            with contextlib.closing(sqlite3.connect(f"file:{quote(str(file))}?mode=rw", uri=True, timeout=0.1)) as database:
                if writes:
                    database.execute("BEGIN IMMEDIATE")
                database.execute("SELECT count(*) FROM sqlite_master")
                return
        except sqlite3.Error as error:
            waited = time.monotonic() - begun
            if "locked" not in str(error) or waited > waiting.GIVE_UP_S:
                held = f" by {waiting.users(file)}" if "locked" in str(error) else ""
                raise UserError(f"tracking store {uri()} cannot be used: {error}{held}; {_advice_on(str(error))}") from None
            if waited > waiting.NOTICE_S and not warned:
                warned = True
                logger.warning(
                    f"waiting for tracking store {uri()}, {waiting.GIVE_UP_S:.0f} s at most: locked by {waiting.users(file)}"
                )
        time.sleep(0.1)


@contextlib.contextmanager
def without_stray_folders() -> Iterator[None]:
    """Remove the empty folders that MLflow makes when it reads a URI as a path: those of a home with `%` or `?`."""
    folder = Path(uri().removeprefix("sqlite:///")).parent
    strays = [path for path in (folder, *folder.parents) if not path.exists()] if "%" in str(folder) else []
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            for path in strays:
                path.rmdir()


def experiment_id(client: Any, name: str, writes: bool) -> str | None:
    """Return the id of an experiment; it is created for writing, otherwise None where there is none."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return _new_experiment(client, name) if writes else None
    if writes:
        check_artifact_uri(experiment.artifact_location, f"experiment {name}")
        if experiment.lifecycle_stage == "deleted":  # in the UI; a run cannot be added to it as it is
            client.restore_experiment(experiment.experiment_id)
    return experiment.experiment_id


def _new_experiment(client: Any, name: str) -> str:
    artifacts = (home() / "mlartifacts" / file_name(name)).as_uri() if uri().startswith("sqlite:") else None
    try:
        return client.create_experiment(name, artifact_location=artifacts, tags=pages.tags())
    except Exception:
        made_meanwhile = client.get_experiment_by_name(name)
        if made_meanwhile is None:
            raise
        return made_meanwhile.experiment_id


def check_artifact_uri(location: str, owner: str) -> None:
    """Refuse files of this machine that are not in the store's own folder: a store may come from anybody.

    Args:
        location: artifact URI of a run or an experiment, or of one artifact.
        owner: what has it, for the message.

    Raises:
        UserError: when it is a local path outside `artifact_folders()`.
    """
    parts = urlsplit(location)
    if parts.scheme not in ("", "file"):
        return
    path = Path(unquote(parts.path) if parts.scheme else location).resolve()
    if not any(path.is_relative_to(folder.resolve()) for folder in artifact_folders()):
        place = " and ".join(map(str, dict.fromkeys(artifact_folders())))
        moved = "the store is not yours, or was moved: put it back, or set TSC_MARL_HOME to another folder"
        raise UserError(f"{owner} in {uri()} keeps its files in {location}, outside {place}; {moved}")


def _advice_on(message: str) -> str:
    own = next((text for pattern, text in ADVICE.items() if re.search(pattern, message)), None)
    if own is not None and sqlite_file() is not None:
        return own
    return (
        f"{'start the server, or unset' if os.environ.get('MLFLOW_TRACKING_URI') else 'move it away, or set'} MLFLOW_TRACKING_URI"
    )


def reason(error: Exception) -> str:
    """Return why a store cannot be used and what to do about it."""
    outdated = re.search(r"database schema \(found version (\w+)", str(error))
    if outdated is None:
        return f"{first_line(error)}; {_advice_on(str(error))}"
    from mlflow.store import db_migrations

    is_older = any((Path(db_migrations.__path__[0]) / "versions").glob(f"{outdated[1]}_*.py"))
    if is_older:
        return f"an older MLflow has made it; keep a copy of it, then run: python -m mlflow db upgrade {uri()}"
    return f"a newer MLflow than {version('mlflow')} has written it; install that version, or set TSC_MARL_HOME to another folder"


def is_refusal(error: Exception) -> bool:
    """Return whether the store works, and refuses what was sent to it."""
    return getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE" and "'active' state" not in str(error)


def may_pass(error: Exception) -> bool:
    """Return whether the store may answer later: it is locked, or a server does not answer now."""
    if sqlite_file() is not None:
        return "locked" in str(error)
    return bool(re.search(r"time.?out|[Cc]onnection|Max retries|too many 5\d\d|error code (429|5\d\d)", str(error)))


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
    """Return the line of an error's message that says why, at most 300 characters; the name of its class if it has none."""
    lines = str(error).strip().splitlines()
    return next((line for line in lines if "(sqlite3." in line), lines[0])[:300] if lines else type(error).__name__
