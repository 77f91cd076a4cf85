"""The evaluation that engineers and reviewers read: controllers x seeds on one network or many, with tables, files and maps."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tsc_marl import console
from tsc_marl.cli.options import EvaluateOptions, make_folder
from tsc_marl.errors import UserError
from tsc_marl.evaluation import tables
from tsc_marl.evaluation.evaluate import Results, evaluate, find_policy, policy_labels, write_results
from tsc_marl.rollout.pool import Pool, WorkerDiedError
from tsc_marl.rollout.types import Policy, Task
from tsc_marl.rollout.worker import hides_detectors
from tsc_marl.sim import scenario
from tsc_marl.sim.disturbances import SUITE
from tsc_marl.sim.disturbances import find as find_disturbance
from tsc_marl.tracking.store import Tracker
from tsc_marl.viz import delay_map

UNDISTURBED = "undisturbed"


def networks(given: Sequence[str]) -> list[str]:
    """Return the names of the networks; `all` means every one of networks/."""
    return scenario.available() if list(given) == ["all"] else list(given)


def run(tasks: Sequence[Task], names: Sequence[str], options: EvaluateOptions) -> None:
    """Evaluate policies on every task, under disturbances too where the options name them.

    Raises:
        UserError: when the folder cannot be made, or nothing could be measured.
        SystemExit: at the end, when episodes crashed.
    """
    make_folder(options.out)
    with Pool(options.workers, console.say) as pool:
        session = EvaluationSession(pool, options.eval_seeds, options.out, options.baseline)
        measured = False
        for task in tasks:
            policies = session.policies(names, task, alone=len(tasks) == 1)
            results = session.measure(task, policies)
            measured = measured or bool(results)
            if options.stress is not None and results:
                session.stress(task, policies, results, options.stress or tuple(SUITE))
    if not measured and not session.crashed:
        raise UserError(f"nothing could be measured on {' '.join(t.network for t in tasks)}: {'; '.join(session.left_out)}")
    if session.crashed:
        raise SystemExit(f"{session.crashed} episodes failed, as said above; they are missing in {options.out}")


class EvaluationSession:
    """Evaluates on one network after the other and remembers what failed: `crashed` episodes, and why policies were `left_out`.

    Args:
        pool: worker processes.
        seeds: SUMO seeds.
        out: folder; each network gets one in it.
        baseline: the controller that the others are compared with.
    """

    def __init__(self, pool: Pool, seeds: Sequence[int], out: Path, baseline: str) -> None:
        self.pool, self.seeds, self.out, self.baseline = pool, seeds, out, baseline
        self.crashed = 0
        self.left_out: list[str] = []

    def policies(self, names: Sequence[str], task: Task, alone: bool) -> dict[str, Policy]:
        """Find the policies; one that this network does not have is left out with a line, unless the network is alone."""
        found = {}
        for name, label in policy_labels(names).items():
            try:
                found[label] = find_policy(name, task, console.say)
            except UserError as error:
                if alone:
                    raise
                self._leave_out(task, label, error)
        return found

    def measure(self, task: Task, policies: Mapping[str, Policy]) -> Results:
        """Play everything undisturbed; print the table, write files and maps, log to MLflow."""
        folder = self.out / task.network
        results = self._play(task, policies, folder, task.network)
        if not results:
            return results
        write_results(folder / "metrics.json", task, results)
        picture = folder / "delay_map.png"
        best_first = sorted(results, key=lambda name: tables.mean(results[name], "delay"))
        played = {name: [int(row["seed"]) for row in results[name]] for name in best_first}
        delay_map.draw(picture, scenario.load(task.network), folder, played)
        title = f"{task.network}: mean over {len(self.seeds)} seeds, best delay first"
        minor = (*tables.MINOR, tables.difference_to(self.baseline))
        console.show(tables.results_table(title, results, {}, self.baseline), minor)
        _log(task, results, [folder / "metrics.json", folder / "metrics.csv", picture])
        console.say(f"figures: {folder}/metrics.json and .csv, from {folder}/<controller>/tripinfo_<seed>.xml; map: {picture}\n")
        return results

    def stress(self, task: Task, policies: Mapping[str, Policy], calm: Results, disturbances: Sequence[str]) -> None:
        """Play disturbances and print how much worse it gets; detectors that SUMO keeps to itself cannot be disturbed."""
        found: dict[str, Results] = {UNDISTURBED: calm}
        for name in disturbances:
            stress = find_disturbance(name)
            able = {
                label: p
                for label, p in policies.items()
                if label in calm and not (stress.affects_detectors and hides_detectors(p))
            }
            found[name] = self._play(replace(task, disturbance=stress), able, None, f"{task.network}, {name}")
            path = self.out / task.network / f"stress_{name.replace(':', '.')}.json"
            write_results(path, replace(task, disturbance=stress), found[name])
        title = f"{task.network}: delay [s] under disturbances (ratio to undisturbed), mean over {len(self.seeds)} seeds"
        console.show(tables.stress_table(title, found, UNDISTURBED))

    def _leave_out(self, task: Task, name: str, error: UserError) -> None:
        self.left_out.append(str(error))
        console.say(f"{task.network}: {name} is left out: {error}")

    def _play(self, task: Task, policies: Mapping[str, Policy], out: Path | None, title: str) -> Results:
        told: set[str] = set()
        columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, transient=True, disable=not sys.stdout.isatty()) as progress:
            bar = progress.add_task("", total=len(policies) * len(self.seeds))

            def watch(name: str, seed: int, error: Exception | None) -> None:
                progress.advance(bar)
                if error is None or str(error) in told:
                    return
                if isinstance(error, UserError) and not isinstance(error, WorkerDiedError):
                    told.add(str(error))
                    self._leave_out(task, name, error)
                else:
                    self.crashed += 1
                    last = str(error).strip().splitlines()[-1]
                    console.say(f"{task.network}: the episode of {name} with seed {seed} failed: {last}; the others go on")

            return evaluate(self.pool, task, policies, self.seeds, out, watch)


def _log(task: Task, results: Results, files: Sequence[Path]) -> None:
    """Keep the evaluation as a run of the network's experiment."""
    tracker = Tracker(task.network, console.say)
    run = tracker.start(f"evaluation of {', '.join(results)}", {"kind": "evaluation", "network": task.network}, {})
    tracker.log(run, {f"{name}/{figure}": tables.mean(rows, figure) for name, rows in results.items() for figure in rows[0]}, 0)
    tracker.describe(run, tables.markdown(results))
    for path in files:
        tracker.artifact(run, path)
    tracker.end(run, "FINISHED")
