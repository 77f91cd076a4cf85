"""Delay, queue and use of capacity of movements: their sums are those of SUMO's own files."""

import csv
import math
from collections import Counter, defaultdict
from xml.etree import ElementTree

import numpy as np
import pytest
import sumolib

from tsc_marl.cli.main import main
from tsc_marl.evaluation import service_tables
from tsc_marl.rollout.policies import ControllerPolicy
from tsc_marl.rollout.task import Task
from tsc_marl.rollout.types import Job
from tsc_marl.rollout.worker import Worker
from tsc_marl.sim import movements, passages, service
from tsc_marl.sim.demand import Demand
from tsc_marl.sim.lights import Lights
from tsc_marl.sim.movements import Movement, NetworkMovements
from tsc_marl.sim.service import ALL, BEHIND, Service

SEED = 1000
CROSS = Task("cross")


def played(task, policy, out):
    worker = Worker()
    options = {"out": out, "measure_approaches": True, "movements": movements.of(task.scenario, task.net())}
    metrics = worker.play(Job(0, task, ControllerPolicy(policy), SEED, **options)).metrics
    worker.close()
    return metrics, service.read(service.file_of(out, SEED))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tmp_path_factory.mktemp("cross")


@pytest.fixture(scope="module")
def rows(files):
    """Of fixed time at `cross` with more vehicles than fit in."""
    return played(Task("cross", demand=Demand(scale=2.5)), "fixed_time", files)[1]


def raw(path, tag):
    return [element.attrib for element in ElementTree.parse(path).getroot().iter(tag)]


def approaches(rows):
    return [row for row in rows if row.turn == ALL and row.approach != BEHIND]


def turns(rows):
    return [row for row in rows if row.turn != ALL]


def lost_in_trips(folder):
    return sum(float(trip["timeLoss"]) + float(trip["departDelay"]) for trip in raw(folder / f"tripinfo_{SEED}.xml", "tripinfo"))


def test_the_time_lost_is_that_of_sumos_trips(files, rows):
    behind = rows[-1].lost_s
    expected = lost_in_trips(files)
    assert sum(row.lost_s for row in approaches(rows)) + behind == pytest.approx(expected, abs=0.1)
    assert sum(row.lost_s for row in turns(rows)) + behind == pytest.approx(expected, abs=0.1)
    assert 0 < behind < 0.02 * expected


def test_the_time_lost_at_several_signals_is_the_delay_of_the_table(tmp_path):
    metrics, rows = played(Task("grid2x2"), "max_pressure", tmp_path)
    total_s = sum(row.lost_s for row in approaches(rows)) + rows[-1].lost_s
    assert total_s == pytest.approx(metrics["delay"] * metrics["scheduled"], abs=0.2)
    assert rows[-1].lost_s < 0.2 * total_s


def edges_of(files):
    """Sums over intervals of SUMO's data of edges."""
    total = defaultdict(Counter)
    for edge in raw(files / f"edges_{SEED}.xml", "edge"):
        total[edge["id"]].update({key: float(edge.get(key, 0)) for key in ("timeLoss", "left", "arrived", "entered", "departed")})
    return total


NET = sumolib.net.readNet(str(CROSS.scenario.net), withInternal=True)
TURNS = {"straight": "s", "left": "l", "right": "r"}


def inside(road, turn):
    """The edges of a turn inside the junction, in the order in which one drives."""
    way = next(way for ways in NET.getEdge(road).getOutgoing().values() for way in ways if way.getDirection() == TURNS[turn])
    lanes = [NET.getLane(way.getViaLaneID())]
    while via := lanes[-1].getOutgoing()[0].getViaLaneID():
        lanes.append(NET.getLane(via))
    return [lane.getEdge().getID() for lane in lanes]


def test_vehicles_are_those_of_sumos_edges(files, rows):
    of_edge = edges_of(files)
    for row in turns(rows):
        assert row.vehicles == of_edge[inside(row.road, row.turn)[-1]]["left"] > 0


