"""Does a process grow with the episodes that it plays? Memory, open files and temporary space of the pool's process and servers.

`PYTHONPATH=tests python -m helpers.growth 2000` plays as many episodes of 20 s on `cross` and prints a line per tenth of them.
"""

import os
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing.util import get_temp_dir
from pathlib import Path

from tsc_marl.paths import NETWORKS
from tsc_marl.rollout.policies import ControllerPolicy
from tsc_marl.rollout.pool import Pool
from tsc_marl.rollout.task import Task
from tsc_marl.rollout.types import Job

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """What this process and those of its children that live on hold."""

    episodes: int
    memory_bytes: int
    open_files: int
    temporary_bytes: int


def usage(episodes: int, temporary: Path, left_out: list[int]) -> Usage:
    pids = [pid for pid in family(os.getpid()) if pid not in left_out]
    memory = sum(int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]) * PAGE_BYTES for pid in pids)
    files = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)
    return Usage(episodes, memory, files, sum(path.stat().st_size for path in temporary.rglob("*") if path.is_file()))


def family(pid: int) -> list[int]:
    """Return a process, and its children and theirs."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    return [pid, *(other for child in children for other in family(int(child)))]


def short_network(folder: Path) -> Path:
    """Write `cross` with a window of 20 s."""
    folder.mkdir()
    for path in (NETWORKS / "cross").glob("*.xml"):
        (folder / path.name).write_bytes(path.read_bytes())
    text = (NETWORKS / "cross" / "scenario.yaml").read_text(encoding="utf-8").replace("end_s: 600", "end_s: 20")
    (folder / "scenario.yaml").write_text(text, encoding="utf-8")
    return folder


def play(episodes: int, every: int, folder: Path) -> list[Usage]:
    """Play episodes by one worker, and return what the processes hold after every so many."""
    temporary, task = folder / "temporary", Task(str(short_network(folder / "short")))
    temporary.mkdir()
    tempfile.tempdir = os.environ["TMPDIR"] = str(temporary)
    jobs = (Job(i, task, ControllerPolicy("max_pressure"), 1000 + i) for i in range(episodes))
    with Pool(1) as pool:
        played = (i for i, _ in enumerate(pool.run(jobs), 1))
        return [usage(i, temporary, pool.pids) for i in played if i % every == 0]


if __name__ == "__main__":
    number = int(sys.argv[1])
    get_temp_dir()  # that of multiprocessing outlives the folder below
    with tempfile.TemporaryDirectory() as place:
        for line in play(number, number // 10, Path(place)):
            print(line)
