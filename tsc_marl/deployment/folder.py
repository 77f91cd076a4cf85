"""Writes the folder that a controller on the street needs: actor, recipe, controller, model card."""

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch

from tsc_marl.console import make_line
from tsc_marl.deployment import actor, recipe
from tsc_marl.errors import UserError
from tsc_marl.nn.phases import PhaseNet
from tsc_marl.paths import temporary_folder
from tsc_marl.rollout.task import Task, spec_of
from tsc_marl.sim.fingerprint import listed
from tsc_marl.sim.scenario import typed
from tsc_marl.tracking import checkpoint
from tsc_marl.tracking.checkpoint import Checkpoint
from tsc_marl.tracking.policies import find_checkpoint
from tsc_marl.types import Movements

CONTROLLER = Path(__file__).with_name("controller.py")
"""The reference controller, copied as it is."""
DEPLOYED = ("movements", "movements-persons")
"""Observations whose inputs a recipe describes."""
CHECKED, TOLERANCE = 10, 1e-4
"""Random inputs on which the file is compared with the actor, and the largest difference as a share of the largest score."""


def check_new(out: Path) -> None:
    """Refuse a folder that exists.

    Raises:
        UserError: then.
    """
    if out.exists():
        raise UserError(f"folder {out} exists; remove it, or give another one with OUT (--out)")


def write(task: Task, name: str, out: Path, command: str) -> None:
    """Write `actor.onnx`, `recipe.json`, `controller.py` and `MODEL_CARD.md`.

    Args:
        task: network and signal timing of the street.
        name: a trained policy: `pretrained`, an algorithm, a run id, a model, a file.
        out: folder to make.
        command: what the model card says that it was made by.

    Raises:
        UserError: when the folder exists, there is no such policy, it is none that can be written so, or a package is missing.
    """
    check_new(out)
    saved = checkpoint.load(find_checkpoint(name, task.network))
    policy = saved.policy(task.network)
    if saved.sim["observation"].replace("_", "-") not in DEPLOYED or not policy.portable:
        raise UserError(
            f"the policy of {name} has --sim.observation {saved.sim['observation']} and --algo.sharing "
            f"{saved.config.get('sharing')}; deploy takes policies with {' or '.join(DEPLOYED)}, and full"
        )
    task = policy.task_for(task)
    observation = recipe.movements_of(task)
    spec = spec_of(task.network, task.net(), observation, len(task.net().signals) * observation.size + 1)
    net = actor.phase_net(policy.algorithm(spec), name)
    memory = actor.memory_width(net)
    out.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(out.parent) as made:
        folder = Path(made, out.name)
        folder.mkdir()
        _write_actor(folder / "actor.onnx", net, spec.movements)
        (folder / "recipe.json").write_text(json.dumps(recipe.recipe(task, memory), indent=1), encoding="utf-8")
        (folder / CONTROLLER.name).write_bytes(CONTROLLER.read_bytes())
        (folder / "MODEL_CARD.md").write_text(_card(task, name, saved, net, command), encoding="utf-8")
        folder.rename(out)


def _write_actor(path: Path, net: PhaseNet, movements: Movements | None) -> None:
    """Write the actor, and compare what onnxruntime makes of it with what it is."""
    if movements is None:
        raise RuntimeError("a task with the observation movements has links and phases")
    generator, runtime = torch.Generator().manual_seed(0), actor.import_packages()
    actor.export(net, actor.random_inputs(net, movements, generator), path)
    session = runtime.InferenceSession(str(path))
    for _ in range(CHECKED):
        given = actor.random_inputs(net, movements, generator)
        expected = actor.outputs(net, given)
        for own, other in zip(session.run(None, {k: v.numpy() for k, v in given.items()}), expected, strict=True):
            if (difference := np.abs(own - other).max()) > TOLERANCE * np.abs(other).max():
                raise RuntimeError(f"{path.name} differs from the actor by {difference:g}")


def _card(task: Task, name: str, saved: Checkpoint, net: PhaseNet, command: str) -> str:
    last = saved.history[-1] if saved.history else {}
    loader = jinja2.PackageLoader("tsc_marl.deployment", ".")
    template = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    return template.get_template("model_card.md.jinja").render(
        task=task, name=name, saved=saved, command=command, version=metadata.version("tsc_marl"),
        minutes=round(last.get("minutes", 0)), trained_timing=_timing(saved.timing), timing=_timing(vars(task.timing)),
        delays=[(key.removeprefix("delay/"), value) for key, value in sorted(last.items()) if key.startswith("delay/")],
        parameters=sum(weight.numel() for weight in net.parameters()), memory=actor.memory_width(net),
        signals=f"{len(task.net().signals)}: {listed([signal.name for signal in task.net().signals])}",
        evaluate=make_line("evaluate", NET=typed(task.network), POLICY=[name, "max_pressure", "fixed_time"]),
    )  # fmt: skip


def _timing(values: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}` {value}" for name, value in values.items() if value is not None)