def test_the_time_lost_on_each_approach_is_that_of_sumos_edges(tmp_path):
    """Edges count against the road's limit, and a vehicle between two of them in both: SUMO's own totals are 5 % apart."""
    _, rows = played(CROSS, "fixed_time", tmp_path)
    of_edge = edges_of(tmp_path)
    for row in approaches(rows):
        road = [row.road.partition(".")[0], f":{row.road}_0", row.road]  # it is cut where the pocket for left turns begins
        between = {edge for turn in TURNS for edge in inside(row.road, turn)}
        assert row.lost_s == pytest.approx(sum(of_edge[edge]["timeLoss"] for edge in (*road, *between)), rel=0.08)


def test_who_has_not_passed_is_unserved(files, rows):
    trips = raw(files / f"tripinfo_{SEED}.xml", "tripinfo")
    due = [trip["id"] for trip in trips if float(trip["depart"]) >= 0 or float(trip["departDelay"]) > 0]
    scheduled = Counter(name.partition("_")[0] for name in due)
    for row in approaches(rows):
        assert row.vehicles + row.unserved == scheduled[row.road.partition(".")[0]]
        assert row.unserved > 10


def test_queues_are_the_halting_and_waiting_vehicles_of_sumos_summary(files, rows):
    steps = raw(files / f"summary_{SEED}.xml", "step")
    expected = np.mean([int(step["halting"]) + int(step["waiting"]) for step in steps])
    for of in (approaches(rows), turns(rows)):
        assert sum(row.queue_mean for row in of) == pytest.approx(expected, rel=0.02)
    assert all(row.queue_mean < row.queue_p95 <= row.queue_max for row in approaches(rows))


def test_room_and_capacity_are_those_of_the_network_file(rows):
    """Fixed time: two lanes go straight on, of which one turns right too; the pocket for left turns has its own green."""
    (cycle,) = ElementTree.parse(CROSS.scenario.net).getroot().iter("tlLogic")
    phases = [(phase.get("state"), float(phase.get("duration"))) for phase in cycle]
    for row in turns(rows):
        links = [way.getTLLinkIndex() for ways in NET.getEdge(row.road).getOutgoing().values() for way in ways
                 if way.getDirection() == TURNS[row.turn]]  # fmt: skip
        share = {state: sum(s for text, s in phases if text[links[0]] == state) / sum(s for _, s in phases) for state in "Gg"}
        lanes = 1 if row.turn == "left" else 2
        assert row.capacity_veh_h == pytest.approx(1800 * lanes * (share["G"] + 0.4 * share["g"]), rel=0.03)
        long_m, pocket_m = (NET.getEdge(edge).getLength() for edge in (row.road.partition(".")[0], row.road))
        room_m = {"straight": 2 * (long_m + pocket_m), "right": long_m + pocket_m, "left": pocket_m}[row.turn]
        assert row.storage_veh == pytest.approx(room_m / 7.5, abs=0.01)
    for row in approaches(rows):
        own = [other for other in turns(rows) if other.road == row.road]
        through = [other for other in own if other.turn != "left"]
        came = sum(other.vehicles + other.unserved for other in through)
        assert through[0].v_c == pytest.approx(came * 6 / through[0].capacity_veh_h, abs=0.01)  # the window is 600 s
        assert row.v_c == max(other.v_c for other in own)


# the files of evaluate


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("evaluated")
        patch.setenv("TSC_MARL_HOME", str(folder))
        patch.chdir(folder)
        line = "evaluate --network cross --policy fixed_time max_pressure --eval-seeds 5 6 --workers 1 --out out"
        assert main(line.split()) == 0
        yield folder / "out" / "cross"


