"""Time at the begin of the window in which the network fills: played by the policy, left out of every figure."""

import dataclasses
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from helpers.networks import network_with

from tsc_marl.sim import fingerprint, metrics, movements, passages, route_files, scenario
from tsc_marl.sim.demand import Demand
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.service_tracker import ServiceTracker
from tsc_marl.viz.running_figures import RunningFigures

pytest_plugins = ("helpers.fixtures",)
SEED, WARMUP_S, END_S = 3, 300, 900


def played(out, warmup_s, scale=1.0):
    """Play alternating phases on cross; return the environment, its metrics and the rows of its approaches."""
    scene = dataclasses.replace(scenario.load("cross"), warmup_s=warmup_s, end_s=END_S)
    env = TrafficEnv(scene, demand=Demand(scale=scale))
    of = movements.of(scene, env.net)
    env.reset(SEED, out=out, detail=True, extra_options=passages.route_options(out, SEED))
    tracker, ended, phase = ServiceTracker(env, of), False, 0
    while not ended:
        phase = (phase + 1) % (4 * env.n_phases[0])
        _, ended = env.step(np.array([phase // 4]))
        tracker.update()
    return env, env.metrics(), tracker.services()


def scheduled_s(trip):
    """Return when a vehicle of SUMO's file was due; one never inserted has waited until the end."""
    inserted = float(trip["depart"]) >= 0
    return (float(trip["depart"]) if inserted else END_S) - float(trip["departDelay"])


def trips(out):
    """Return the attributes of each trip, by regular expression."""
    lines = re.findall(r"<tripinfo ([^>]*)>", (out / f"tripinfo_{SEED}.xml").read_text(encoding="utf-8"))
    return [dict(re.findall(r'(\w+)="([^"]*)"', line)) for line in lines]


@pytest.fixture(scope="module", params=[1.0, 5.0])
def both(request, tmp_path_factory):
    """Play the same episode without a warm-up and with one, light and with vehicles that never get in."""
    folder = tmp_path_factory.mktemp("warmup")
    return {
        warmup_s: (folder / str(warmup_s), *played(folder / str(warmup_s), warmup_s, request.param)) for warmup_s in (0, WARMUP_S)
    }


def test_the_simulation_is_the_same(both):
    plain, warm = (trips(out) for out, *_ in both.values())
    assert plain == warm
    assert both[0][2]["delay"] != both[WARMUP_S][2]["delay"]


def test_only_what_departs_later_counts(both):
    out, _, figures, _ = both[WARMUP_S]
    due = [trip for trip in trips(out) if float(trip["depart"]) >= 0 or float(trip["departDelay"]) > 0]
    counted = [trip for trip in due if scheduled_s(trip) >= WARMUP_S - 1e-3]
    lost = [float(trip["timeLoss"]) + float(trip["departDelay"]) for trip in counted]
    assert 0 < len(counted) < len(due)
    assert figures["scheduled"] == len(counted)
    assert figures["delay"] == pytest.approx(np.mean(lost))
    assert figures["never_inserted"] == sum(float(trip["depart"]) < 0 for trip in counted)
    assert figures["arrived"] == sum(float(trip["arrival"]) >= 0 for trip in counted)


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_the_running_delay_is_that_of_the_metric(scale):
    scene = dataclasses.replace(scenario.load("cross"), warmup_s=WARMUP_S, end_s=END_S)
    env = TrafficEnv(scene, demand=Demand(scale=scale))
    env.reset(SEED)
    running, ended, figures = RunningFigures(env), False, []
    while not ended:
        _, ended = env.step(np.array([int(env.now // 40) % env.n_phases[0]]))
        figures.append(running.after_step().delay_s)
    delay_s = env.metrics()["delay"]
    assert not any(figures[: WARMUP_S // env.timing.decision_s])
    assert figures[-1] == pytest.approx(delay_s, rel=0.02)


def test_queues_of_the_warm_up_do_not_count(both):
    out, _, figures, _ = both[WARMUP_S]
    steps = re.findall(r'<step time="([\d.]+)"[^>]* halting="(\d+)"', (out / f"summary_{SEED}.xml").read_text(encoding="utf-8"))
    later = [int(halting) for second, halting in steps if float(second) >= WARMUP_S]
    assert 0 < len(later) < len(steps)
    assert figures["queue"] == pytest.approx(np.mean(later))


def test_the_approaches_add_up_to_the_delay(both):
    _, _, figures, services = both[WARMUP_S]
    lost_s = sum(row.lost_s for row in services if row.turn == services[0].turn)
    assert lost_s == pytest.approx(figures["delay"] * figures["scheduled"], rel=1e-6)


def test_edges_are_counted_from_the_end_of_the_warm_up(both):
    out, *_ = both[WARMUP_S]
    begins = re.findall(r'<interval begin="([\d.]+)"', (out / f"edges_{SEED}.xml").read_text(encoding="utf-8"))
    assert float(begins[0]) == WARMUP_S


def test_the_demand_of_the_tables_is_what_counts():
    plain = scenario.load("cross")
    warm = dataclasses.replace(plain, warmup_s=WARMUP_S)
    assert 0 < scenario.scheduled(warm) < scenario.scheduled(plain)
    assert fingerprint.of_files(warm) == fingerprint.of_files(plain) | {"warmup": f"{WARMUP_S} s"}


@pytest.mark.parametrize("flow", ['period="10"', 'probability="0.1"', 'period="exp(0.1)"', 'number="60"', 'vehsPerHour="360"'])
def test_flows_count_from_the_end_of_the_warm_up(flow, tmp_path):
    path = tmp_path / "flows.rou.xml"
    path.write_text(f'<routes><flow id="f" from="a" to="b" begin="0" end="600" {flow}/></routes>', encoding="utf-8")
    element = ElementTree.parse(path).getroot()[0]
    assert route_files.expected(element, path, 0, 600, 0) == pytest.approx(60)
    assert route_files.expected(element, path, 0, 600, 200) == pytest.approx(40)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("600", "warmup_s must be 0 or more and less than the window of 600 s; got 600"),
        ("-1", "warmup_s must be 0 or more and less than the window of 600 s; got -1"),
        ("1.5", "warmup_s must be a whole number of seconds; got 1.5"),
        ("soon", "warmup_s must be a whole number of seconds; got 'soon'"),
    ],
)
def test_a_warm_up_that_cannot_be_is_one_line(given, says, home, tmp_path, capfd):
    name = f"warm{given.replace('.', '_')}"
    folder = network_with(tmp_path / name, "cross", begin_s=0, end_s=600, warmup_s=yaml.safe_load(given))
    assert home.main(f"evaluate --network {folder} --policy max_pressure") == 2
    assert says in " ".join(capfd.readouterr().err.split())


def test_persons_and_dropped_vehicles_of_the_warm_up_do_not_count(tmp_path):
    (tmp_path / "counted_1.json").write_text('{"from_s": 100, "end_s": 200}', encoding="utf-8")
    (tmp_path / "dropped_1.json").write_text('{"early": 150.0, "late": 100.0}', encoding="utf-8")
    walks = "".join(f'<personinfo id="{s}" depart="{s}"><walk arrival="199" timeLoss="{s}"/></personinfo>' for s in (99, 100))
    (tmp_path / "tripinfo_1.xml").write_text(f"<tripinfos>{walks}</tripinfos>", encoding="utf-8")
    steps = "".join(f'<step time="{s}" halting="{s}" teleports="{s}" collisions="{s / 5}"/>' for s in (95, 100, 105))
    (tmp_path / "summary_1.xml").write_text(f"<summary>{steps}</summary>", encoding="utf-8")
    record = metrics.read_record(tmp_path, 1, 1)
    assert record.persons.walk_loss_s.tolist() == [100]
    assert record.dropped == ("late",)
    assert list(record.trips.ids) == ["late"]
    assert record.halting.tolist() == [100, 105]
    assert (record.teleports, record.collisions) == (10, 2)
