"""What killed processes left: temporary folders, and runs that the tracking store still calls running.

Folders and runs carry the mark of their process (`paths.process_mark`). What has no mark of this machine is left alone.
"""

import logging
import os
import re
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

from tsc_marl.console import make_line
from tsc_marl.paths import TEMPORARY, is_dead, machine, process_mark
from tsc_marl.tracking.run_folder import runs

logger = logging.getLogger(__name__)

HOST, PROCESS = "mlflow.tsc_marl.host", "mlflow.tsc_marl.process"
"""Tags of a run: name of the machine, and mark of the process that writes the run. MLflow hides them, exports leave them out."""


def process_tags() -> dict[str, str]:
    """Return the tags that tell which process writes a run."""
    return {HOST: socket.gethostname(), PROCESS: process_mark(os.getpid())}


def folders() -> list[Path]:
    """Return the temporary folders of processes of this machine that have ended."""
    marked = re.compile(rf"\.?{TEMPORARY}([0-9a-f]+-\d+-\d+)_\w+")
    dead = []
    for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp", str(runs()))):
        if os.path.isdir(parent):
            with os.scandir(parent) as entries:
                matches = ((entry, marked.fullmatch(entry.name)) for entry in entries)
                dead += [Path(entry.path) for entry, match in matches if match and is_dead(match[1])]
    return dead


def remove_folders() -> None:
    """Remove the temporary folders of killed processes, and say so; milliseconds where there are none."""
    removed = [path for path in folders() if not shutil.rmtree(path, ignore_errors=True) and not path.exists()]
    if removed:
        logger.info(f"removed what killed processes had left: {_count(len(removed), 'temporary folder')}")


def dead_runs(client: Any) -> list[Any]:
    """Return the runs that the store calls running, and whose process of this machine has ended."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    mine = f"attributes.status = 'RUNNING' and tags.`{PROCESS}` LIKE '{machine()}-%'"
    running = client.search_runs(experiments, mine) if experiments else []
    return [run for run in running if is_dead(run.data.tags[PROCESS])]


def end_dead_runs(client: Any) -> None:
    """Mark the runs of killed processes as FAILED, and say so."""
    dead = dead_runs(client)
    for run in dead:
        client.set_terminated(run.info.run_id, "FAILED")
    if dead:
        folders = dict.fromkeys(run.data.tags["folder"] for run in dead if "folder" in run.data.tags)
        lines = [make_line("train", RESUME=name) for name in folders]
        resumed = f"; {' or '.join(lines)} goes on" if folders else ""
        logger.info(f"marked as FAILED, since their process was killed: {_count(len(dead), 'run')} in the store{resumed}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number > 1 else ''}"
