"""Fixtures: folders for runs, store and artifacts (a plugin of the tests that need them)."""

import pytest
from helpers.cli import Home


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """An SQLite store with its tables made: making them takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="module")
def new_home(tmp_path_factory, empty_store):
    return lambda: Home(tmp_path_factory.mktemp("home"), empty_store)


@pytest.fixture
def home(tmp_path, empty_store):
    return Home(tmp_path / "home", empty_store)
