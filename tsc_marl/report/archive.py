"""Archive of finished trainings: export to files, to publish them or to move them to another store, and import.

A file holds the run of one command, without checkpoints: tags, settings, curves, and the metrics of every evaluation
episode. `compare` and `report` need no more.
"""

import gzip
import json
import logging
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from tsc_marl import console
from tsc_marl.analysis.compare import RunFilter
from tsc_marl.errors import UserError
from tsc_marl.evaluation import tables
from tsc_marl.evaluation.evaluate import results_from
from tsc_marl.paths import file_name, temporary_folder
from tsc_marl.report import archive_page
from tsc_marl.report.archive_file import FORMAT, SUFFIX, read_file
from tsc_marl.tracking.run_folder import EVALUATION, RunFolder
from tsc_marl.tracking.stored_runs import StoredRuns

logger = logging.getLogger(__name__)


def write(networks: Sequence[str], choice: RunFilter, out: Path, command: str) -> int:
    """Write finished trainings as `out/<network>/<run>.json.gz`, and their tables as `out/README.md`.

    A file holds all trainings of one command, even if the filter takes some of them; an existing file is overwritten.
    README.md keeps the tables of networks that this export does not write.

    Args:
        networks: names of networks; empty for all.
        choice: filter of the trainings.
        out: the folder.
        command: the line that writes them again; it stands in README.md.

    Returns the number of files.

    Raises:
        UserError: when there are none, or the folder cannot be written.
    """
    networks = networks or [name for name in StoredRuns("Default").experiments() if name != "Default"]
    contents = {network: _contents(network, choice) for network in networks}
    files = [content for families in contents.values() for content in families.values()]
    exported = {training["run"]["tags"]["algorithm"] for content in files for training in content["trainings"]}
    missing = [name for name in choice.algos if name not in exported]
    if missing or not exported:
        of = f" of {', '.join(missing)}" if missing else ""
        raise UserError(f"no finished training{of} on {', '.join(networks) or 'any network'} is chosen; train one: make train")
    path = out
    try:
        for network, families in contents.items():
            for name, content in families.items():
                path = out / file_name(network) / f"{file_name(name)}{SUFFIX}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(gzip.compress(json.dumps(content).encode(), mtime=0))  # the same content, the same bytes
        path = out / "README.md"
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        sections = {network: archive_page.section(network, choice) for network, families in contents.items() if families}
        path.write_text(archive_page.text(sections, command, before), encoding="utf-8")
    except OSError as error:
        raise UserError(f"trainings cannot be written to {path} ({error.strerror}); give another folder with --out") from None
    return len(files)


def _contents(network: str, choice: RunFilter) -> dict[str, dict[str, Any]]:
    """Return the content of each file, by the name of the run's folder."""
    store = StoredRuns(network)
    chosen = {run.data.tags.get("mlflow.parentRunId") for run in store.finished(choice.where) if choice.takes(run.data.tags)}
    families: dict[str, list[str]] = defaultdict(list)
    for run in store.finished():
        parent = run.data.tags.get("mlflow.parentRunId")
        if parent in chosen and parent and "eval/delay" in run.data.metrics:
            families[parent].append(run.info.run_id)
    contents = {}
    for parent, children in families.items():
        content = {"format": FORMAT, "network": network, **_record(store, parent)}
        content["trainings"] = [_record(store, child) for child in reversed(children)]
        contents[content["run"]["tags"]["folder"]] = content
    return contents


def _record(store: StoredRuns, run_id: str) -> dict[str, Any]:
    return {"run": store.record(run_id), "evaluation": store.evaluation(run_id)}


def read(folder: Path) -> tuple[int, int]:
    """Import the trainings of a folder and its subfolders into the store; those that the store has stay as they are.

    Args:
        folder: folder of an export.

    Returns the number of imported files, and that of files left out: the store has their run, or it is being trained here.

    Raises:
        UserError: when the folder has no export, or a file is damaged; nothing is imported then. Also when the store refuses
            a file; nothing of that file is kept then.
    """
    paths = sorted(folder.rglob(f"*{SUFFIX}"))
    if not paths:
        raise UserError(f"no trainings (files *{SUFFIX}) in {folder}; give the folder of an export with --folder")
    contents = [read_file(path) for path in paths]
    stores = {network: StoredRuns(network, writes=True) for network in {content["network"] for content in contents}}
    stored = {run.data.tags.get("folder") for store in stores.values() for run in store.finished()}
    logger.info(f"reading {sum(len(content['trainings']) for content in contents)} trainings")
    taken = 0
    with console.progress("import", len(contents), unit="file") as progress:
        for content in contents:
            taken += _import(content, stores[content["network"]], stored)
            progress.advance()
    return taken, len(paths) - taken


def _import(content: dict[str, Any], store: StoredRuns, stored: Collection[str]) -> bool:
    """Import one file, unless the store has its run or the run is being trained here; return whether it was imported."""
    name = content["run"]["tags"]["folder"]
    run = RunFolder.named(name)
    if name not in stored:
        if run.path.exists() and not run.finished.exists():
            return False
        _restore(store, content)
    run.path.mkdir(parents=True, exist_ok=True)
    if not run.evaluation.exists():
        run.evaluation.write_text(json.dumps(content["evaluation"], indent=1), encoding="utf-8")
    run.finished.touch()
    return name not in stored


def _restore(store: StoredRuns, content: dict[str, Any]) -> None:
    made: list[str] = []
    try:
        for part in (content, *content["trainings"]):
            with temporary_folder() as folder:
                path = Path(folder) / EVALUATION
                path.write_text(json.dumps(part["evaluation"], indent=1), encoding="utf-8")
                parent = made[0] if made else None
                made.append(store.restore(part["run"], path, tables.markdown(results_from(part["evaluation"])), parent))
    except BaseException:  # half of what one command trained would count as all of it
        for run_id in made:
            store.discard(run_id)
        raise
