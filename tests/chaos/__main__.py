"""Run the campaign: `python -m tests.chaos [--seed 0] [--minutes 20] [--only kills] [--trial 17] [--share 0.1]`.

A row tries faults and counts what held. The seed chooses all faults, so `--seed`, `--only` and `--trial` repeat one of them.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from tests.chaos.campaign import Row

os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet", "MPLBACKEND": "agg"}

SHARES = {"damage": 0.12, "fuzz": 0.32, "kills": 0.75, "store": 0.9, "disk": 1.0}
"""Rows in their order; each ends by this share of the time."""


@dataclass(frozen=True)
class Options:
    seed: int = 0
    """Chooses all faults."""
    minutes: float = 20
    """Longest time; a row that it cuts short says so."""
    only: tuple[Literal["damage", "fuzz", "kills", "store", "disk"], ...] = ()
    """Rows to run; by default all."""
    trial: tuple[int, ...] = ()
    """Numbers of single trials of a row, to repeat them."""
    share: float = 1.0
    """Share of the trials of each row."""
    lanes: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Trials side by side."""


def main(options: Options) -> int:
    """Run the rows in a folder of their own; return 1 when anything was lost. Stopped, it ends what it has started."""
    from tests.chaos import sandbox

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="chaos_"))
    print(f"campaign with seed {options.seed} in {folder}", flush=True)
    try:
        rows = _run(options, folder)
    except BaseException as error:
        sandbox.clear(folder)
        if isinstance(error, KeyboardInterrupt):
            os._exit(130)  # threads still wait for what has just ended
        raise
    sandbox.clear(folder)
    _show(rows, options)
    if any(row.losses for row in rows.values()):
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def _run(options: Options, folder: Path) -> "dict[str, Row]":
    from tests.chaos import damage, disk, fuzz, kills, store
    from tests.chaos.campaign import Lazily, Settings
    from tests.chaos.trainings import ALGORITHMS, make_export, make_reference

    _import_everything()
    chosen = [name for name in SHARES if name in (options.only or SHARES)]
    references = Lazily(lambda name: make_reference(name, folder / f"undisturbed_{name}"))
    first = ALGORITHMS[0]
    make_export(references[first], folder / "undisturbed_export")
    begun = time.monotonic()
    rows: dict[str, Callable[[Settings], Row]] = {
        "damage": lambda settings: damage.run(settings, references[first], first),
        "fuzz": lambda settings: fuzz.run(settings, references[first].home),
        "kills": lambda settings: kills.run(settings, references),
        "store": lambda settings: store.run(settings, references),
        "disk": lambda settings: disk.run(settings, references),
    }
    done: dict[str, Row] = {}
    for name in chosen:
        share = SHARES[name] if len(chosen) == len(SHARES) else (chosen.index(name) + 1) / len(chosen)
        deadline = begun + 60 * options.minutes * share
        done[name] = rows[name](Settings(options.seed, folder, options.lanes, deadline, options.trial, options.share))
        print(f"{name}: {done[name].held} of {done[name].tried} held, {(time.monotonic() - begun) / 60:.1f} min", flush=True)
    return done


def _import_everything() -> None:
    """Import what verbs import, once for all forked children; torch with one thread, which a fork survives."""
    import matplotlib.pyplot  # noqa: F401
    import mlflow
    import torch

    import tsc_marl.analysis.compare
    import tsc_marl.evaluation.session
    import tsc_marl.report.archive
    import tsc_marl.report.build
    import tsc_marl.training.study  # noqa: F401

    torch.set_num_threads(1)
    mlflow.MlflowClient  # noqa: B018 - its module is imported when it is first named
    random.seed(0)


def _show(rows: Mapping[str, "Row"], options: Options) -> None:
    table = Table(title="faults", title_justify="left")
    for title in ("row", "planned", "tried", "held"):
        table.add_column(title, justify="left" if title == "row" else "right")
    table.add_column("what was lost", overflow="fold")
    lines = []
    for name, row in rows.items():
        kinds = row.summary()
        table.add_row(name, f"{row.planned:,}", f"{row.tried:,}", f"{row.held:,}", f"{len(kinds)} kinds" if kinds else "nothing")
        lines += [f"{name}: {kind}" for kind in kinds]
        lines += [
            f"again: python -m tests.chaos --seed {options.seed} --share {options.share} --only {name} --trial {number}"
            for number in list(row.losses)[:10]
        ]
    Console(width=None if sys.stdout.isatty() else 130, highlight=False, markup=False).print(table)
    print("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
