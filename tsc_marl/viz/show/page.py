"""Writes the page: plays the policies, packs what was recorded, and fills the template."""

import base64
import gzip
import json
import logging
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from tsc_marl import console
from tsc_marl.errors import UserError
from tsc_marl.paths import make_file
from tsc_marl.rollout.types import Policy, Task
from tsc_marl.sim import road_network
from tsc_marl.viz import approach_delay
from tsc_marl.viz.show.columns import Columns, packed
from tsc_marl.viz.show.recording import Recording, record
from tsc_marl.viz.show.road_map import PER_METRE, RoadMap, road_map

log = logging.getLogger(__name__)

SCRIPTS = ("data.js", "map.js", "phase_drawing.js", "signal.js", "corridor.js", "player.js")
"""In this order they are one script."""
STEPS = 1000
"""A number of a phase is stored in this many steps of its largest size."""


def check(task: Task, to_s: int | None, out: Path) -> int:
    """Check the end of the recording and the file, before anything runs; return the end [s].

    Raises:
        UserError: when the end is not in the window, or when the file cannot be written.
    """
    window_s = task.scenario.duration_s
    end_s = window_s if to_s is None else to_s
    if not 0 < end_s <= window_s:
        raise UserError(f"to-s {end_s} must lie in the window of {task.network}, 1 .. {window_s} s")
    if out.suffix != ".html":
        raise UserError(f"out must name an .html file; got {out}")
    make_file(out)
    return end_s


def write(task: Task, policies: Mapping[str, Policy], seed: int, to_s: int, out: Path, command: str) -> None:
    """Play the policies, one after the other, and write the page.

    Args:
        task: network and timing.
        policies: by the name over their map, with all their weights.
        seed: SUMO seed, the same for all.
        to_s: end of the recording, from the start of the window.
        out: file to write.
        command: the command line that makes the page again; the page shows it.
    """
    net = road_network.of(task.scenario)
    approaches = approach_delay.approaches(task.scenario, net)
    decisions = -(-to_s // task.timing.decision_s)
    recordings = {}
    with console.progress(f"{task.network}, seed {seed}", decisions * len(policies), unit="decision") as progress:
        for name, policy in policies.items():
            recordings[name] = record(task, policy, seed, to_s, approaches, progress.advance)
    out.write_text(text(task, recordings, seed, road_map(task.scenario, net, approaches), command), encoding="utf-8")
    log.info("page: %s (%.1f MB); any browser opens it, no network needed", out, out.stat().st_size / 1e6)


def text(task: Task, recordings: Mapping[str, Recording], seed: int, roads: RoadMap, command: str) -> str:
    """Return the page: one HTML file that needs no other file and no network."""
    folder = resources.files("tsc_marl.viz.show")
    loader = jinja2.PackageLoader("tsc_marl.viz.show", ".")
    template = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True).get_template("page.html")
    return template.render(
        network=task.network,
        seed=seed,
        signals=len(roads.head["signals"]),
        recordings=recordings,
        to_s=next(iter(recordings.values())).to_s,
        command=command,
        style=folder.joinpath("page.css").read_text(encoding="utf-8"),
        script="\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in SCRIPTS),
        payload=_payload(task, recordings, roads),
    )


def _payload(task: Task, recordings: Mapping[str, Recording], roads: RoadMap) -> str:
    """Return all data as text: length of the JSON head, head, columns; compressed, in base 64."""
    columns: dict[str, tuple[np.ndarray, int]] = dict(roads.columns)
    heads = []
    for i, (name, recording) in enumerate(recordings.items()):
        head, own = _episode(name, recording)
        heads.append(head)
        columns |= {f"{i}/{column}": value for column, value in own.items()}
    directory, body = packed(columns)
    timing = task.timing
    head = roads.head | {
        "network": task.network, "per_metre": PER_METRE, "policies": heads, "columns": directory,
        "timing": {"decision": timing.decision_s, "change": timing.change_s, "min_green": timing.min_green_s},
    }  # fmt: skip
    plain = json.dumps(head, separators=(",", ":")).encode()
    return base64.b64encode(gzip.compress(len(plain).to_bytes(4, "little") + plain + body, 9, mtime=0)).decode()


def _episode(name: str, recording: Recording) -> tuple[dict[str, Any], Columns]:
    """Return the JSON head and the columns of one policy's episode."""
    scales = {key: float(np.abs(values).max(initial=0)) / STEPS or 1.0 for key, values in recording.numbers.items()}
    bits = 1 << np.arange(recording.legal.shape[-1])
    paths, lights = recording.paths, recording.lights
    head = {
        "name": name, "to": recording.to_s, "step": paths.step_s, "phases": recording.legal.shape[-1],
        "delay": recording.metrics["delay"],
        "by_program": recording.rule.by_program, "exception": recording.rule.exception,
        "numbers": [
            vars(number) | {"scale": scales[number.key], "nothing": not recording.numbers[number.key].any()}
            for number in recording.rule.numbers
        ],
        "states": [light.states for light in lights],
    }  # fmt: skip
    columns = {
        "second": (recording.second, 2),
        "phase": (recording.phase.T, 1),
        "legal": ((recording.legal * bits).sum(axis=-1).T, 1),
        "lost": (np.rint(recording.lost_s), 1),
        "scheduled": (recording.scheduled, 1),
        "waiting": (recording.waiting, 1),
        "lights_count": (np.array([len(light.second) for light in lights]), 0),
        "lights_second": (np.concatenate([light.second for light in lights]), 1),
        "lights_shown": (np.concatenate([light.shown for light in lights]), 0),
        "start": (paths.start, 1),
        "count": (paths.count, 0),
        "lane": (paths.lane, 1),
        "pos": (np.rint(paths.pos_m * PER_METRE), 2),
        "approach_lost": (np.rint(recording.flows.lost_s.T * 10), 0),
        "approach_passed": (recording.flows.passed.T, 0),
    }  # fmt: skip
    for key, values in recording.numbers.items():
        columns[f"number/{key}"] = (np.rint(values.transpose(1, 2, 0) / scales[key]), 1)
    return head, columns
