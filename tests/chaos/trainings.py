"""Small trainings on the network cross, and what must come out of them whatever happens on the way."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.chaos.sandbox import Sandbox
from tsc_marl.errors import UserError
from tsc_marl.tracking import checkpoint
from tsc_marl.tracking.run_folder import RunFolder, TrainingFolder

ALGORITHMS = ("mappo", "jointq", "ippo", "qmix", "maddpg", "mat")
NET = ["--network", "cross"]
SMALL = ["--episodes", "4", "--episodes-per-update", "2", "--checkpoint-every", "1", "--eval-seeds", "1"]
SMALL += ["--baselines", "max_pressure", "--workers", "2"]


@dataclass(frozen=True)
class Reference:
    """An undisturbed training."""

    home: Path
    seconds: float
    outcome: dict[str, Any]


def train_line(algorithm: str) -> list[str]:
    return ["train", *NET, "--algos", algorithm, "--seeds", "0", *SMALL]


def make_reference(algorithm: str, folder: Path) -> Reference:
    """Train undisturbed.

    Raises:
        RuntimeError: when that fails; the campaign has no meaning then.
    """
    sandbox, begun = Sandbox(folder), time.monotonic()
    code, text = sandbox.run(train_line(algorithm))
    if code != 0:
        raise RuntimeError(f"an undisturbed training of {algorithm} ended with {code}:\n{text}")
    return Reference(sandbox.home, time.monotonic() - begun, outcome(sandbox.home, algorithm))


def make_export(reference: Reference, folder: Path) -> None:
    """Export an undisturbed training into `out` of a folder.

    Raises:
        RuntimeError: when that fails.
    """
    code, text = Sandbox(folder, reference.home).run(["export", "--out", "out"])
    if code != 0:
        raise RuntimeError(f"an undisturbed export ended with {code}:\n{text}")


def run_folder(home: Path) -> Path | None:
    """Return the newest run that can go on."""
    folders = [path for path in (home / "runs").glob("*") if RunFolder(path).command.is_file()]
    return max(folders, key=lambda path: path.stat().st_mtime, default=None)


def continue_line(home: Path, algorithm: str) -> list[str]:
    """Return the line that goes on with the run of a home, or starts it."""
    folder = run_folder(home)
    return train_line(algorithm) if folder is None else ["train", "--resume", folder.name, "--workers", "2"]


def training(home: Path, algorithm: str) -> TrainingFolder:
    folder = run_folder(home)
    if folder is None:
        raise UserError(f"there is no run in {home}")
    return RunFolder(folder).training(algorithm, 0)


def outcome(home: Path, algorithm: str) -> dict[str, Any]:
    """Return everything that must not depend on faults."""
    own = training(home, algorithm)
    saved = checkpoint.load(own.checkpoint)
    return {
        "episodes": saved.episode,
        "weights": saved.training["weights"],
        "curve": [(row["episode"], row["delay"], row["reward"], row["steps"]) for row in saved.history],
        "evaluation": json.loads(own.evaluation.read_text(encoding="utf-8"))["results"],
    }


def differences(home: Path, algorithm: str, expected: dict[str, Any]) -> list[str]:
    """Return what a training lost against an undisturbed one."""
    try:
        here = outcome(home, algorithm)
    except (UserError, OSError, ValueError, KeyError) as error:
        return [f"no result: {type(error).__name__} {' '.join(str(error).split())[:100]}"]
    return [f"other {part}" for part, value in expected.items() if not same(here[part], value)]


def same(a: Any, b: Any) -> bool:
    """Return whether two values are the same to the last bit, tensors included."""
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        both = isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)
        return both and a.dtype == b.dtype and a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))
