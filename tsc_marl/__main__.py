"""The command line: parse, call, print."""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tsc_marl.config import check_eval_seeds, check_list, cli, read_timing
from tsc_marl.errors import UserError, unknown
from tsc_marl.sim.demand import Demand


def train(argv: list[str]) -> None:
    """Train algorithms on a network, then compare them with classical controllers."""
    from tsc_marl import train as module

    module.train(argv)


@dataclass(frozen=True)
class EvaluateOptions:
    """Measure controllers on held-out seeds."""

    net: tuple[str, ...] = ("grid4x4",)
    """Road networks, or `all`."""
    controller: tuple[str, ...] = ("max_pressure", "fixed_time")
    """Classical controllers, algorithms (their newest finished run), run ids, or checkpoint files; `classical` for all of
    the first."""
    eval_seeds: tuple[int, ...] = tuple(range(1000, 1010))
    """SUMO seeds; those of training are refused."""
    baseline: str = "fixed_time"
    """The controller that the others are compared with on the same seeds, where it is among them."""
    stress: tuple[str, ...] | None = None
    """Play also under these disturbances, all of them where none is named: demand-0.7, demand-1.3, lane-blocked, blind-20%,
    frozen-20%, missed-20% (detectors), signal-stuck."""
    demand: Demand = field(default_factory=Demand)
    out: Path = Path("results")
    """Folder; each network gets one in it with metrics.json, metrics.csv, delay_map.png and, per controller, SUMO's own files."""
    timing: str = "sumo-rl"
    """Signal timing: a file of configs/timing/."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes that simulate; the default is all cores."""


def evaluate(argv: list[str]) -> None:
    """Measure controllers or trained policies on held-out seeds and keep SUMO's own files."""
    options = cli(EvaluateOptions, argv, "evaluate")
    from tsc_marl import controllers, protocol, report
    from tsc_marl.rollout.local import Pool
    from tsc_marl.sim.stress import SUITE

    wanted = tuple(controllers.available()) if options.controller == ("classical",) else options.controller
    check_list("controller", wanted)
    check_list("net", options.net)
    for name in options.stress or ():
        if name not in SUITE:
            raise unknown("disturbance", name, SUITE)
    check_eval_seeds(options.eval_seeds)
    names = protocol.networks(options.net)
    tasks = [_task(name, options.timing, options.demand) for name in names]
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out {options.out} cannot be made ({error.strerror}); give another folder") from None
    with Pool(options.workers, report.say) as pool:
        session = protocol.Session(pool, options.eval_seeds, options.out, options.baseline)
        measured = False
        for task in tasks:
            policies = session.policies(wanted, task, alone=len(tasks) == 1)
            results = session.measure(task, policies)
            measured = measured or bool(results)
            if options.stress is not None and results:
                session.stress(task, policies, results, options.stress or tuple(SUITE))
    if not measured:
        raise UserError(f"nothing could be measured on {' '.join(names)}: {'; '.join(session.left_out)}")
    if session.crashed:
        raise SystemExit(f"{session.crashed} episodes failed, as said above; they are missing in {options.out}")


@dataclass(frozen=True)
class ResultsOptions:
    """Measure all classical controllers on RESCO's networks under both timings and write the results page."""

    out: Path = Path("results/page")
    """Folder of the figures; what is there is not measured again."""
    page: Path = Path("docs/results.md")
    """The page; its maps lie in maps/ beside it."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes that simulate; the default is all cores."""


def results(argv: list[str]) -> None:
    """Measure all classical controllers on RESCO's networks and write docs/results.md."""
    options = cli(ResultsOptions, argv, "results")
    from tsc_marl import results as module

    module.run(options.workers, options.out, options.page)


@dataclass(frozen=True)
class CompareOptions:
    """List the finished trainings of a network."""

    net: str = "grid4x4"
    """Road network."""


