"""Speed as ratios of pairs within one run: ratios differ less between machines than seconds do.

| name | what is compared | bound |
|---|---|---|
| env-grid4x4, env-ingolstadt21 | our random episode (the defaults) over `sumo` alone with the same lights | 1.25, 1.15 |
| sumo-rl-libsumo, sumo-rl-traci | sumo-rl's episode (its defaults) over ours, on grid4x4 with the same decisions | 1.5, 20 |
| acting, learning | their share of a rollout and of training's wall time, jointq on grid4x4 | 0.2, 0.4 |
| mat-rollout | an episode with MAT's first policy over one with MAPPO's, grid4x4 | 3 |
| happo-update, hatrpo-update | learning from a rollout of two episodes of ingolstadt21, over MAPPO's | 10 |
| cluster | efficiency of slots of a cluster; learning over a rollout, by the number of episodes (docs/cluster.md) | 0.9, 1 |
| scale | growth of CPU time and memory from 64 to 1,024 signals, as the exponent of their number (`scale`) | 1.1 |
| workers | episodes per second of two worker processes over one, grid4x4 | 1.8 |
"""

import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from rich.table import Table

from tsc_marl import algos, console
from tsc_marl.config import parse
from tsc_marl.errors import UserError, unknown
from tsc_marl.rollout.policies import TrainedPolicy
from tsc_marl.rollout.pool import Pool
from tsc_marl.rollout.task import Task
from tsc_marl.rollout.types import Job
from tsc_marl.sim import engine, metrics, scenario
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.tracking.run_folder import TrainingFolder
from tsc_marl.training.iteration import train_iteration
from tsc_marl.training.run import TrainingRun
from tsc_marl.types import Algorithm, Batch, Spec

log = logging.getLogger(__name__)

PAIRS = 5
SEED = 1
SUMO_RL_EPISODE = Path(__file__).with_name("sumo_rl_episode.py")


@dataclass(frozen=True)
class Measure:
    """One row of the table: ratios of pairs, and their bound."""

    ratios: list[float]
    bound: str
    meaning: str
    met: Callable[[float], bool]


