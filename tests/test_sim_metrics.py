"""The figures against a second computation from SUMO's files, and the lights that SUMO itself wrote down."""

import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from xml.etree import ElementTree

import numpy as np
import pytest

from tsc_marl.config import read_timing
from tsc_marl.controllers import find
from tsc_marl.evaluation import signal_log
from tsc_marl.sim import metrics, scenario
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.metrics import EpisodeRecord, Trips
from tsc_marl.sim.turning_counts import planning_context

SEED = 23


def play(name, out, timing=None, policy="random", seed=SEED, **options):
    """Play one episode on a network or a scenario; `policy` is a controller, or the phase that every signal holds throughout."""
    env = TrafficEnv(scenario.load(name) if isinstance(name, str) else name, timing)
    controller = find(policy)(planning_context(env)) if isinstance(policy, str) else None
    try:
        env.reset(seed, out=out, **options)
        if controller:
            controller.reset(seed, env.view)
        ended = False
        while not ended:
            _, ended = env.step(controller.act(env.view) if controller else np.full(len(env.names), policy))
        return env, env.metrics()
    finally:
        env.close()


def trips(path):
    """Return one dict per vehicle, by regular expression: not the parser that the package uses."""
    lines = re.findall(r"<tripinfo ([^>]*)>", path.read_text(encoding="utf-8"))
    return [dict(re.findall(r'([\w]+)="([^"]*)"', line)) for line in lines]


def percentile(values, share):
    """Return a percentile by linear interpolation between order statistics."""
    ranked, place = sorted(values), share * (len(values) - 1)
    low = int(place)
    return ranked[low] + (place - low) * (ranked[min(low + 1, len(ranked) - 1)] - ranked[low])


def recomputed(out, n_signals):
    """Return the vehicles, and every figure that is not in detail."""
    vehicles = trips(out / f"tripinfo_{SEED}.xml")
    entered = [v for v in vehicles if float(v["depart"]) >= 0]
    finished = [v for v in vehicles if float(v["arrival"]) >= 0]
    halting = [
        float(h) for h in re.findall(r'<step [^>]*halting="([\d.]+)"', (out / f"summary_{SEED}.xml").read_text(encoding="utf-8"))
    ]
    delays = [float(v["timeLoss"]) + float(v["departDelay"]) for v in vehicles]
    figures = {
        "delay": fmean(delays),
        "delay_p95": percentile(delays, 0.95),
        "stops": fmean(int(v["waitingCount"]) for v in entered),
        "queue_max": max(halting) / n_signals,
        "time_loss": sum(float(v["timeLoss"]) for v in vehicles) / len(vehicles),
        "insertion_delay": sum(float(v["departDelay"]) for v in vehicles) / len(vehicles),
        "travel_time": fmean(float(v["duration"]) for v in finished),
        "waiting": fmean(float(v["waitingTime"]) for v in entered),
        "queue": fmean(halting) / n_signals,
        "scheduled": len(vehicles),
        "arrived": len(finished),
        "never_inserted": len(vehicles) - len(entered),
        "teleports": 0,
    }
    return vehicles, figures


