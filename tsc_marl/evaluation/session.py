"""Evaluation of policies on seeds and networks, with tables, files and maps."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tsc_marl import console
from tsc_marl.errors import UserError
from tsc_marl.evaluation import notes, service_tables, statistics, tables
from tsc_marl.evaluation.evaluate import Results, comparison_metrics, evaluate, is_refusal, write_results
from tsc_marl.paths import file_name, make_folder
from tsc_marl.rollout.cluster.pool import open_pool
from tsc_marl.rollout.policies import Policy, TrainedPolicy
from tsc_marl.rollout.pool import Pool
from tsc_marl.rollout.task import Task
from tsc_marl.sim import fingerprint, scenario
from tsc_marl.sim.disturbances import find as find_disturbance
from tsc_marl.tracking.policies import find_policy, policy_labels
from tsc_marl.tracking.run_folder import PICTURES
from tsc_marl.tracking.store import Tracker
from tsc_marl.viz import delay_map
from tsc_marl.viz.engineering import pictures

logger = logging.getLogger(__name__)

UNDISTURBED = "undisturbed"


def networks(names: Sequence[str]) -> list[str]:
    """Return the names of the networks; `all` stands for every network of networks/."""
    return scenario.available() if list(names) == ["all"] else list(names)


def run(
    tasks: Sequence[Task], names: Sequence[str], seeds: Sequence[int], out: Path, baseline: str,
    disturbances: Sequence[str], workers: int | None = None, cluster: str | None = None, plots: Sequence[str] | None = None,
    sampling: bool = False, approaches: bool = False,
) -> None:  # fmt: skip
    """Evaluate policies on every task, then again under each disturbance.

    Args:
        tasks: networks with their timing and demand.
        names: policies, as `find_policy` takes them.
        seeds: SUMO seeds.
        out: folder; each network gets one in it.
        baseline: the controller that the others are compared with.
        disturbances: names, as `sim.disturbances.find` takes them.
        workers: jobs that are played at once; None for one on each core, or on each slot of the cluster.
        cluster: address of a Ray cluster; None for this machine.
        plots: draw the pictures of `viz.engineering` too, along a corridor of these signals, or none for the busiest.
        sampling: measure trained policies a second time, sampling their phases.
        approaches: print each policy's approaches with the most delay.

    Raises:
        UserError: when the folder cannot be made, the cluster cannot be used, or no network can be played with a policy, for
            the same reason; at the end, when nothing could be measured on a network.
        SystemExit: at the end, when episodes crashed.
    """
    make_folder(out)
    with open_pool(workers, cluster=cluster) as pool:
        session = EvaluationSession(pool, seeds, out, baseline, plots, sampling, approaches)
        unmeasured: list[str] = []
        for task, policies in zip(tasks, session.policies(names, tasks), strict=True):
            results = session.measure(task, policies)
            if not results:
                unmeasured.append(task.network)
            elif disturbances:
                session.stress(task, policies, results, disturbances)
    if unmeasured and not session.crashed:
        reasons = dict.fromkeys(reason for network in unmeasured for reason in session.left_out[network])
        raise UserError(f"nothing could be measured on {' '.join(unmeasured)}: {'; '.join(reasons)}")
    if session.crashed:
        raise SystemExit(f"{session.crashed} episodes failed (see above); they are missing in {out}")


class EvaluationSession:
    """Evaluates policies on one network after the other.

    Attributes:
        crashed: number of episodes that failed.
        left_out: by network, why policies were left out, a line each.

    Args:
        pool: worker processes.
        seeds: SUMO seeds.
        out: folder with a subfolder for each network.
        baseline: the controller that the others are compared with.
        plots: signals of a corridor, none for the busiest; without, nothing but the map is drawn.
        sampling: measure trained policies a second time, sampling their phases.
        approaches: print each policy's approaches with the most delay.
    """

    def __init__(
        self, pool: Pool, seeds: Sequence[int], out: Path, baseline: str, plots: Sequence[str] | None = None,
        sampling: bool = False, approaches: bool = False,
    ) -> None:  # fmt: skip
        self.pool, self.seeds, self.out, self.baseline, self.plots = pool, seeds, out, baseline, plots
        self.sampling, self.approaches = sampling, approaches
        self.crashed = 0
        self.left_out: dict[str, list[str]] = defaultdict(list)

    @property
    def _n_seeds(self) -> str:
        return f"{len(self.seeds)} seed{'s' if len(self.seeds) > 1 else ''}"

    def policies(self, names: Sequence[str], tasks: Sequence[Task]) -> list[dict[str, Policy]]:
        """Return the policies by their labels, for each task. A policy that lacks some of the networks is left out there.

        Raises:
            UserError: when a policy cannot be had on any network, for the same reason.
        """
        each = [self._policies(names, task) for task in tasks]
        everywhere = set.intersection(*({str(error) for error in missing.values()} for _, missing in each))
        if everywhere:
            raise UserError("; ".join(sorted(everywhere)))
        for task, (_, missing) in zip(tasks, each, strict=True):
            for label, error in missing.items():
                self._leave_out(task, label, error)
        return [policies for policies, _ in each]

    def _policies(self, names: Sequence[str], task: Task) -> tuple[dict[str, Policy], dict[str, UserError]]:
        """Return the policies by their labels, and why others cannot be had."""
        policies: dict[str, Policy] = {}
        missing: dict[str, UserError] = {}
        for name, label in policy_labels(names).items():
            try:
                policy = policies[label] = find_policy(name, task)
                if self.sampling and isinstance(policy, TrainedPolicy):
                    policies[f"{label}, sampling"] = replace(policy, samples=True)
            except UserError as error:
                missing[label] = error
        return policies, missing

    def measure(self, task: Task, policies: Mapping[str, Policy]) -> Results:
        """Play everything undisturbed; print the table, write files and maps, log to MLflow."""
        folder = self.out / file_name(task.network)
        results = self._play(task, policies, folder, task.network)
        if not results:
            return results
        write_results(folder / "metrics.json", task, results)
        picture = folder / "delay_map.png"
        best_first = sorted(results, key=lambda name: statistics.mean(results[name], "delay"))
        played = {name: [episode.seed for episode in results[name]] for name in best_first}
        delay_map.draw(picture, scenario.load(task.network), folder, played)
        title = f"{task.network}: mean over {self._n_seeds}, best delay first"
        minor = tables.left_out_first(tables.result_columns(self.baseline, task.metrics))
        console.show(tables.results_table(title, results, {}, self.baseline, task.metrics), minor)
        for name, of_policy in played.items() if self.approaches else ():
            worst = f"{task.network}, {name}: most delay, mean over {self._n_seeds}"
            console.show(service_tables.worst(worst, folder / file_name(name), of_policy))
        for note in [*notes.from_files(results, folder), *notes.on_programs(task, policies)]:
            logger.info(note)
        plots = self._draw(task, policies, results, folder)
        services = service_tables.write(folder, folder, played)
        _log(task, results, [folder / "metrics.json", folder / "metrics.csv", picture, *services], plots)
        logger.info(f"approaches and their turns: {folder}/{{{','.join(service_tables.NAMES)}}}.csv")
        logger.info(f"metrics: {folder}/metrics.json and .csv, from {folder}/<controller>/tripinfo_<seed>.xml; map: {picture}\n")
        return results

    def _draw(self, task: Task, policies: Mapping[str, Policy], results: Results, folder: Path) -> list[Path]:
        """Draw the engineers' pictures of the policies that were measured on the first seed, if they are wanted."""
        first = self.seeds[0]
        played = {name: policies[name].name for name in results if any(episode.seed == first for episode in results[name])}
        if self.plots is None or not played:
            return []
        files = pictures.draw(folder, task, folder, played, first, self.baseline, self.plots)
        logger.info(f"plots: {folder}/{{{','.join(pictures.NAMES)}}}, .png and .pdf; their numbers: .csv")
        return files

    def stress(self, task: Task, policies: Mapping[str, Policy], undisturbed: Results, disturbances: Sequence[str]) -> None:
        """Measure policies under disturbances and print a table; SUMO's own detectors can only fail for good."""
        results: dict[str, Results] = {UNDISTURBED: undisturbed}
        for name in disturbances:
            disturbed = replace(task, disturbance=find_disturbance(name))
            able = {
                label: policy
                for label, policy in policies.items()
                if label in undisturbed and policy.plays_under(disturbed.disturbance)
            }
            results[name] = self._play(disturbed, able, None, f"{task.network}, {name}")
            path = self.out / file_name(task.network) / f"disturbance_{file_name(name)}.json"
            write_results(path, disturbed, results[name])
        title = f"{task.network}: delay [s] and its ratio to undisturbed, mean over {self._n_seeds}"
        console.show(tables.stress_table(title, results, UNDISTURBED))
        for name in disturbances:
            for note in notes.from_metrics(results[name]):
                logger.info(f"{name}: {note}")

    def _leave_out(self, task: Task, name: str, error: Exception) -> None:
        self.left_out[task.network].append(str(error))
        logger.warning(f"{task.network}: {name} is left out: {error}")

    def _play(self, task: Task, policies: Mapping[str, Policy], out: Path | None, title: str) -> Results:
        reported: set[str] = set()
        with console.progress(title, len(policies) * len(self.seeds)) as progress:

            def watch(name: str, seed: int, error: Exception | None) -> None:
                progress.advance()
                if error is None or str(error) in reported:
                    return
                if is_refusal(error):
                    reported.add(str(error))
                    self._leave_out(task, name, error)
                else:
                    self.crashed += 1
                    last = str(error).strip().splitlines()[-1]
                    logger.warning(f"{task.network}: the episode of {name} with seed {seed} failed: {last}; the others go on")

            return evaluate(self.pool, task, policies, self.seeds, out, watch, trajectories=self.plots is not None)


def _log(task: Task, results: Results, files: Sequence[Path], plots: Sequence[Path]) -> None:
    """Keep the evaluation as a run of the network's experiment."""
    tracker = Tracker(task.network)
    tags = {"kind": "evaluation", "network": task.network} | fingerprint.tags(task.scenario)
    tags |= {PICTURES: ", ".join(results)} if plots else {}
    run = tracker.start(f"evaluation of {', '.join(results)}", tags, {})
    tracker.log(run, comparison_metrics(results, task.metrics), 0)
    tracker.describe(run, tables.markdown(results, task.metrics))
    for path in (*files, *plots):
        tracker.artifact(run, path)
    tracker.end(run, "FINISHED")
