"""Road networks with demand to train on: grids, rings, random towns and single junctions, drawn from a seed.

SUMO's `netgenerate` makes the roads and the signal programs, `duarouter` the routes. The busiest signal gets a drawn flow
ratio (Webster 1958): 0 is no traffic, 1 the capacity of its phases. The same seed makes the same files.
"""

import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import sumolib

from tsc_marl import console
from tsc_marl.controllers import webster
from tsc_marl.errors import UserError, joined
from tsc_marl.paths import NETWORKS, temporary_folder
from tsc_marl.sim import road_network, turning_counts
from tsc_marl.sim.engine import binary

DURATION_S = 1800
SAMPLED = 1500
"""Trips whose routes stand for all."""
BUSY_SHARE = 0.1
"""The drawn flow ratio is that of the signal with this share of busier ones."""
SCENARIO = """net: "{name}.net.xml"
routes: ["{name}.rou.xml"]
begin_s: 0
end_s: {end_s}
licence: "MIT"
source: "made by SUMO's netgenerate and duarouter: tsc_marl generate --seeds {seed} ({recipe})"
"""


@dataclass(frozen=True)
class Recipe:
    """What one network is made of."""

    layout: str
    """grid, ring, town or single."""
    options: Mapping[str, str]
    """Of netgenerate."""
    flow_ratio: float
    """Of the busiest signals, on average over the window."""
    profile: tuple[float, ...]
    """Demand in as many equal parts of the window, 1 on average."""


def draw(seed: int) -> Recipe:
    """Return the recipe of a seed."""
    rng = np.random.default_rng([seed, 1])
    layout = str(rng.choice(["grid", "ring", "town", "single"], p=[0.4, 0.15, 0.35, 0.1]))
    length_m = float(rng.uniform(100, 350))
    lanes = int(rng.choice([1, 2, 3, 4], p=[0.35, 0.35, 0.2, 0.1]))
    options = {
        "default.lanenumber": str(lanes), "default.speed": f"{rng.choice([8.33, 11.11, 13.89, 16.67]):.2f}",
        "default-junction-type": "traffic_light", "no-turnarounds": "true", "seed": str(seed),
        "tls.layout": str(rng.choice(["opposites", "incoming"], p=[0.75, 0.25])),
        "tls.left-green.time": str(rng.choice([0, 6], p=[0.4, 0.6])), "tls.minor-left.max-speed": str(rng.choice([0, 14, 20])),
    }  # fmt: skip
    if rng.random() < 0.4:
        options |= {"turn-lanes": "1", "turn-lanes.length": f"{rng.uniform(25, 80):.0f}"}
    if rng.random() < 0.5 and lanes > 1:
        options["random-lanenumber"] = "true"
    options |= _layout(layout, length_m, rng)
    profile = rng.uniform(0.3, 1.7, 6)
    level = float(rng.choice([rng.uniform(0.05, 0.5), rng.uniform(0.5, 0.85), rng.uniform(0.85, 1.05)], p=[0.35, 0.45, 0.2]))
    return Recipe(layout, options, level, tuple((profile / profile.mean()).round(3).tolist()))


def _layout(layout: str, length_m: float, rng: np.random.Generator) -> dict[str, str]:
    """Return netgenerate's options for a layout."""
    if layout in ("grid", "single"):
        x, y = rng.integers(2, 6, 2) if layout == "grid" else (1, 1)
        shift_m = f"norm(0,{length_m * rng.choice([0, 0.05, 0.12]):.1f})"
        return {
            "grid": "true", "grid.x-number": str(x), "grid.y-number": str(y), "grid.x-length": f"{length_m:.0f}",
            "grid.y-length": f"{length_m * rng.uniform(0.6, 1.5):.0f}", "grid.attach-length": f"{rng.uniform(150, 300):.0f}",
            "perturb-x": shift_m, "perturb-y": shift_m,
        }  # fmt: skip
    if layout == "ring":
        return {
            "spider": "true", "spider.arm-number": str(rng.integers(4, 8)), "spider.circle-number": str(rng.integers(1, 4)),
            "spider.space-radius": f"{length_m:.0f}", "spider.omit-center": str(rng.random() < 0.6).lower(),
            "spider.attach-length": f"{rng.uniform(150, 300):.0f}",
        }  # fmt: skip
    return {
        "rand": "true", "rand.iterations": str(rng.integers(15, 90)), "rand.min-distance": f"{length_m * 0.6:.0f}",
        "rand.max-distance": f"{length_m * 1.5:.0f}", "rand.min-angle": "45", "rand.connectivity": "0.95",
    }  # fmt: skip


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
    net, rou = out / f"{name}.net.xml", out / f"{name}.rou.xml"
    _call("netgenerate", {**recipe.options, "output-file": str(net)}, seed)
    _drop_comments(net)
    rng = np.random.default_rng([seed, 2])
    routes = _routes(net, out, rng, seed)
    vehicles = _demand(net, routes, recipe)
    _write_routes(rou, routes, vehicles, recipe, rng)
    text = SCENARIO.format(name=name, end_s=DURATION_S, seed=seed, recipe=f"{recipe.layout}, flow ratio {recipe.flow_ratio:.2f}")
    (out / "scenario.yaml").write_text(text, encoding="utf-8")
    roads = road_network.read(net)
    phases = [len(signal.phases) for signal in roads.signals]
    return f"{recipe.layout}, {len(phases)} signals with {min(phases)} to {max(phases)} phases, {vehicles} vehicles"


