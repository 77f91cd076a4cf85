"""What a user adds: a file in a folder of the package, or a class of the user's own package by import path."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tsc_marl import algos, controllers, plugins
from tsc_marl.errors import UserError
from tsc_marl.paths import file_name
from tsc_marl.rollout.policies import ControllerPolicy
from tsc_marl.sim import metrics, observations, rewards, scenario
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.feedback import SimConfig

pytest_plugins = ["helpers.fixtures"]

SOURCE = """
from tsc_marl.algos.ippo import Ippo
from tsc_marl.controllers import Controller
from tsc_marl.sim.metrics import Metric

class Mine(Controller): ...
class Other(Ippo): ...

class Vehicles(Metric):
    unit = "veh"
    def __call__(self, episode):
        return len(episode.trips.ids)

class Fails(Vehicles):
    def __call__(self, episode):
        return 1 / 0

class Text(Vehicles):
    def __call__(self, episode):
        return "3"

class Unfinished(Metric):
    unit = "veh"

class NoUnit(Metric):
    def __call__(self, episode):
        return 0.0
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_plugins.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "own_broken.py").write_text("import no_such_module", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)


def test_every_name_has_its_class():
    assert len({metrics.find(name) for name in metrics.available()}) == len(metrics.available())
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


@pytest.fixture
def files(tmp_path):
    """SUMO's files of an episode without vehicles."""
    (tmp_path / "tripinfo_1.xml").write_text("<tripinfos/>", encoding="utf-8")
    (tmp_path / "summary_1.xml").write_text("<summary/>", encoding="utf-8")
    return tmp_path


def test_a_metric_by_import_path_stands_beside_those_of_the_folder(own, files):
    measured = metrics.read(files, 1, 1, names=("own_plugins:Vehicles", "delay"))
    assert measured["own_plugins.Vehicles"] == 0.0
    kinds = {name: metrics.find(name) for name in metrics.available()}
    assert measured.keys() - {"own_plugins.Vehicles"} == {n for n, kind in kinds.items() if not (kind.detailed or kind.of_some)}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("dela", "did you mean delay?"),
        ("own_plugins:Mine", "Mine is no Metric"),
        ("own_plugins:NoUnit", "NoUnit has no unit"),
        ("own_plugins:Fails", "own_plugins.Fails failed with ZeroDivisionError: division by zero"),
        ("own_plugins:Text", "own_plugins.Text returned '3'; expected a finite number"),
        ("own_plugins:Unfinished", "own_plugins.Unfinished failed with TypeError"),
    ],
)
def test_a_metric_that_cannot_be_used_is_one_line(name, reason, own, files):
    with pytest.raises(UserError) as error:
        metrics.read(files, 1, 1, names=(name,))
    assert f"metric {name.replace(':', '.')}" in str(error.value).replace(":", ".")
    assert reason in str(error.value)
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

    def __call__(self, view):
        return np.array([[timer.phase, len(view.vehicles.ids) / 100] for timer in view.timers], dtype=np.float32)
"""
CONTROLLER = """
import numpy as np
from tsc_marl import Controller

class Second(Controller):
    def act(self, view):
        return np.ones(len(view.timers), dtype=int)
"""
METRIC = """
from tsc_marl import Metric

class ShareArrived(Metric):
    unit = "-"

    def __call__(self, episode):
        return episode.trips.arrived.mean()
"""
ALGORITHM = """
from tsc_marl.algos.ippo import Ippo

class Ippo2(Ippo):
    pass
"""
DISTURBANCE = """
from dataclasses import dataclass
from tsc_marl.sim.disturbances import Disturbance, FaultyDetectors, select

class LoopDetectors(FaultyDetectors):
    def show(self, vehicles, now, api):
        return select(vehicles, vehicles.speed_ms < self.below_ms)

@dataclass(frozen=True)
class SlowOnly(Disturbance):
    demand: float = 0.9
    below_ms: float = 3.0

    def detectors(self, net, seed, begin_s, duration_s):
        loops = LoopDetectors(net, seed, begin_s, duration_s)
        loops.below_ms = self.below_ms
        return loops
