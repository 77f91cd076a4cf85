"""Every example and the notebook run as a user runs them, with few episodes."""

import json
import os
import subprocess
import sys

import pytest
from helpers.cli import ROOT

pytest_plugins = ("helpers.fixtures",)
pytestmark = pytest.mark.sumo

EXAMPLES = {
    "random_loop": ["cross", "20"],
    "sb3_single_signal": ["cross", "240"],
    "own_reward": ["cross", "10"],
    "own_controller": ["cross", "1"],
    "own_algorithm": ["cross", "2"],
    "drive_own_traci_loop": ["cross", "pretrained", "60"],
    "run_deployed_controller": [],
    "roadside_controller": [],
    "gateway_lines": [],
    "sumo_detectors": [],
    "plot_comparison": ["cross", "plot.png", "fixed_time", "max_pressure"],
}
"""Arguments that make each of them short."""
NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"


@pytest.fixture
def run(home):
    def _run(*command, text=None):
        own = {"TSC_MARL_HOME": str(home.folder), "TUTORIAL_EPISODES": "2", "OMP_NUM_THREADS": "1"}
        pythonpath = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        env = os.environ | own | {"PYTHONPATH": pythonpath, "MPLBACKEND": "Agg"}
        env.pop("MLFLOW_TRACKING_URI", None)
        words = [sys.executable, *map(str, command)]
        done = subprocess.run(
            words, input=text, capture_output=True, text=True, cwd=home.folder, env=env, timeout=200, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return _run


def test_every_example_is_listed_and_short():
    examples = {path.stem: path.read_text(encoding="utf-8").count("\n") for path in (ROOT / "examples").glob("*.py")}
    assert examples.keys() == EXAMPLES.keys()
    assert max(examples.values()) < 60


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name, run, home):
    if name == "sb3_single_signal":
        pytest.importorskip("stable_baselines3", reason="stable_baselines3 is not installed; pip install tsc_marl[sb3]")
    if name in ("run_deployed_controller", "roadside_controller", "gateway_lines", "sumo_detectors"):
        pytest.skip("tests/test_deploy.py and tests/test_serve.py run them")
    arguments = EXAMPLES[name]
    assert run(ROOT / "examples" / f"{name}.py", *arguments)
    assert name != "plot_comparison" or (home.folder / "plot.png").stat().st_size > 5000


PLAYED = f"""
import nbformat, nbclient
played = nbclient.NotebookClient(nbformat.read({str(NOTEBOOK)!r}, 4), timeout=150).execute()
for cell in played.cells:
    for output in cell.get("outputs", ()):
        print(output.get("text", ""))
"""


def test_the_notebook_in_jupyter(run):
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells)
    assert "vehicle-seconds lost" in run("-c", PLAYED)
