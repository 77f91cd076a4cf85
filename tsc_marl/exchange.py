"""Finished trainings as files, a file each: to publish them, or to bring those of several machines together in one store.

A file has everything that `compare` and `report` read: tags, settings, every curve, the figures of every evaluation episode.
It has no checkpoint.
"""

import gzip
import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from tsc_marl import report
from tsc_marl.compare import Choice
from tsc_marl.errors import UserError
from tsc_marl.track import EVALUATION, Tracker, home

FORMAT = 1
SUFFIX = ".json.gz"


def write(network: str, choice: Choice, out: Path) -> int:
    """Write the finished trainings of a network as `out/<network>/<folder of the run>.json.gz`.

    Those that were trained by one command are one file; one that was written before is written anew.

    Returns how many files there are now to read.

    Raises:
        UserError: when there are none, or the folder cannot be written.
    """
    tracker = Tracker(network)
    families: dict[str, list[str]] = defaultdict(list)
    for run in tracker.finished(choice.where):
        if choice.takes(run.data.tags) and "eval/delay" in run.data.metrics and "mlflow.parentRunId" in run.data.tags:
            families[run.data.tags["mlflow.parentRunId"]].append(run.info.run_id)
    for parent, children in families.items():
        content = {"format": FORMAT, "network": network, **_told(tracker, parent)}
        content["trainings"] = [_told(tracker, child) for child in reversed(children)]
        path = out / network / f"{content['run']['tags']['folder']}{SUFFIX}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(json.dumps(content).encode(), mtime=0))  # the same content, the same bytes
        except OSError as error:
            raise UserError(f"trainings cannot be written to {path} ({error.strerror}); give another folder with --out") from None
    return len(families)


def _told(tracker: Tracker, run_id: str) -> dict[str, Any]:
    return {"run": tracker.record(run_id), "evaluation": json.loads(tracker.download(run_id, EVALUATION).read_text())}


def read(folder: Path) -> tuple[int, int]:
    """Bring the trainings in a folder, and in those within it, into the store; those that are there already stay as they are.

    Returns how many files were taken in, and how many were there already.

    Raises:
        UserError: when there is no such file, or one is none of `write`'s; nothing of that one is kept.
    """
    paths = sorted(folder.rglob(f"*{SUFFIX}"))
    if not paths:
        raise UserError(f"no trainings (files *{SUFFIX}) in {folder}; give the folder of an export with --folder")
    taken = 0
    contents = [_content(path) for path in paths]
    for content in contents:
        own = home() / "runs" / content["run"]["tags"]["folder"]
        if own.exists():
            continue
        _restore(content)
        own.mkdir(parents=True)
        (own / EVALUATION).write_text(json.dumps(content["evaluation"], indent=1))
        taken += 1
    return taken, len(paths) - taken


def _content(path: Path) -> dict[str, Any]:
    """Return what a file holds, as far as can be told before it is used."""
    try:
        content = json.loads(gzip.decompress(path.read_bytes()))
        if content["format"] != FORMAT:
            raise UserError(f"{path} is of another version of this program (format {content['format']}, not {FORMAT})")
        for part in (content, *content["trainings"]):
            if not part["evaluation"]["results"] or not part["run"].keys() >= {"name", "start_ms", "end_ms", "params", "metrics"}:
                raise KeyError("run")
        name = content["run"]["tags"]["folder"]
        if Path(name).name != name:
            raise ValueError(f"{name} is no name of a run")
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{path} is no exported training ({reason}); leave it out, or export it again") from None
    return content


def _restore(content: dict[str, Any]) -> None:
    tracker = Tracker(content["network"])
    parent = None
    for part in (content, *content["trainings"]):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / EVALUATION
            path.write_text(json.dumps(part["evaluation"], indent=1))
            made = tracker.restore(part["run"], path, report.markdown(part["evaluation"]["results"]), parent)
        parent = parent or made
