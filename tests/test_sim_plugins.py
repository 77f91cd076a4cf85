"""What a user adds: a file in a folder of the package, or a class of the user's own package by import path."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tsc_marl import algos, controllers, plugins
from tsc_marl.errors import UserError
from tsc_marl.sim import observations, rewards

SOURCE = """
from tsc_marl.algos.ippo import Ippo
from tsc_marl.controllers import Controller

class Mine(Controller): ...
class Other(Ippo): ...
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_plugins.py").write_text(SOURCE)
    (tmp_path / "own_broken.py").write_text("import no_such_module")
    monkeypatch.syspath_prepend(tmp_path)


def test_every_name_has_its_class():
    assert len({algos.find(name) for name in algos.available()}) == len(algos.available())
    assert len({controllers.find(name) for name in controllers.available()}) == len(controllers.available())


def test_import_path(own):
    assert controllers.find("own_plugins:Mine").__name__ == "Mine"
    assert algos.find("own_plugins:Other").__name__ == "Other"


@pytest.mark.parametrize(
    "name", ["max_presure", "own_plugins:Other", "own_plugins:Nothing", "own_broken:Mine", "nowhere:Mine", ":Mine"]
)
def test_wrong_names_are_one_line(name, own):
    with pytest.raises(UserError) as error:
        controllers.find(name)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


REWARD = """
import numpy as np
from tsc_marl import Reward
from tsc_marl.sim.engine import HALTING_MS

class Halting(Reward):
    def __call__(self, vehicles):
        owner = self.network.charged_signal[vehicles.lane[vehicles.speed_ms < HALTING_MS]]
        return -np.bincount(owner, minlength=len(self.network.signals)).astype(float)
"""
OBSERVATION = """
import numpy as np
from tsc_marl import Observation

class Phases(Observation):
    def __init__(self, context):
        super().__init__(context)
        self.size, n = 2, len(self.network.signals)
        self.real = np.ones((n, 2), dtype=bool)

    def __call__(self, vehicles, timers, now):
        return np.array([[timer.phase, len(vehicles.ids) / 100] for timer in timers], dtype=np.float32)
"""
CONTROLLER = """
import numpy as np
from tsc_marl import Controller

class Second(Controller):
    def act(self):
        return np.ones(len(self.env.names), dtype=int)
"""
ALGORITHM = """
from tsc_marl.algos.ippo import Ippo

class Ippo2(Ippo):
    pass
"""
FILES = {
    "sim/rewards/halting": REWARD, "sim/observations/phases": OBSERVATION, "controllers/second": CONTROLLER,
    "algos/ippo2": ALGORITHM,
}  # fmt: skip


def command(line: str, home: Path, *paths: Path) -> str:
    """Run a command line with these folders first on Python's path; return what it prints."""
    env = os.environ | {"TSC_MARL_HOME": str(home), "PYTHONPATH": os.pathsep.join(map(str, paths))}
    words = [sys.executable, "-m", "tsc_marl", *line.split()]
    done = subprocess.run(words, cwd=home, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_each_kind(home: Path, names: dict[str, str], *paths: Path) -> None:
    """Train and evaluate with a reward, an observation, a controller and an algorithm of these names."""
    reward, observation, controller, algorithm = names.values()
    settings = "--episodes 2 --workers 1 --eval-seeds 1 --seeds 0"
    trained = f"train --net cross --algos {algorithm} --sim.reward {reward} --sim.observation {observation} {settings}"
    assert controller in command(f"{trained} --baselines {controller}", home, *paths)
    line = f"evaluate --net cross --controller {controller} {algorithm} --baseline {controller} --eval-seeds 1 --workers 1"
    rows = command(line, home, *paths).splitlines()
    assert any(f"│ {controller} " in row for row in rows)
    (row,) = [row for row in rows if f"│ {algorithm} " in row]
    assert re.search(r"│ +[+-]\d+\.\d │", row)  # the difference to the baseline
    unsafe = [path for path in home.rglob("*") if re.search(r"[^A-Za-z0-9._-]", path.name)]
    assert not unsafe


@pytest.mark.sumo
def test_a_package_of_the_user(tmp_path):
    package, home = tmp_path / "mine", tmp_path / "home"
    package.mkdir()
    home.mkdir()
    (package / "fog.py").write_text("from tsc_marl.sim.disturbances import Disturbance\nFOG = Disturbance(missed=0.5)\n")
    (package / "__init__.py").touch()
    for file, source in FILES.items():
        (package / f"{Path(file).name}.py").write_text(source)
    modules = {"halting": "Halting", "phases": "Phases", "second": "Second", "ippo2": "Ippo2"}
    names = {module: f"mine.{module}:{name}" for module, name in modules.items()}
    source = Path(plugins.__file__).parents[1]
    check_each_kind(home, names, tmp_path, source)
    disturbed = "evaluate --net cross --controller max_pressure --eval-seeds 1 --workers 1 --stress mine.fog:FOG"
    assert "mine.fog:FOG" in command(disturbed, home, tmp_path, source)


@pytest.mark.sumo
def test_files_in_the_folders_of_a_copy(tmp_path):
    clone, home = tmp_path / "clone", tmp_path / "home"
    source = Path(plugins.__file__).parents[1]
    for folder in ("tsc_marl", "configs", "networks"):
        shutil.copytree(source / folder, clone / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file, text in FILES.items():
        (clone / "tsc_marl" / f"{file}.py").write_text(text)
    home.mkdir()
    check_each_kind(home, {name: name for name in ("halting", "phases", "second", "ippo2")}, clone)


def test_rewards_and_observations_have_their_names():
    assert rewards.available() == ["average-speed", "delay", "diff-waiting-time", "pressure", "queue"]
    assert observations.available() == ["lanes", "sumo-rl"]
    assert rewards.find("diff-waiting-time") is rewards.find("diff_waiting_time")