def run(only: Sequence[str]) -> None:
    """Measure and print the table.

    Raises:
        UserError: for a name that is no measurement.
    """
    for name in only:
        if name not in MEASURES:
            raise unknown("measurement", name, MEASURES)
    table = Table(title=f"ratios within one run, {os.cpu_count()} cores", title_justify="left")
    table.add_column("measurement", no_wrap=True)
    for column in ("median", "min .. max", "bound", "met"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("meaning")
    for name in only or (name for name in MEASURES if name not in ("cluster", "scale")):  # they need gigabytes
        log.info("%s …", name)
        for row, measure in MEASURES[name]().items():
            median = statistics.median(measure.ratios)
            spread = f"{min(measure.ratios):.2f} .. {max(measure.ratios):.2f}"
            table.add_row(row, f"{median:.2f}", spread, measure.bound, "yes" if measure.met(median) else "NO", measure.meaning)
    console.show(table)


def _play(env: TrafficEnv, decisions: int, out: Path | None = None) -> np.ndarray:
    """Play random legal actions; return those executed [decisions, N]."""
    rng = np.random.default_rng(SEED)
    env.reset(SEED, out=out)
    executed = []
    for _ in range(decisions):
        env.step((rng.random(env.avail.shape) * env.avail).argmax(1))
        executed.append(env.executed)
    env.close()
    return np.stack(executed)


def _episode(env: TrafficEnv, decisions: int | None = None, out: Path | None = None) -> float:
    """Return the seconds that an episode of random legal actions takes."""
    start = time.perf_counter()
    _play(env, decisions or env.horizon, out)
    return time.perf_counter() - start


def _env_against_sumo(network: str, bound: float) -> dict[str, Measure]:
    env = TrafficEnv(scenario.load(network))
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        _episode(env, out=out)
        delay = metrics.read(out, SEED, 1)["delay"]
        programs = _replay_programs(out / f"tls_{SEED}.xml", env.scenario.end_s)
        options = [*engine.command(env.scenario, SEED, out), "--no-warnings"]
        command = [engine.binary("sumo"), *options, "--additional-files", str(programs), "--end", str(env.scenario.end_s)]
        ratios = []
        for _ in range(PAIRS):
            ours = _episode(env)
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            ratios.append(ours / (time.perf_counter() - start))
        replayed = metrics.read(out, SEED, 1)["delay"]
    if abs(replayed - delay) > 1e-6:
        raise RuntimeError(f"the replay on {network} is not the same traffic: delay {replayed} against {delay}")
    row = Measure(ratios, f"<= {bound}", "our episode over bare sumo replaying its lights", lambda ratio: ratio <= bound)
    return {f"env-{network}": row}


def _replay_programs(states: Path, end_s: int) -> Path:
    """Turn SUMO's log of signal states into static programs that show the same."""
    shown: dict[str, list[tuple[float, str]]] = {}
    for element in ElementTree.parse(states).getroot().iter("tlsState"):
        rows = shown.setdefault(element.attrib["id"], [])
        if not rows or rows[-1][1] != element.attrib["state"]:
            rows.append((float(element.attrib["time"]), element.attrib["state"]))
    root = ElementTree.Element("additional")
    for signal, rows in shown.items():
        begin = rows[0][0]
        logic = ElementTree.SubElement(root, "tlLogic", id=signal, programID="replay", type="static", offset=f"{begin:.0f}")
        for (start, state), (stop, _) in zip(rows, [*rows[1:], (end_s + 3600.0, "")], strict=True):
            ElementTree.SubElement(logic, "phase", duration=f"{stop - start:.0f}", state=state)
    path = states.with_name("replay.add.xml")
    ElementTree.ElementTree(root).write(path)
    return path


def _against_sumo_rl(libsumo: bool) -> dict[str, Measure]:
    """Compare with sumo-rl; under TraCI, where it takes minutes, over the first 180 decisions on both sides."""
    env = TrafficEnv(scenario.load("grid4x4"))
    decisions = env.horizon if libsumo else 180
    environ = {key: value for key, value in os.environ.items() if key != "LIBSUMO_AS_TRACI"}
    environ.setdefault("SUMO_HOME", str(Path(engine.binary("sumo")).parents[1]))
    if libsumo:
        environ["LIBSUMO_AS_TRACI"] = "1"
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        executed = Path(folder, "executed.npy")
        np.save(executed, _play(env, decisions))
        files = (str(env.scenario.net), str(env.scenario.routes[0]), str(SEED), str(executed))
        for _ in range(3):
            ours = _episode(env, decisions)
            command = [sys.executable, str(SUMO_RL_EPISODE), *files]
            done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
            if done.returncode:
                raise UserError(f"sumo-rl failed: {done.stderr.strip().splitlines()[-1]}")
            ratios.append(float(done.stdout.rsplit("seconds", 1)[1]) / ours)
    name, bound = ("sumo-rl-libsumo", 1.5) if libsumo else ("sumo-rl-traci", 20)
    row = Measure(ratios, f">= {bound}", f"sumo-rl over ours, {decisions} decisions on grid4x4", lambda ratio: ratio >= bound)
    return {name: row}


def _training() -> dict[str, Measure]:
    """Acting, learning and the second worker, with jointq's first iterations on grid4x4."""
    acting, whole, speedup = [], [], []
    experiment = parse(["--network", "grid4x4", "--algos", "jointq", "--workers", "2"])
    (task,), paused = experiment.tasks(), experiment.concurrent_episodes
    with tempfile.TemporaryDirectory() as folder, Pool(1) as one, Pool(2, concurrent_episodes=paused) as two:
        run = TrainingRun(experiment.runs[0], two.read_spec(task), TrainingFolder(Path(folder)))
        jobs = [Job(i, task, run.policy(), SEED + i, explore_seed=i) for i in range(4)]
        for pool in (one, two):
            list(pool.run(jobs[: len(pool.pids)]))
        for _ in range(3):
            seconds = []
            for pool in (one, two):
                start = time.perf_counter()
                list(pool.run(jobs))
                seconds.append(time.perf_counter() - start)
            speedup.append(seconds[0] / seconds[1])
            spent = train_iteration(two, run)[-1]
            acting.append(spent["seconds/acting"] / (spent["seconds/simulation"] + spent["seconds/acting"]))
            whole.append(spent["seconds/total"] / (seconds[1] / len(jobs)))
    return {
        "acting": Measure(acting, "<= 0.20", "share of a rollout, jointq on grid4x4", lambda share: share <= 0.2),
        "learning": Measure(whole, "<= 1.5", "training over playing its episodes, two workers", lambda ratio: ratio <= 1.5),
        "workers": Measure(speedup, ">= 1.8", "rollouts of two workers over one", lambda ratio: ratio >= 1.8),
    }


def _first_policy(name: str, spec: Spec) -> tuple[Algorithm, TrainedPolicy]:
    """Return an untrained algorithm and its policy."""
    cls = algos.find(name)
    algorithm = cls(spec, cls.Config())
    return algorithm, TrainedPolicy(name, algorithm.config, algorithm.policy_state())


def _mat_rollout() -> dict[str, Measure]:
    ratios, task = [], Task("grid4x4")
    with Pool(1) as pool:
        spec = pool.read_spec(task)
        jobs = {name: Job(0, task, _first_policy(name, spec)[1], SEED, explore_seed=0) for name in ("mat", "mappo")}
        for _ in range(PAIRS):
            spent = {name: sum(next(iter(pool.run([job]))).seconds.values()) for name, job in jobs.items()}
            ratios.append(spent["mat"] / spent["mappo"])
    return {"mat-rollout": Measure(ratios, "<= 3", "MAT's rollout over MAPPO's, grid4x4", lambda ratio: ratio <= 3)}


def _sequential_updates() -> dict[str, Measure]:
    task, ratios = Task("ingolstadt21"), {"happo": [], "hatrpo": []}
    with Pool(1) as pool:
        spec = pool.read_spec(task)
        learners = {name: _first_policy(name, spec) for name in ("mappo", "happo", "hatrpo")}
        algorithm, policy = learners["mappo"]
        jobs = [Job(i, task, policy, SEED + i, explore_seed=i, rollout_length=algorithm.config.rollout_length) for i in range(2)]
        batch = Batch.join([episode.batch for episode in pool.run(jobs) if episode.batch is not None])
    for _ in range(PAIRS):
        spent = {}
        for name, (algorithm, _) in learners.items():
            start = time.perf_counter()
            algorithm.update(batch, 0.0)
            spent[name] = time.perf_counter() - start
        for name, of_name in ratios.items():
            of_name.append(spent[name] / spent["mappo"])
    return {
        f"{name}-update": Measure(of_name, "<= 10", "its update over MAPPO's, ingolstadt21", lambda ratio: ratio <= 10)
        for name, of_name in ratios.items()
    }


def _cluster() -> dict[str, Measure]:
    from tsc_marl.benchmarks import cluster

    evaluations, rollouts, learning = cluster.measure()
    rows = {}
    for what, ratios in (("episodes", evaluations), ("rollouts", rollouts)):
        meaning = f"a job over the wait for one on each slot, recorded {what} of {cluster.NETWORK}"
        for slots, efficiency in ratios.items():
            rows[f"{what}-{slots}"] = Measure(efficiency, ">= 0.90", meaning, lambda ratio: ratio >= 0.9)
    for episodes, over in learning.items():
        meaning = f"{cluster.ALGORITHM}'s update over a rollout, so many episodes side by side"
        rows[f"learning-{episodes}"] = Measure(over, "<= 1", meaning, lambda ratio: ratio <= 1)
    return rows


def _scale() -> dict[str, Measure]:
    from tsc_marl.benchmarks import scale

    meaning, grown = "exponent of the growth with the number of signals", scale.measure()
    return {what: Measure(of_rounds, "<= 1.1", meaning, lambda exponent: exponent <= 1.1) for what, of_rounds in grown.items()}


MEASURES: dict[str, Callable[[], dict[str, Measure]]] = {
    "env-grid4x4": lambda: _env_against_sumo("grid4x4", 1.25),
    "env-ingolstadt21": lambda: _env_against_sumo("ingolstadt21", 1.15),
    "sumo-rl-libsumo": lambda: _against_sumo_rl(libsumo=True),
    "sumo-rl-traci": lambda: _against_sumo_rl(libsumo=False),
    "training": _training,
    "mat-rollout": _mat_rollout,
    "sequential-updates": _sequential_updates,
    "cluster": _cluster,
    "scale": _scale,
}
