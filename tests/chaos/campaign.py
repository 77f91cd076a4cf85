"""Rows of the campaign: trials, chosen by the seed, and what they lost."""

import random
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

V = TypeVar("V")


@dataclass(frozen=True)
class Settings:
    """What all rows share."""

    seed: int
    folder: Path
    lanes: int
    """Trials side by side."""
    deadline: float
    """On `time.monotonic`; no trial starts after it."""
    trials: Sequence[int] = ()
    """Run these alone."""
    share: float = 1.0
    """Share of the trials of each row."""

    @property
    def exported(self) -> Path:
        """Folder of an export of an undisturbed training."""
        return self.folder / "undisturbed_export" / "out"

    def takes(self, number: int) -> bool:
        """Return whether a trial is to be run."""
        return not self.trials or number in self.trials

    def choices(self, row: str) -> random.Random:
        return random.Random(f"{self.seed} {row}")

    def count(self, number: int) -> int:
        return max(1, round(number * self.share))


@dataclass
class Row:
    """Outcome of a row: each trial held, or lost something."""

    name: str
    planned: int
    tried: int = 0
    """Faults that were set: a trial may have several."""
    losses: dict[int, list[str]] = field(default_factory=dict)
    """By the number of the trial."""
    weight: dict[int, int] = field(default_factory=dict)

    def add(self, number: int, faults: int, losses: Sequence[str]) -> None:
        self.tried += faults
        if losses:
            self.losses[number], self.weight[number] = list(losses), faults
            print("\n".join(f"{self.name} {number}: {loss}" for loss in losses), flush=True)

    @property
    def held(self) -> int:
        return self.tried - sum(self.weight.values())

    def summary(self) -> list[str]:
        """Return the kinds of losses, the most frequent first."""
        kinds = Counter(loss for losses in self.losses.values() for loss in losses)
        return [f"{loss} ({number} x)" for loss, number in kinds.most_common()]


class Lazily(Generic[V]):
    """Values by name, each made once at its first use, also when threads ask side by side."""

    def __init__(self, make: Callable[[str], V]) -> None:
        self._make, self._values, self._locks = make, dict[str, V](), defaultdict[str, Lock](Lock)

    def __getitem__(self, name: str) -> V:
        with self._locks[name]:
            if name not in self._values:
                self._values[name] = self._make(name)
            return self._values[name]


Trial = Callable[[], tuple[int, list[str]]]
"""Runs one trial; returns how many faults it set, and what was lost."""


def run_side_by_side(row: Row, trials: Iterable[Trial], settings: Settings) -> Row:
    """Run trials in threads, each with its processes in a home of its own, until the time is up."""
    waiting = _numbered(trials, settings)
    with ThreadPoolExecutor(settings.lanes) as pool:
        running: dict[Future, int] = {}
        while True:
            while len(running) < settings.lanes and time.monotonic() < settings.deadline:
                following = next(waiting, None)
                if following is None:
                    break
                running[pool.submit(_guarded, following[1])] = following[0]
            if not running:
                return row
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                row.add(running.pop(done), *done.result())


def _numbered(trials: Iterable[Trial], settings: Settings) -> Iterator[tuple[int, Trial]]:
    for number, trial in enumerate(trials):
        if settings.takes(number):
            yield number, trial


def _guarded(trial: Trial) -> tuple[int, list[str]]:
    """A trial whose own code fails counts as a loss: something was not as it must be."""
    try:
        return trial()
    except Exception as error:
        traceback.print_exc()
        return 1, [f"the trial broke off: {type(error).__name__}: {' '.join(str(error).split())[:120]}"]
