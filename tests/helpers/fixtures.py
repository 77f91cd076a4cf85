"""Fixtures: folders for runs, store and artifacts (a plugin of the tests that need them)."""

import pytest
from helpers.cli import Home

from tsc_marl.paths import NETWORKS

WINDOWS_S = {"cross": 60, "grid2x2": 120}
"""Windows of the short networks."""
OF_THE_FOUR = "train --net cross --episodes 4 --algo.epochs 1 --workers 1 --eval-seeds 1 2 --baselines max_pressure"
"""Settings of the four trainings."""


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


@pytest.fixture(scope="session")
def short_networks(tmp_path_factory):
    """Return the folders `short_cross` and `short_grid2x2`: copies of networks with windows of different length."""
    folder, paths = tmp_path_factory.mktemp("networks"), []
    for name, window_s in WINDOWS_S.items():
        paths.append(folder / f"short_{name}")
        paths[-1].mkdir()
        for path in (NETWORKS / name).glob("*.xml"):
            (paths[-1] / path.name).write_bytes(path.read_bytes())
        text = (NETWORKS / name / "scenario.yaml").read_text(encoding="utf-8").replace("end_s: 600", f"end_s: {window_s}")
        (paths[-1] / "scenario.yaml").write_text(text, encoding="utf-8")
    return [str(path) for path in paths]


@pytest.fixture(scope="session")
def four_trainings(tmp_path_factory, empty_store):
    """Return a home with mappo and ippo, two seeds each, on cross; a test leaves these as it found them."""
    home = Home(tmp_path_factory.mktemp("home"), empty_store)
    assert home.main(f"{OF_THE_FOUR} --algos mappo ippo --seeds 0 1") == 0
    return home