def _call(program: str, options: Mapping[str, str], seed: int) -> None:
    words = [word for key, value in options.items() for word in (f"--{key}", value)]
    done = subprocess.run([binary(program), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if line.startswith("Error")), done.stderr.strip()[:200])
        raise UserError(f"{program} refuses the network of seed {seed}: {reason}; use another seed")


def _drop_comments(path: Path) -> None:
    """Write a file without its comments, which have the date."""
    tree = ElementTree.parse(path)
    tree.write(path, encoding="UTF-8", xml_declaration=True)


def _routes(net: Path, out: Path, rng: np.random.Generator, seed: int) -> list[tuple[str, ...]]:
    """Return the routes of sampled trips between the fringes, some from and to edges inside."""
    edges = sumolib.net.readNet(str(net)).getEdges()
    first = sorted(edge.getID() for edge in edges if not edge.getFromNode().getIncoming())
    last = sorted(edge.getID() for edge in edges if not edge.getToNode().getOutgoing())
    every = sorted(edge.getID() for edge in edges)
    first, last = (ends if len(ends) >= 4 else every for ends in (first, last))
    weights = [rng.lognormal(0, 0.7, len(ends)) for ends in (first, last)]
    chosen = [rng.choice(ends, SAMPLED, p=weight / weight.sum()) for ends, weight in zip((first, last), weights, strict=True)]
    trips = ElementTree.Element("routes")
    for k, (origin, end) in enumerate(zip(*chosen, strict=True)):
        if origin != end:
            trips.append(ElementTree.Element("trip", {"id": str(k), "depart": "0", "from": origin, "to": end}))
    asked, routed = out / "trips.xml", out / "routed.xml"
    ElementTree.ElementTree(trips).write(asked)
    _call("duarouter", {
        "net-file": str(net), "route-files": str(asked), "output-file": str(routed), "ignore-errors": "true",
        "no-step-log": "true", "no-warnings": "true", "weights.random-factor": "1.6", "seed": str(seed),
    }, seed)  # fmt: skip
    routes = [tuple(route.get("edges", "").split()) for route in ElementTree.parse(routed).iter("route")]
    for path in (asked, routed, routed.with_suffix(".alt.xml")):
        path.unlink(missing_ok=True)
    return routes


def _demand(net: Path, routes: list[tuple[str, ...]], recipe: Recipe) -> int:
    """Return the number of vehicles that brings the busiest signals to the recipe's flow ratio."""
    roads = road_network.read(net)
    counts = turning_counts.count(roads, Counter(routes), 1.0)
    ratios = [webster.flow_ratio(demand, range(len(demand.serves))) for demand in webster.demands(roads, counts)]
    busy = sorted(ratios, reverse=True)[int(BUSY_SHARE * len(ratios))]
    per_hour = len(routes) * recipe.flow_ratio * 0.9 / max(busy, 1e-3)
    return max(20, round(per_hour * DURATION_S / 3600))


def _write_routes(path: Path, routes: list[tuple[str, ...]], vehicles: int, recipe: Recipe, rng: np.random.Generator) -> None:
    parts = rng.choice(len(recipe.profile), vehicles, p=np.array(recipe.profile) / sum(recipe.profile))
    times = np.sort((parts + rng.random(vehicles)) * DURATION_S / len(recipe.profile))
    root = ElementTree.Element("routes")
    for k, (when, chosen) in enumerate(zip(times.tolist(), rng.integers(len(routes), size=vehicles).tolist(), strict=True)):
        options = {"id": str(k), "depart": f"{when:.2f}", "departLane": "best", "departSpeed": "max"}
        vehicle = ElementTree.SubElement(root, "vehicle", options)
        ElementTree.SubElement(vehicle, "route", {"edges": " ".join(routes[chosen])})
    ElementTree.indent(root, " ")
    ElementTree.ElementTree(root).write(path, encoding="UTF-8", xml_declaration=True)
