"""Final policies and classical controllers on the same held-out seeds."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from tsc_marl import algos, controllers
from tsc_marl.errors import UserError, unknown
from tsc_marl.rollout.pool import Failure, Pool
from tsc_marl.rollout.types import Job, Policy, RolloutResult, Task
from tsc_marl.sim.env import SimConfig
from tsc_marl.sim.signal_timing import Timing
from tsc_marl.tracking.store import IMPORTED, Tracker

Results = dict[str, list[dict[str, float | int]]]

CHECKPOINT = "checkpoint.pt"
FORMAT = 2
FIELDS = {"network", "algorithm", "seed", "sim", "signal", "config", "training", "episode", "history", "mlflow_id"}
"""What a checkpoint holds beside its format."""


def evaluate(
    pool: Pool, task: Task, policies: Mapping[str, Policy], seeds: Sequence[int], out: Path | None = None,
    watch: Callable[[str, int, Exception | None], None] | None = None,
) -> Results:  # fmt: skip
    """Play every policy greedily on every SUMO seed, in parallel.

    Args:
        pool: worker processes.
        task: network, timing, demand, disturbance, and what policies see that do not know it themselves.
        policies: by the name they get in the results.
        seeds: SUMO seeds.
        out: keep SUMO's own files in `out/<name>/`.
        watch: told of each episode as it ends: policy, seed, and the error if there was one, whose episode is then left
            out. Without it, an error is raised.

    Returns per policy the figures (`sim.metrics`) of each seed, in the order of the seeds.
    """
    pairs = [(name, seed) for name in policies for seed in seeds]
    jobs = [
        Job(
            i,
            policies[name].task_for(task),
            policies[name],
            seed,
            out=out / name if out is not None else None,
            measure_approaches=True,
        )
        for i, (name, seed) in enumerate(pairs)
    ]
    found: dict[int, dict[str, float]] = {}
    for outcome in pool.run_with_failures(jobs):
        error = outcome.error if isinstance(outcome, Failure) else None
        if error is not None and watch is None:
            raise error
        if isinstance(outcome, RolloutResult):
            found[outcome.job.episode] = outcome.metrics
        if watch is not None:
            watch(*pairs[outcome.job.episode], error)
    results: Results = {name: [] for name in policies}
    for i, (name, seed) in enumerate(pairs):
        if i in found:
            results[name].append({"seed": seed, **found[i]})
    return {name: rows for name, rows in results.items() if rows}


def write_results(path: Path, task: Task, results: Results) -> None:
    """Write the figures of every episode as JSON and, a row each, as CSV, with what they were measured on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {**_measured_on(task), "results": results}
    path.write_text(json.dumps(content, indent=1))
    rows = [{"network": task.network, "controller": name, **row} for name, episodes in results.items() for row in episodes]
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


def load_matching_results(path: Path, task: Task, names: Sequence[str], seeds: Sequence[int]) -> Results:
    """Return what a file that `write` wrote has of these controllers, where it is of the same task and seeds; else nothing."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text())
    except ValueError:  # cut short
        return {}
    results: Results = content.pop("results")
    if content != json.loads(json.dumps(_measured_on(task))):
        return {}
    return {name: results[name] for name in names if [row["seed"] for row in results.get(name, [])] == list(seeds)}


def _measured_on(task: Task) -> dict[str, Any]:
    parts = {"signal": task.timing, "sim": task.sim, "demand": task.demand, "stress": task.disturbance}
    return {"network": task.network, "sumo": version("eclipse-sumo")} | {name: asdict(part) for name, part in parts.items()}


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        UserError: when the file is missing, cut short, or no checkpoint of ours.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist")
    try:
        content = torch.load(path, weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise UserError(
            f"checkpoint {path} cannot be read ({type(error).__name__}): it is damaged or cut short; use another"
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT or not content.keys() >= FIELDS:
        raise UserError(f"checkpoint {path} is not of this program (expected format {FORMAT}); train again")
    return content


def policy_from_checkpoint(checkpoint: dict[str, Any], network: str) -> Policy:
    """Return the trained policy of a checkpoint.

    Raises:
        UserError: when it was trained on another network, or has settings unknown here.
    """
    name, settings = checkpoint["algorithm"], checkpoint["config"]
    if checkpoint["network"] != network:
        raise UserError(f"the policy of {name} was trained on {checkpoint['network']}, not {network}; use the same")
    kind = algos.find(name).Config
    for given, known in ((settings, kind), (checkpoint["sim"], SimConfig), (checkpoint["signal"], Timing)):
        strange = given.keys() - {field.name for field in fields(known)}
        if strange:
            raise UserError(f"the policy of {name} has a setting {min(strange)} that this version does not know; train again")
    return Policy(name, kind(**settings), checkpoint["training"]["weights"], SimConfig(**checkpoint["sim"]))


def policy_labels(names: Sequence[str]) -> dict[str, str]:
    """Return what each policy is called in tables and folders: its name, or as much of its checkpoint's path as tells it apart.

    An import path `package.module:Name` has a dot for its colon, which SUMO does not allow in the name of a file.
    The file name `checkpoint.pt`, which all trainings use, is left out: `mappo-s0` for runs/x/mappo-s0/checkpoint.pt.
    """
    paths = {name: Path(name).resolve() for name in names if Path(name).is_file()}
    parts = {name: path.parent.parts if path.name == CHECKPOINT else path.with_suffix("").parts for name, path in paths.items()}
    found: dict[str, str] = {}
    for depth in range(1, max(map(len, parts.values()), default=0) + 2):
        found = {name: "_".join(parts[name][-depth:]).strip("/") if name in parts else name.replace(":", ".") for name in names}
        if len(set(found.values())) == len(found):
            break
    return found


def find_policy(name: str, task: Task, say: Callable[[str], Any] = print) -> Policy:
    """Return a policy by name: a classical controller, an algorithm (its newest finished run), a run id, or a file.

    Args:
        name: of it.
        task: where it is to play.
        say: told when it learned with other signal timing.

    Raises:
        UserError: when there is none, with the names there are.
    """
    if controllers.exists(name):
        return Policy(name)
    saved = load_checkpoint(find_checkpoint(name, task.network))
    here = asdict(task.timing)
    differ = ", ".join(
        f"{key} {value} (here {here.get(key)})" for key, value in saved["signal"].items() if value != here.get(key)
    )
    if differ:
        say(f"note: the policy of {name} learned with other signal timing: {differ}; --timing chooses it")
    return policy_from_checkpoint(saved, task.network)


def find_checkpoint(name: str, network: str) -> Path:
    """Return a checkpoint by name: of an algorithm (its newest finished run on the network), a run id, or a file.

    Raises:
        UserError: when there is none, with the names there are.
    """
    if controllers.exists(name):
        raise UserError(f"{name} is a classical controller, which has no checkpoint; give a trained policy, such as jointq")
    if Path(name).is_file() or Path(name).suffix == ".pt":
        return Path(name)
    if ":" in name or name.partition("-")[0] in algos.available():
        found = Tracker(network).finished(f"tags.algorithm = '{name}'")
        runs = [run for run in found if IMPORTED not in run.data.tags]
        if not runs:
            what = "no run with a checkpoint, only imported ones," if found else "no finished run"
            raise UserError(f"{what} of {name} on {network}; train one: make train NET={network} ALGOS={name}")
        name = runs[0].info.run_id
    elif len(name) != 32 or set(name) - set("0123456789abcdef"):
        raise unknown("controller", name, [*controllers.available(), *algos.available()])
    return Tracker(network).download(name, CHECKPOINT)
