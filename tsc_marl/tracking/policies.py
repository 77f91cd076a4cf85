"""Policies by name: a classical controller, `pretrained`, an algorithm (its newest run), a run id, a model, or a file."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tsc_marl import algos, controllers
from tsc_marl.console import make_line
from tsc_marl.errors import UserError, unknown
from tsc_marl.paths import PRETRAINED
from tsc_marl.rollout.policies import ControllerPolicy, Policy, is_portable
from tsc_marl.rollout.task import Task
from tsc_marl.sim import observations
from tsc_marl.sim.scenario import typed
from tsc_marl.tracking import checkpoint, renames
from tsc_marl.tracking.registry import SCHEME
from tsc_marl.tracking.run_folder import CHECKPOINT
from tsc_marl.tracking.stored_runs import IMPORTED, StoredRuns

logger = logging.getLogger(__name__)
SHIPPED = "pretrained"
"""Name of the policy that comes with the program."""
ALL_NETWORKS = "Default"
"""Experiment that every MLflow store has."""
FILES = (".pt", ".safetensors")
"""Endings of files with a policy."""
LISTED = 3
"""Runs in a message."""


def find_policy(name: str, task: Task) -> Policy:
    """Return a policy by name.

    Other signal timing than that of the training is a note: whoever chooses a timing may measure it. Other signals are an
    error, unless the policy is portable: the numbers of phases and lanes would mean something else. Files of earlier versions
    do not say their signals.

    Args:
        name: a controller, `pretrained`, an algorithm, a run id, a model (`models:/…`), or a checkpoint file.
        task: network and signal timing of the episodes.

    Raises:
        UserError: when there is none, with the names that exist; when it learned on other signals.
    """
    if controllers.exists(name):
        return ControllerPolicy(name)
    saved = checkpoint.load(find_checkpoint(name, task.network))
    policy = saved.policy(task.network)
    policy.task_for(task)
    here = asdict(task.timing)
    values = {key: f"{key} {value}" for key, value in saved.timing.items()}
    differ = {key: f"{values[key]} (here {here.get(key)})" for key, value in saved.timing.items() if value != here.get(key)}
    if policy.portable:
        learned = f"{task.network}: the policy of {name} learned in {saved.origin}: {', '.join((values | differ).values())}"
        logger.log(logging.WARNING if differ else logging.INFO, learned)
        return policy
    if differ:
        logger.warning(
            f"note: the policy of {name} learned with other signal timing: {', '.join(differ.values())}; --timing chooses it"
        )
    if policy.signals is None:
        logger.warning(f"note: the policy of {name} is of an earlier version, so nobody knows whether its signals were the same")
    return policy


def needs_network(name: str) -> bool:
    """Return whether a policy's name means one on each network: an algorithm's, not that of a file, a run id or a model."""
    return not (name == SHIPPED or name.startswith(SCHEME) or name.endswith(FILES) or len(name) == 32 or Path(name).is_file())


def find_checkpoint(name: str, network: str) -> Path:
    """Return a checkpoint: `pretrained`, or of an algorithm (its newest finished run on the network), a run id, a model, a file.

    Raises:
        UserError: when there is none, with the names that exist.
    """
    if controllers.exists(name):
        raise UserError(f"{name} is a classical controller, which has no checkpoint; give a trained policy, such as jointq")
    if name == SHIPPED:
        return PRETRAINED
    if Path(name).is_file() or name.endswith(FILES):
        return Path(name)
    if name.startswith(SCHEME):
        store = StoredRuns(network)
        return store.download(store.run_of_model(name), CHECKPOINT)
    if ":" in name or name.partition("-")[0] in algos.available():
        return _newest(renames.variant(name), network)
    if len(name) != 32 or set(name) - set("0123456789abcdef"):
        raise unknown("controller", name, [*controllers.available(), SHIPPED, *algos.available()])
    return StoredRuns(network).download(name, CHECKPOINT)


def _newest(algorithm: str, network: str) -> Path:
    """Return the checkpoint of an algorithm's newest finished run; a run of an earlier version may have its old name."""
    store = StoredRuns(network)
    names = [algorithm, *(old for old, today in renames.VARIANTS.items() if today == algorithm)]
    finished = [run for run in store.finished() if run.data.tags.get("algorithm") in names]
    with_checkpoint = [run for run in finished if IMPORTED not in run.data.tags]
    if not with_checkpoint:
        what = "no run with a checkpoint, only imported ones," if finished else "no finished run"
        line = make_line("train", NET=typed(network), ALGOS=algorithm)
        raise UserError(f"{what} of {algorithm} on {network}; train one: {line}{_elsewhere(names)}")
    return store.download(with_checkpoint[0].info.run_id, CHECKPOINT)


def _elsewhere(names: Sequence[str]) -> str:
    """Return the end of a message: the newest runs of some algorithms on other networks whose policies drive any."""
    store = StoredRuns(ALL_NETWORKS)
    runs = [f"{run.info.run_id} ({network})" for network in store.experiments() for run in _portable(network, names)]
    return f"; or give the id of a run that drives any network: {', '.join(runs[:LISTED])}" if runs else ""


def _portable(network: str, names: Sequence[str]) -> list[Any]:
    """Return the finished runs on a network whose policies drive any network."""
    runs = [run for run in StoredRuns(network).finished() if run.data.tags.get("algorithm") in names]
    settings = [(run, run.data.params.get("sim.observation", ""), run.data.params.get("algo.sharing", "")) for run in runs]
    return [
        run
        for run, observation, sharing in settings
        if observation in observations.available() and is_portable(observation, sharing) and IMPORTED not in run.data.tags
    ]


def policy_labels(names: Sequence[str]) -> dict[str, str]:
    """Return the label of each policy in tables: its name, or the shortest end of its path that is unique.

    The file name `checkpoint.pt`, which all trainings use, is left out: `mappo-s0` for runs/x/mappo-s0/checkpoint.pt.
    """
    paths = {name: Path(name).resolve() for name in names if Path(name).is_file()}
    parts = {name: path.parent.parts if path.name == CHECKPOINT else path.with_suffix("").parts for name, path in paths.items()}
    labels: dict[str, str] = {}
    for depth in range(1, max(map(len, parts.values()), default=0) + 2):
        labels = {name: "_".join(parts[name][-depth:]).strip("/") if name in parts else name for name in names}
        if len(set(labels.values())) == len(labels):
            break
    return labels