def check_figures(figures, out, n_signals):
    """Compare with a second computation; return the vehicles."""
    vehicles, expected = recomputed(out, n_signals)
    assert {name: figures[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    return vehicles


@pytest.fixture(scope="module")
def episode(tmp_path_factory):
    """The figures of a short episode, and those that are computed a second time."""
    out = tmp_path_factory.mktemp("episode")
    env, figures = play("cross", out, detail=True)
    return figures, recomputed(out, len(env.names))[1] | emitted_kg(out)


EMPTY = EpisodeRecord(
    Path(),
    SEED,
    1,
    Trips([], [], *np.zeros((7, 0)), transit=np.zeros(0, dtype=bool), emergency=np.zeros(0, dtype=bool), persons=np.zeros(0)),
    np.zeros(0),
    0.0,
    True,
    np.zeros((0, 2)),
    {},
    frozenset(),
)


@pytest.mark.parametrize("name", metrics.available())
def test_contract_of_a_metric(name, episode):
    """Every file of the folder: a number with a unit, on a real episode and on one without vehicles."""
    figures, expected = episode
    kind = metrics.find(name)
    assert kind.unit
    assert kind.__doc__
    assert isinstance(kind()(EMPTY), float)
    if kind.of_some:  # cross has neither persons nor public transport
        assert name not in figures
        return
    assert isinstance(figures[name], float)
    assert math.isfinite(figures[name]) or math.isnan(figures[name])
    assert figures[name] == pytest.approx(expected.get(name, figures[name]), abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("name", ["cross", "grid2x2", "cologne3"])
def test_metrics_match_the_files_of_sumo(name, tmp_path):
    env, figures = play(name, tmp_path)
    check_figures(figures, tmp_path, len(env.names))
    assert figures["scheduled"] == scenario.scheduled(env.scenario)
    assert 0 < figures["arrived"] < figures["scheduled"]
    assert {f"tripinfo_{SEED}.xml", f"summary_{SEED}.xml", f"tls_{SEED}.xml"} <= {path.name for path in tmp_path.iterdir()}


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """Phase 0 held for an hour on cologne3: the environment, its figures and the folder."""
    out = tmp_path_factory.mktemp("held")
    return *play("cologne3", out, policy=0, detail=True), out


def test_delay_counts_vehicles_never_inserted_until_the_horizon(held):
    """Many are never inserted, and each is charged from its own departure on."""
    env, figures, out = held
    vehicles = check_figures(figures, out, len(env.names))
    root = ElementTree.parse(env.scenario.routes[0]).getroot()
    planned = {v.get("id"): float(v.get("depart")) for v in root if v.tag in ("vehicle", "trip")}
    locked_out = [v for v in vehicles if float(v["depart"]) < 0]
    assert len(locked_out) == figures["never_inserted"] > 100
    for vehicle in locked_out:
        assert float(vehicle["departDelay"]) == pytest.approx(env.scenario.end_s - planned[vehicle["id"]], abs=1.0)
    window = {name for name, depart in planned.items() if env.scenario.begin_s <= depart < env.scenario.end_s}
    assert {v["id"] for v in vehicles} == window


def intervals(path):
    """Return, per stretch of time, its length and the counts of each edge."""
    found = []
    for head, body in re.findall(r"<interval ([^>]*)>(.*?)</interval>", path.read_text(encoding="utf-8"), re.DOTALL):
        span = dict(re.findall(r'(\w+)="([^"]*)"', head))
        edges = [dict(re.findall(r'(\w+)="([^"]*)"', line)) for line in re.findall(r"<edge ([^>]*)/>", body)]
        found.append((float(span["end"]) - float(span["begin"]), {edge["id"]: edge for edge in edges}))
    return found


@pytest.mark.parametrize(
    ("name", "policy"), [pytest.param("cologne3", 0, marks=pytest.mark.sumo), ("cologne3", "max_wave"), ("grid2x2", "random")]
)
def test_detail(name, policy, tmp_path, request):
    """Approaches, the worst one, and what is blocked, from SUMO's file by other code.

    On edges SUMO counts the time lost against the road's limit, in trips against the vehicle's own wish.
    """
    shared = request.getfixturevalue("held") if policy == 0 else None
    env, figures, out = shared or (*play(name, tmp_path, policy=policy, detail=True), tmp_path)
    approaches = metrics.read_approaches(out, SEED, env.net)
    lost_s = sum(approach.time_loss_s for approach in approaches.values())
    assert 0.95 < lost_s / (figures["time_loss"] * figures["scheduled"]) < 1.3
    assert sum(a.insertion_s for a in approaches.values()) == pytest.approx(figures["insertion_delay"] * figures["scheduled"])
    spans = intervals(out / f"edges_{SEED}.xml")
    assert lost_s == pytest.approx(sum(float(edge["timeLoss"]) for _, edges in spans for edge in edges.values()))
    blocked = {
        edge
        for length_s, edges in spans
        for edge, seen in edges.items()
        if length_s == 300 and int(seen["left"]) + int(seen["arrived"]) == 0 and float(seen["sampledSeconds"]) / 300 >= 5
    }
    assert figures["blocked"] == len(blocked)
    assert figures["gridlock"] == (len(blocked) > 0) == (policy == 0)
    busiest = Counter()
    for edge in {edge for _, edges in spans for edge in edges if not edge.startswith(":")}:
        used = sum(int(edges[edge]["departed"]) + int(edges[edge]["entered"]) for _, edges in spans if edge in edges)
        busiest[env.net.approach[edge]] = max(busiest[env.net.approach[edge]], used)
    never = sum(approach.vehicles for approach in approaches.values()) - busiest.total()
    assert never == figures["never_inserted"]
    worst = max(a.delay_s for a in approaches.values() if a.vehicles >= 20)
    assert figures["worst_approach"] == worst > figures["delay"] / 2


def test_a_vehicle_that_is_due_within_the_last_second(tmp_path):
    """As on ingolstadt7: SUMO writes it down as never inserted, and it is not among those that wait to be inserted."""
    cross = scenario.load("cross")
    late = '<trip id="late" depart="599.7" from="top0A0" to="A0bottom0"/></routes>'
    (tmp_path / "late.rou.xml").write_text(
        cross.routes[0].read_text(encoding="utf-8").replace("</routes>", late), encoding="utf-8"
    )
    env, figures = play(replace(cross, routes=(tmp_path / "late.rou.xml",)), tmp_path, policy="max_pressure", detail=True)
    (trip,) = (trip for trip in trips(tmp_path / f"tripinfo_{SEED}.xml") if trip["id"] == "late")
    assert trip["departLane"] == ""
    before = play("cross", tmp_path / "before", policy="max_pressure", detail=True)[1]
    assert figures["never_inserted"] == before["never_inserted"] + 1
    approaches = metrics.read_approaches(tmp_path, SEED, env.net)
    assert sum(a.insertion_s for a in approaches.values()) == pytest.approx(figures["insertion_delay"] * figures["scheduled"])


def test_a_vehicle_that_is_due_at_the_end(tmp_path):
    """It is not of this window, though SUMO writes it down."""
    cross = scenario.load("cross")
    after = '<trip id="after" depart="600" from="top0A0" to="A0bottom0"/></routes>'
    (tmp_path / "after.rou.xml").write_text(
        cross.routes[0].read_text(encoding="utf-8").replace("</routes>", after), encoding="utf-8"
    )
    scene = replace(cross, routes=(tmp_path / "after.rou.xml",))
    env, figures = play(scene, tmp_path, policy="max_pressure", detail=True)
    assert "after" in {trip["id"] for trip in trips(tmp_path / f"tripinfo_{SEED}.xml")}
    assert figures["scheduled"] == scenario.scheduled(scene) == scenario.scheduled(cross)
    assert figures["never_inserted"] == 0
    approaches = metrics.read_approaches(tmp_path, SEED, env.net)
    assert sum(a.insertion_s for a in approaches.values()) == pytest.approx(figures["insertion_delay"] * figures["scheduled"])


def emitted_kg(out):
    """Return the totals of CO2 and fuel, by regular expression."""
    text = (out / f"tripinfo_{SEED}.xml").read_text(encoding="utf-8")
    attributes = {"co2": "CO2_abs", "fuel": "fuel_abs"}
    return {name: sum(map(float, re.findall(rf'{key}="([\d.e+]+)"', text))) / 1e6 for name, key in attributes.items()}


def test_emissions_are_totals_in_kg(tmp_path):
    _, figures = play("cross", tmp_path, detail=True)
    assert {name: figures[name] for name in ("co2", "fuel")} == pytest.approx(emitted_kg(tmp_path), abs=1e-6)
    assert 2.5 < figures["co2"] / figures["fuel"] < 3.5  # petrol gives 3.1 kg CO2 a kg
    assert "co2" not in play("cross", tmp_path)[1]


def test_without_out_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env, figures = play("cross", None)
    assert figures["scheduled"] == scenario.scheduled(env.scenario)
    assert not list(tmp_path.iterdir())
    assert not (env.out / f"tls_{SEED}.xml").exists()


def test_logging_the_lights_does_not_change_the_traffic(tmp_path):
    assert play("grid2x2", tmp_path)[1] == play("grid2x2", None)[1]


@pytest.mark.parametrize("timing", ["sumo-rl", "field"])
def test_the_lights_that_sumo_showed_keep_the_timing(timing, tmp_path):
    """A phase held from start to end, which only the longest red may break; tests/test_controllers.py has the controllers."""
    timing = read_timing(timing)
    env, _ = play("grid2x2", tmp_path, timing, policy=1)
    logged = signal_log.read(tmp_path / f"tls_{SEED}.xml")
    assert set(logged) == set(env.names)
    assert not [violation for states in logged.values() for violation in signal_log.timing_violations(states, timing)]
    changes = sum(map(signal_log.greens_ended, logged.values()))
    assert changes > 20 if timing.max_red_s else changes == 4 * 4