def compare(argv: list[str]) -> None:
    """List the finished trainings of a network, best final delay first."""
    options = cli(CompareOptions, argv, "compare")
    from tsc_marl import compare as module
    from tsc_marl import report
    from tsc_marl.sim import scenario

    scenario.load(options.net)
    report.console().print(module.table(options.net))


@dataclass(frozen=True)
class WatchOptions:
    """Show a controller in sumo-gui."""

    net: str = "grid4x4"
    """Road network."""
    controller: str = "jointq"
    """A classical controller, an algorithm (its newest finished run), a run id, or a checkpoint file."""
    seed: int = 1000
    """SUMO seed."""
    delay_ms: int = 100
    """Milliseconds of real time for one simulated second."""
    timing: str = "sumo-rl"
    """Signal timing: a file of configs/timing/."""
    quit_on_end: bool = False
    """Close the window when the episode ends."""


def watch(argv: list[str]) -> None:
    """Drive one episode in sumo-gui at a watchable speed."""
    options = cli(WatchOptions, argv, "watch")
    from tsc_marl import watch as module
    from tsc_marl.evaluate import find_policy

    task = _task(options.net, options.timing)
    if not 0 <= options.seed < 2**31:
        raise UserError(f"seed must lie in 0 .. {2**31 - 1}; got {options.seed}")
    if options.delay_ms < 0:
        raise UserError(f"delay-ms must not be negative; got {options.delay_ms}")
    module.watch(task, find_policy(options.controller, task), options.seed, options.delay_ms, options.quit_on_end)


@dataclass(frozen=True)
class UiOptions:
    """Open MLflow's pages."""

    port: int = 5000
    """Port on this machine."""


def ui(argv: list[str]) -> None:
    """Open MLflow's pages on the trainings of this folder, or of TSC_MARL_HOME."""
    options = cli(UiOptions, argv, "ui")
    from tsc_marl import track

    track.ui(options.port)


@dataclass(frozen=True)
class NetsOptions:
    """List the road networks."""

    net: tuple[str, ...] = ()
    """Only these; default all."""


def nets(argv: list[str]) -> None:
    """List the road networks: signals, phases, lanes, vehicles, window, licence."""
    options = cli(NetsOptions, argv, "nets")
    from tsc_marl import report
    from tsc_marl.sim import scenario

    report.console().print(report.networks_table([scenario.load(name) for name in options.net or scenario.available()]))


@dataclass(frozen=True)
class BenchOptions:
    """Measure speed as ratios within one run."""

    only: tuple[str, ...] = field(default=())
    """Names of single measurements; default all."""


def bench(argv: list[str]) -> None:
    """Measure speed, as ratios within one run."""
    options = cli(BenchOptions, argv, "bench")
    from tsc_marl import bench as module

    module.run(options.only)


def _task(network: str, timing: str, demand: Demand | None = None) -> Any:
    from tsc_marl.rollout.worker import Task, check

    task = Task(network, read_timing(timing), demand=demand or Demand())
    for note in check(task):
        print(note)
    return task


VERBS: dict[str, Callable[[list[str]], None]] = {
    "train": train, "evaluate": evaluate, "results": results, "compare": compare, "watch": watch, "ui": ui, "nets": nets,
    "bench": bench,
}  # fmt: skip


def main(argv: list[str]) -> int:
    """Run one verb; return the exit code: 0, 2 for a user's mistake, 130 for Ctrl-C and SIGTERM."""
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: python -m tsc_marl VERB [OPTIONS]\n")
        for name, verb in VERBS.items():
            print(f"  {name:10s}{(verb.__doc__ or '').splitlines()[0]}")
        print("\npython -m tsc_marl VERB --help explains every option.")
        return 0
    try:
        if argv[0] not in VERBS:
            raise unknown("verb", argv[0], VERBS)
        VERBS[argv[0]](argv[1:])
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # how schedulers stop a job: as Ctrl-C, with a checkpoint
    sys.exit(main(sys.argv[1:]))