"""
FILES = {
    "sim/rewards/halting": REWARD, "sim/observations/phases": OBSERVATION, "controllers/second": CONTROLLER,
    "algos/ippo2": ALGORITHM, "sim/metrics/share_arrived": METRIC, "sim/disturbances/slow_only": DISTURBANCE,
}  # fmt: skip


def process(line: str, home: Path, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Run a command line with these folders first on Python's path."""
    env = os.environ | {"TSC_MARL_HOME": str(home), "PYTHONPATH": os.pathsep.join(map(str, paths))}
    words = [sys.executable, "-m", "tsc_marl", *line.split()]
    return subprocess.run(words, cwd=home, env=env, capture_output=True, text=True, check=False)


def command(line: str, home: Path, *paths: Path) -> str:
    """Run a command line that must succeed; return what it prints."""
    done = process(line, home, *paths)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_each_kind(home: Path, names: dict[str, str], command: Callable[[str], str]) -> None:
    """Train and evaluate with a reward, an observation, a controller, an algorithm, a metric and a disturbance of these names."""
    reward, observation, controller, algorithm, metric, disturbance = names.values()
    settings = f"--episodes 2 --workers 1 --eval-seeds 1 --seeds 0 --metrics {metric}"
    trained = f"train --net cross --algos {algorithm} --sim.reward {reward} --sim.observation {observation} {settings}"
    printed = command(f"{trained} --baselines {controller}")
    assert controller in printed
    (written,) = (home / "runs").glob("*/evaluation.json")
    check_metric(metric.replace(":", "."), controller, written, printed)
    evaluate = f"evaluate --net cross --controller {controller} {algorithm} --baseline {controller} --eval-seeds 1 --workers 1"
    evaluated = command(f"{evaluate} --metrics {metric} --disturbances {disturbance}")
    assert f"│ {controller} " in evaluated
    row = next(line for line in evaluated.splitlines() if f"│ {algorithm} " in line)
    assert re.search(r"│ +[+-]\d+\.\d │", row)  # the difference to the baseline
    unsafe = [path for path in home.rglob("*") if re.search(r"[^A-Za-z0-9._-]", path.name)]
    assert not unsafe
    check_metric(metric.replace(":", "."), controller, home / "results" / "cross" / "metrics.json", evaluated)
    assert disturbance in evaluated
    path = home / "results" / "cross" / f"disturbance_{file_name(disturbance)}.json"
    disturbed = json.loads(path.read_text(encoding="utf-8"))
    assert disturbed["disturbance"]["below_ms"] == 3
    assert len(disturbed["results"]) == 2


def check_metric(metric: str, policy: str, written: Path, printed: str) -> None:
    """Compare the share of arrived vehicles in a file of results with the printed table."""
    (row,) = json.loads(written.read_text(encoding="utf-8"))["results"][policy]
    assert row[metric] == pytest.approx(row["arrived"] / row["scheduled"])
    (line,) = (line for line in printed.splitlines() if policy in line and "│" in line)
    assert f"{row[metric]:.3g}" in [cell.strip() for cell in line.split("│")]


@pytest.mark.sumo
def test_a_package_of_the_user(home, tmp_path, monkeypatch, capsys):
    package = tmp_path / "mine"
    package.mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(home.folder)

    def run(line):
        assert home.main(line) == 0
        return capsys.readouterr().out

    (package / "__init__.py").touch()
    for file, source in FILES.items():
        (package / f"{Path(file).name}.py").write_text(source, encoding="utf-8")
    modules = {"halting": "Halting", "phases": "Phases", "second": "Second", "ippo2": "Ippo2", "share_arrived": "ShareArrived"}
    modules |= {"slow_only": "SlowOnly"}
    names = {module: f"mine.{module}:{name}" for module, name in modules.items()}
    check_each_kind(home.folder, names, run)


