"""Service of approaches and movements over all episodes of an evaluation, as CSV and as a table."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from tsc_marl.console import shortened
from tsc_marl.evaluation.tables import Column, Row, number, terminal_table
from tsc_marl.paths import file_name
from tsc_marl.sim import service
from tsc_marl.sim.metrics.worst_approach import USED_VEH
from tsc_marl.sim.service import ALL, BEHIND, Service

NAMES = ("approaches", "movements")
"""Files, without their suffix."""
NOT_OF_APPROACHES = ("turn", "capacity_veh_h")
MOST_ROWS = 10
COLUMNS = (
    Column("signal", "signal", lambda name: shortened(name, 16)),
    Column("approach", "from"),
    Column("vehicles", "veh", number(".0f")),
    Column("delay_s", "delay\n[s]", number(".1f")),
    Column("level", "LOS"),
    Column("queue", "95 % queue\n/ room [veh]"),
    Column("v_c", "v/c", number(".2f")),
)


def write(folder: Path, files: Path, seeds: Mapping[str, Sequence[int]]) -> list[Path]:
    """Write `approaches.csv` and `movements.csv`, a row for each policy, seed and approach or movement; return the files.

    Args:
        folder: for both.
        files: folder with SUMO's files of each policy, named by `file_name`.
        seeds: by policy those of its episodes.
    """
    paths = [folder / f"{name}.csv" for name in NAMES]
    shown = [[name for name in service.COLUMNS if name not in NOT_OF_APPROACHES], service.COLUMNS]
    for path, columns in zip(paths, shown, strict=True):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ("policy", "seed", *columns), extrasaction="ignore")
            writer.writeheader()
            for policy, seed in ((policy, seed) for policy, some in seeds.items() for seed in some):
                with service.file_of(files / file_name(policy), seed).open(newline="", encoding="utf-8") as episode:
                    for row in csv.DictReader(episode):
                        if (row["turn"] == ALL) == (columns is shown[0]) or row["approach"] == BEHIND:
                            writer.writerow({"policy": policy, "seed": seed, **row})
    return paths


def worst(title: str, files: Path, seeds: Sequence[int]) -> Table:
    """Return a policy's approaches with the largest control delay, of those to which `USED_VEH` vehicles came in an episode.

    Args:
        title: above the table.
        files: folder with SUMO's files of the policy.
        seeds: of its episodes, over which the numbers are means.
    """
    episodes = [service.read(service.file_of(files, seed)) for seed in seeds]
    approaches = [rows for rows in zip(*episodes, strict=True) if rows[0].turn == ALL and rows[0].approach != BEHIND]
    rows = [_mean(rows) for rows in approaches if np.mean([row.vehicles + row.unserved for row in rows]) >= USED_VEH]
    rows.sort(key=lambda row: -row["delay_s"])
    return terminal_table(title, COLUMNS, rows[:MOST_ROWS])


def _mean(rows: Sequence[Service]) -> Row:
    """Return a row of the table; the delay is that of all vehicles of all episodes."""
    vehicles, lost_s, p95, v_c = (
        float(np.mean([getattr(row, name) for row in rows])) for name in ("vehicles", "lost_s", "queue_p95", "v_c")
    )
    delay_s = lost_s / vehicles if vehicles else float("inf")
    queue = f"{p95:.0f} / {rows[0].storage_veh:.0f}"
    place = {"signal": rows[0].signal, "approach": rows[0].approach}
    return place | {"vehicles": vehicles, "delay_s": delay_s, "level": service.level(delay_s), "queue": queue, "v_c": v_c}
