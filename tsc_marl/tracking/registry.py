"""Policies as models of MLflow, and networks as its data sets: what they are called, and what they say of themselves."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tsc_marl.errors import UserError
from tsc_marl.paths import file_name
from tsc_marl.sim.fingerprint import PREFIX
from tsc_marl.tracking.curves import FINAL

SCHEME = "models:/"
"""Begin of the address of a model: `models:/<name>@<alias>`, `models:/<name>/<version>` or `models:/<id>`."""
NEWEST, BEST = "newest", "best"
"""Aliases of the newest version of a model, and of that with the least delay in its final evaluation."""
DELAY = FINAL["eval/delay"]
CONDITIONS = (PREFIX, "timing", "eval_seeds")
"""First parts of the tags that must be equal in versions whose delays are compared."""


def model_name(network: str, algorithm: str) -> str:
    """Return the name of the registered model of an algorithm on a network."""
    return file_name(f"{network}-{algorithm}")


def register(client: Any, experiment_id: str, run_id: str, name: str, folder: Path, tags: Mapping[str, str]) -> None:
    """Log the model in a folder, a pyfunc model of MLflow, and register it as the next version of a registered model.

    Args:
        client: MLflow's client.
        experiment_id: id of the network's experiment.
        run_id: id of the training; it gets no second version.
        name: name of the registered model.
        folder: the model; its name is that of the logged model.
        tags: tags of the version, with `DELAY` where the policy was evaluated.
    """
    from mlflow.entities import LoggedModelOutput

    if client.search_model_versions(f"name='{name}' and run_id='{run_id}'"):
        return
    model = client.create_logged_model(experiment_id, folder.name, run_id, tags=dict(tags), model_type="policy")
    client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    if not client.search_registered_models(f"name='{name}'"):
        client.create_registered_model(name)
    location = model.artifact_location  # a database looks a `models:/` source up in MLflow's own store, whichever that is
    source = location if location.startswith("file:") else f"{SCHEME}{model.model_id}"
    version = client.create_model_version(name, source, run_id, dict(tags), model_id=model.model_id)
    client.set_registered_model_alias(name, NEWEST, version.version)
    alike = [other for other in client.search_model_versions(f"name='{name}'") if _conditions(other.tags) == _conditions(tags)]
    if evaluated := [other for other in alike if DELAY in other.tags]:
        best = min(evaluated, key=lambda other: float(other.tags[DELAY]))
        client.set_registered_model_alias(name, BEST, best.version)


def run_of(client: Any, address: str) -> str:
    """Return the id of the training of a model.

    Raises:
        UserError: when there is no such model, with what it has.
    """
    from mlflow.exceptions import MlflowException

    own = address.removeprefix(SCHEME)
    name, at, alias = own.partition("@")
    try:
        if at:
            return str(client.get_model_version_by_alias(name, alias).run_id)
        name, slash, version = own.rpartition("/")
        return str(client.get_model_version(name, version).run_id if slash else client.get_logged_model(own).source_run_id)
    except MlflowException:
        models = [model.name for model in client.search_registered_models()]
        known = ", ".join(f"{SCHEME}{model}@{NEWEST}" for model in models) or "none yet: make train"
        raise UserError(f"model {address} does not exist; the store has {known}") from None


def dataset_inputs(tags: Mapping[str, str]) -> list[Any]:
    """Return the network with its demand as an input of a run, from the run's tags; nothing where they do not say its files."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    files = {key.removeprefix(PREFIX): value for key, value in tags.items() if key.startswith(PREFIX)}
    if not files or "network" not in tags:
        return []
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16]
    dataset = Dataset(tags["network"][:500], digest, "network, routes and demand", json.dumps(files))
    return [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])]


def _conditions(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in tags.items() if key.startswith(CONDITIONS)}
