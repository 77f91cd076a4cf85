"""Policies by name: a classical controller, an algorithm with its newest finished run, a run id, or a checkpoint file."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tsc_marl import algos, controllers
from tsc_marl.errors import UserError, unknown
from tsc_marl.rollout.policies import ControllerPolicy, Policy
from tsc_marl.rollout.task import Task
from tsc_marl.tracking import checkpoint, renames
from tsc_marl.tracking.run_folder import CHECKPOINT
from tsc_marl.tracking.stored_runs import IMPORTED, StoredRuns

logger = logging.getLogger(__name__)


def find_policy(name: str, task: Task) -> Policy:
    """Return a policy by name.

    Other signal timing than that of the training is a note: whoever chooses a timing may measure it. Other signals are an
    error: the numbers of phases and lanes would mean something else. Files of earlier versions do not say their signals.

    Args:
        name: a controller, an algorithm, a run id, or a checkpoint file.
        task: network and signal timing of the episodes.

    Raises:
        UserError: when there is none, with the names that exist; when it learned on other signals.
    """
    if controllers.exists(name):
        return ControllerPolicy(name)
    saved = checkpoint.load(find_checkpoint(name, task.network))
    here = asdict(task.timing)
    differences = ", ".join(
        f"{key} {value} (here {here.get(key)})" for key, value in saved.timing.items() if value != here.get(key)
    )
    if differences:
        logger.warning(f"note: the policy of {name} learned with other signal timing: {differences}; --timing chooses it")
    policy = saved.policy(task.network)
    if policy.signals is None:
        logger.warning(f"note: the policy of {name} is of an earlier version, so nobody knows whether its signals were the same")
    policy.task_for(task)
    return policy


def find_checkpoint(name: str, network: str) -> Path:
    """Return a checkpoint by name: of an algorithm (its newest finished run on the network), a run id, or a file.

    Raises:
        UserError: when there is none, with the names that exist.
    """
    if controllers.exists(name):
        raise UserError(f"{name} is a classical controller, which has no checkpoint; give a trained policy, such as jointq")
    if Path(name).is_file() or Path(name).suffix == ".pt":
        return Path(name)
    if ":" in name or name.partition("-")[0] in algos.available():
        return _newest(renames.variant(name), network)
    if len(name) != 32 or set(name) - set("0123456789abcdef"):
        raise unknown("controller", name, [*controllers.available(), *algos.available()])
    return StoredRuns(network).download(name, CHECKPOINT)


def _newest(algorithm: str, network: str) -> Path:
    """Return the checkpoint of an algorithm's newest finished run; a run of an earlier version may have its old name."""
    store = StoredRuns(network)
    names = [algorithm, *(old for old, today in renames.VARIANTS.items() if today == algorithm)]
    finished = [run for run in store.finished() if run.data.tags.get("algorithm") in names]
    with_checkpoint = [run for run in finished if IMPORTED not in run.data.tags]
    if not with_checkpoint:
        what = "no run with a checkpoint, only imported ones," if finished else "no finished run"
        raise UserError(f"{what} of {algorithm} on {network}; train one: make train NET={network} ALGOS={algorithm}")
    return store.download(with_checkpoint[0].info.run_id, CHECKPOINT)


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
