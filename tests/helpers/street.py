"""Fixtures: a deployed folder, and processes that serve it (a plugin of the tests that need them)."""

import pytest
from helpers.cli import Home


@pytest.fixture(scope="module")
def folder(tmp_path_factory, empty_store):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed; pip install tsc_marl[deploy]")
    out = tmp_path_factory.mktemp("deploy") / "street"
    home = Home(tmp_path_factory.mktemp("home"), empty_store)
    assert home.main(f"deploy --network grid2x2 --out {out} --timing-preset field") == 0
    return out


@pytest.fixture
def processes():
    """Starts processes, and ends those that still run."""
    running = []

    def start(process):
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()
