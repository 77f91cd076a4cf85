"""Archive of finished trainings: export to files, to publish them or to move them to another store, and import.

A file holds the run of one command, without checkpoints: tags, settings, curves, and the metrics of every evaluation
episode. `compare` and `report` need no more.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tsc_marl import console
from tsc_marl.analysis.compare import RunFilter, left_out
from tsc_marl.errors import UserError
from tsc_marl.evaluation import tables
from tsc_marl.evaluation.evaluate import results_from
from tsc_marl.paths import file_name, temporary_folder
from tsc_marl.report import archive_page
from tsc_marl.report.archive_file import FORMAT, SUFFIX, check_training, pack, read_file
from tsc_marl.tracking import sealed
from tsc_marl.tracking.curves import is_evaluated
from tsc_marl.tracking.run_folder import EVALUATION, RunFolder
from tsc_marl.tracking.stored_runs import StoredRuns

logger = logging.getLogger(__name__)


@dataclass
class _Export:
    """Files of one network."""

    files: dict[str, bytes] = field(default_factory=dict)
    """Bytes by the name of the run's folder."""
    algorithms: set[str] = field(default_factory=set)
    damaged: list[str] = field(default_factory=list)
    """Ids of trainings that no file takes."""


def write(networks: Sequence[str], choice: RunFilter, out: Path, command: str) -> int:
    """Write finished trainings as `out/<network>/<run>.json.gz`, and their tables as `out/README.md`.

    A file holds all trainings of one command, even if the filter takes some of them; an existing file is overwritten. A damaged
    training is left out with a line. README.md keeps the tables of networks that this export does not write.

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
    exports = {network: _export(network, choice) for network in networks}
    exported = {name for export in exports.values() for name in export.algorithms}
    missing = [name for name in choice.algos if name not in exported]
    if missing or not exported:
        of = f" of {', '.join(missing)}" if missing else ""
        raise UserError(f"no finished training{of} on {', '.join(networks) or 'any network'} is chosen; train one: make train")
    path = out
    try:
        for network, export in exports.items():
            for name, data in export.files.items():
                path = out / file_name(network) / f"{file_name(name)}{SUFFIX}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        path = out / "README.md"
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        sections = {
            network: archive_page.section(network, replace(choice, without=export.damaged))
            for network, export in exports.items()
            if export.files
        }
        path.write_text(archive_page.text(sections, command, before), encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text in UTF-8, so its tables cannot be kept; move it away") from None
    except OSError as error:
        raise UserError(f"trainings cannot be written to {path} ({error.strerror}); give another folder with --out") from None
    return sum(len(export.files) for export in exports.values())


def _export(network: str, choice: RunFilter) -> _Export:
    """Return the files of a network; what the import would refuse is named and left out."""
    store = StoredRuns(network)
    chosen = {run.data.tags.get("mlflow.parentRunId") for run in store.finished(choice.where) if choice.takes(run.data.tags)}
    families: dict[str, list[Any]] = defaultdict(list)
    for run in store.finished():
        parent = run.data.tags.get("mlflow.parentRunId")
        if parent in chosen and parent and is_evaluated(run.data.metrics):
            families[parent].append(run)
    export, parents = _Export(), store.families()
    for parent, runs in families.items():
        trainings = []
        for run in reversed(runs):
            try:
                trainings.append(check_training(_record(store, run)))
            except (UserError, ValueError) as error:
                logger.warning(left_out(run, error))
                export.damaged.append(run.info.run_id)
        if not trainings:
            continue
        try:
            if parent not in parents:
                raise ValueError("the run of the command that started them is missing")
            content = {"format": FORMAT, "network": network, **_record(store, parents[parent]), "trainings": trainings}
            export.files[content["run"]["tags"].get("folder")] = pack(content)
            export.algorithms |= {training["run"]["tags"]["algorithm"] for training in trainings}
        except (UserError, ValueError) as error:
            named = ", ".join(run.info.run_id for run in runs)
            logger.warning(f"trainings {named} are left out: {error}")
    return export


def _record(store: StoredRuns, run: Any) -> dict[str, Any]:
    return {"run": store.record(run), "evaluation": store.evaluation(run.info.run_id, run.info.artifact_uri)}


def read(folder: Path) -> tuple[int, int, list[str]]:
    """Import the trainings of a folder and its subfolders into the store; those that the store has stay as they are.

    Args:
        folder: folder of an export.

    Returns the number of imported files, that of files left out (the store has their run, or it is being trained here), and the
    names of their networks.

    Raises:
        UserError: when the folder has no export, or a file is damaged; nothing is imported then. Also when the store refuses
            a file; nothing of that file is kept then.
    """
    paths = sorted(folder.rglob(f"*{SUFFIX}"))
    if not paths:
        raise UserError(f"no trainings (files *{SUFFIX}) in {folder}; give the folder of an export with --folder")
    networks, trainings = _check(paths)
    stores = {network: StoredRuns(network, writes=True) for network in networks}
    stored = {run.data.tags.get("folder") for store in stores.values() for run in store.finished()}
    logger.info(f"reading {trainings} trainings")
    taken = 0
    with console.progress("import", len(paths), unit="file") as progress:
        for path in paths:
            content = read_file(path)  # once more: all of them at once would fill the memory
            taken += _import(content, stores[content["network"]], stored)
            progress.advance()
    return taken, len(paths) - taken, networks


def _check(paths: Sequence[Path]) -> tuple[list[str], int]:
    """Return the networks of the files, and the number of trainings in them.

    Raises:
        UserError: when a file is damaged, or when two have the same run.
    """
    networks: dict[str, None] = {}
    files: dict[str, Path] = {}
    trainings = 0
    for path in paths:
        content = read_file(path)
        folder = content["run"]["tags"]["folder"]
        if folder in files:
            raise UserError(f"{files[folder]} and {path} both have the run {folder}; leave one of them out")
        files[folder] = path
        networks[content["network"]] = None
        trainings += len(content["trainings"])
    return list(networks), trainings


def _import(content: dict[str, Any], store: StoredRuns, stored: set[str]) -> bool:
    """Import one file, unless the store has its run or the run is being trained here; return whether it was imported."""
    name = content["run"]["tags"]["folder"]
    run = RunFolder.named(name)
    if name not in stored:
        if run.path.exists() and not run.finished.exists():
            return False
        _restore(store, content)
    run.path.mkdir(parents=True, exist_ok=True)
    if not run.evaluation.exists():
        sealed.write(run.evaluation, content["evaluation"])
    run.finished.touch()
    return name not in stored


def _restore(store: StoredRuns, content: dict[str, Any]) -> None:
    made: list[str] = []
    try:
        for part in (content, *content["trainings"]):
            with temporary_folder() as folder:
                path = Path(folder) / EVALUATION
                sealed.write(path, part["evaluation"])
                parent = made[0] if made else None
                made.append(store.restore(part["run"], path, tables.markdown(results_from(part["evaluation"])), parent))
    except BaseException:  # half of what one command trained would count as all of it
        for run_id in made:
            store.discard(run_id)
        raise