def table(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_evaluate_writes_every_approach_and_movement_of_each_episode(evaluated):
    of_approaches, of_movements, metrics = (table(evaluated / f"{name}.csv") for name in (*service_tables.NAMES, "metrics"))
    assert {(row["policy"], row["seed"]) for row in of_movements} == {(row["controller"], row["seed"]) for row in metrics}
    for episode in metrics:
        own, parts = ([row for row in some if (row["policy"], row["seed"]) == (episode["controller"], episode["seed"])]
                      for some in (of_approaches, of_movements))  # fmt: skip
        assert [row["approach"] for row in own] == ["north", "east", "south", "west", "behind"]
        assert Counter(row["turn"] for row in parts[:-1]) == {"straight": 4, "left": 4, "right": 4}
        total_s = float(episode["delay"]) * float(episode["scheduled"])
        for some in (own, parts):
            assert sum(float(row["lost_s"]) for row in some) == pytest.approx(total_s, abs=0.2)
        for row in own[:-1]:
            assert float(row["delay_s"]) == pytest.approx(float(row["lost_s"]) / int(row["vehicles"]), abs=0.01)
            assert row["level"] == "ABCDEF"[np.searchsorted([10, 20, 35, 55, 80], float(row["delay_s"]))]


def test_the_table_of_the_worst_approaches_fits_80_columns(evaluated, capsys):
    from tsc_marl import console

    own = [row for row in table(evaluated / "approaches.csv") if row["policy"] == "fixed_time" and row["approach"] != "behind"]
    delays = {side: [row for row in own if row["approach"] == side] for side in ("north", "east", "south", "west")}
    means = {
        side: sum(float(row["lost_s"]) for row in some) / sum(int(row["vehicles"]) for row in some)
        for side, some in delays.items()
    }
    console.show(service_tables.worst("title", evaluated / "fixed_time", (5, 6)))
    lines = [line for line in capsys.readouterr().out.splitlines() if "A0" in line]
    assert [line.split()[3] for line in lines] == sorted(means, key=lambda side: -means[side])
    assert f"{max(means.values()):.1f}" in lines[0]
    assert max(map(len, lines)) <= 80


# by hand


ROUTES = """<routes>
    <vehicle id="gone"><route edges="a :x_0 b :y_0 :y_1 c" exitTimes="10.00 12.00 20.00 22.00 25.00 31.00"/></vehicle>
    <vehicle id="turning"><route edges="a :x_0 b :y_0 :y_1 c" exitTimes="10.00 12.00 20.00 -1 -1 -1"/></vehicle>
    <vehicle id="short"><route edges="a b" exitTimes="10.00 -1"/></vehicle>
</routes>"""


def test_a_vehicle_has_passed_when_it_has_left_the_junction(tmp_path):
    path = tmp_path / "routes.xml"
    path.write_text(ROUTES, encoding="utf-8")
    number = {("a", "b"): 3, ("b", "c"): 7}
    read = passages.read(path, number)
    assert (read["gone"].movement, read["gone"].second) == ([3, 7], [12.0, 25.0])
    assert (read["turning"].movement, read["turning"].second) == ([3, 7], [12.0, math.inf])
    assert (read["short"].movement, read["short"].second) == ([3], [10.0])
    assert passages.ahead(["z", "b", "c"], number).movement == (7,)
    assert passages.ahead(["z", "c"], number).movement == ()


def network(*each):
    links = [Movement(0, "road", "", "north", turn, links, 1.0) for turn, links in each]
    return NetworkMovements(tuple(links), {}, {})


def test_lanes_with_a_turn_in_common_have_one_capacity():
    """Lane 0 straight on and right, lane 1 straight on, lane 2 left, which yields for half of its green."""
    of = network(("straight", (("0", 0), ("1", 1))), ("left", (("2", 2),)), ("right", (("0", 3),)))
    lights = Lights(["GGgG", "rrGr", "rrrr"], [0, 50, 75], [0, 1, 2])
    assert of.lane_groups() == [0, 1, 0]
    assert of.capacity_veh_h([lights], 100) == pytest.approx([1800, 1800 * (0.4 * 0.5 + 0.25), 1800])


def test_a_turn_past_the_signal_has_no_capacity():
    of = network(("straight", (("0", 0),)), ("right", (("1", -1),)))
    assert of.capacity_veh_h([Lights(["G"], [0], [0])], 100) == pytest.approx([1800, math.nan], nan_ok=True)


def test_what_nobody_came_to_has_no_level():
    nobody, stuck = (Service("A0", "road", "", "west", ALL, 0, 0, lost_s) for lost_s in (0.0, 5.0))
    assert (nobody.level, stuck.level) == ("–", "F")