@pytest.mark.sumo
def test_files_in_the_folders_of_a_copy(home, tmp_path):
    clone = tmp_path / "clone"
    source = Path(plugins.__file__).parents[1]
    for folder in ("tsc_marl", "configs", "networks"):
        shutil.copytree(source / folder, clone / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file, text in FILES.items():
        (clone / "tsc_marl" / f"{file}.py").write_text(text, encoding="utf-8")
    names = ("halting", "phases", "second", "ippo2", "share_arrived", "slow-only")
    check_each_kind(home.folder, {name: name for name in names}, lambda line: command(line, home.folder, clone))


def test_rewards_and_observations_have_their_names():
    assert rewards.available() == ["average-speed", "delay", "diff-waiting-time", "person-delay", "pressure", "queue"]
    assert observations.available() == ["lanes", "movements", "movements-persons", "sumo-rl"]
    assert rewards.find("diff-waiting-time") is rewards.find("diff_waiting_time")


def install(site: Path, package: str, group: str, name: str, path: str) -> None:
    """Write what an installer leaves of a package that offers a name."""
    info = site / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {path}\n", encoding="utf-8")


SOURCE_ROOT = Path(plugins.__file__).parents[1]
EVALUATE = "evaluate --network cross --eval-seeds 1 --workers 1 --policy"


@pytest.mark.sumo
def test_an_installed_package_offers_a_name(tmp_path):
    (tmp_path / "steady.py").write_text(CONTROLLER, encoding="utf-8")
    install(tmp_path, "steady-control", "tsc_marl.controllers", "always-second", "steady:Second")
    assert "always_second" in command(f"{EVALUATE} always_second", tmp_path, tmp_path, SOURCE_ROOT)


@pytest.mark.parametrize(
    ("name", "sources"), [("halting", ("one (one:A)", "two (two:B)")), ("queue", ("tsc_marl", "three (three:C)"))]
)
def test_two_packages_that_offer_the_same_reward_are_named(tmp_path, monkeypatch, name, sources):
    install(tmp_path, "one", "tsc_marl.rewards", "halting", "one:A")
    install(tmp_path, "two", "tsc_marl.rewards", "halting", "two:B")
    install(tmp_path, "three", "tsc_marl.rewards", "queue", "three:C")
    monkeypatch.syspath_prepend(tmp_path)
    plugins._entry_points.cache_clear()
    try:
        assert "halting" in rewards.available()
        with pytest.raises(UserError) as error:
            rewards.find(name)
    finally:
        plugins._entry_points.cache_clear()
    assert f"reward {name} is offered by" in str(error.value)
    assert all(source in str(error.value) for source in sources)


FAILING = """
import numpy as np
from tsc_marl import Controller, Observation, Reward

class Paid(Reward):
    def __call__(self, vehicles):
        return 1 / 0

class Wide(Reward):
    def __call__(self, vehicles):
        return np.zeros(99)

class Peeking(Observation):
    def __init__(self, context):
        super().__init__(context)
        self.size, self.real = 1, np.ones((1, 1), dtype=bool)

    def __call__(self, view):
        return np.full((1, 1), len(self.context.simulation.vehicle.getIDList()), dtype=np.float32)

class Chosen(Controller):
    def act(self, view):
        return view.simulation
"""


def play_a_decision(config: SimConfig, controller: str) -> None:
    with contextlib.closing(TrafficEnv(scenario.load("cross"), config=config)) as env:
        env.step(ControllerPolicy(controller).start(env, 1).act())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reward": "own_failing:Paid"}, r"reward own_failing:Paid failed with ZeroDivisionError: .*own_failing.py, line 7\)"),
        ({"reward": "own_failing:Wide"}, r"reward own_failing:Wide: expected shape \(1,\); got \(99,\)"),
        ({"observation": "own_failing:Peeking"}, r"observation own_failing:Peeking failed with AttributeError: .*'simulation'"),
        ({}, r"controller own_failing:Chosen failed with AttributeError: .*'simulation'"),
    ],
)
def test_own_code_that_fails_or_looks_into_the_simulation_is_one_line(tmp_path, monkeypatch, settings, message):
    (tmp_path / "own_failing.py").write_text(FAILING, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=message):
        play_a_decision(SimConfig(**settings), "max_pressure" if settings else "own_failing:Chosen")
