"""Make networks from seeds, each in a folder that is used like any other network."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np

from tsc_marl import console
from tsc_marl.errors import UserError, joined
from tsc_marl.generator import streets, traffic
from tsc_marl.generator.layouts import LAYOUTS
from tsc_marl.generator.recipes import draw
from tsc_marl.paths import NETWORKS, temporary_folder
from tsc_marl.sim import road_network

SCENARIO = """net: "{name}.net.xml"
routes: ["{name}.rou.xml"]
begin_s: 0
end_s: {end_s}
licence: "MIT"
source: "tsc_marl generate --seeds {seed}: {recipe}"
"""


def run(seeds: Sequence[int], out: Path, workers: int) -> None:
    """Make the networks of some seeds, side by side, and print a line for each.

    Raises:
        UserError: at the end, for the seeds that failed, after the others were made.
    """
    refused: dict[str, UserError] = {}
    with ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(generate, seed, out): seed for seed in seeds}
        try:
            for future in as_completed(futures):
                try:
                    console.say(future.result())
                except UserError as error:
                    refused[f"seed {futures[future]}"] = error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if refused:
        raise joined(refused, len(seeds), "networks cannot be made")
    first = name_of(seeds[0])
    console.say(f"use one: {console.make_line('evaluate', NET=first if out.resolve() == NETWORKS else str(out / first))}")


def generate(seed: int, out: Path) -> str:
    """Make a network with demand in the folder `out/generated-<seed>` and return a line about it.

    Raises:
        UserError: when SUMO's programs refuse the recipe, or the folder has other content.
    """
    start, folder = time.monotonic(), out / name_of(seed)
    with temporary_folder(out) as temporary:
        made = Path(temporary, folder.name)
        made.mkdir()
        line = _make(seed, made)
        if folder.exists():
            if _content(folder) != _content(made):
                raise UserError(f"{folder} exists with other content; remove it, or give another out")
            return f"{folder}: exists already, unchanged"
        made.rename(folder)
    return f"{folder}: {line}, {time.monotonic() - start:.1f} s"


def name_of(seed: int) -> str:
    """Return the name of a seed's network."""
    return f"generated-{seed:04d}"


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _make(seed: int, out: Path) -> str:
    recipe, name = draw(seed), name_of(seed)
    net, rng = out / f"{name}.net.xml", np.random.default_rng([seed, 2])
    layout = LAYOUTS[recipe.layout](rng, recipe.spacing_m)
    streets.cut(layout, recipe, np.random.default_rng([seed, 3]))
    streets.build(layout, recipe, rng, net)
    phases = [len(signal.phases) for signal in road_network.read(net).signals]
    vehicles = traffic.write(net, out / f"{name}.rou.xml", recipe, rng, seed)
    text = SCENARIO.format(
        name=name, end_s=recipe.duration_s, seed=seed, recipe=f"{recipe.layout}, flow ratio {recipe.flow_ratio:.2f}"
    )
    (out / "scenario.yaml").write_text(text, encoding="utf-8")
    many = f"{len(phases)} signals" if len(phases) > 1 else "1 signal"
    ranges = f"{min(phases)} to {max(phases)}" if min(phases) < max(phases) else f"{max(phases)}"
    return f"{recipe.layout}, {many} with {ranges} phases, {vehicles} vehicles"
