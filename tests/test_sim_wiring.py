# pyright: reportAttributeAccessIssue=false
# Attributes of a torch module are those of its parts, which pyright does not know.
"""How the parts of the simulation are joined: which vehicle, which lane, which interval, which seed and which worker."""

import heapq
import json
from types import SimpleNamespace

import numpy as np
import pytest
import sumolib
import torch

from tsc_marl import algos
from tsc_marl.rollout.policies import TrainedPolicy
from tsc_marl.rollout.task import Task, read_spec
from tsc_marl.rollout.types import Job
from tsc_marl.rollout.worker import Worker
from tsc_marl.sim import metrics, road_network, scenario
from tsc_marl.sim.detector_coverage import detector_coverage
from tsc_marl.sim.disturbances import FROZEN_PREFIX, Disturbance
from tsc_marl.sim.engine import Vehicles
from tsc_marl.sim.observations.lanes import LANE_FEATURES, LanesObservation
from tsc_marl.sim.shortest_ways import LanesDownstream
from tsc_marl.sim.signal_timer import SignalTimer, legal_phases
from tsc_marl.sim.signal_timing import Timing
from tsc_marl.sim.signal_view import SignalContext, SignalView

SEED = 5


def read(name):
    return road_network.read(scenario.load(name).net)


def vehicles(net, *rows):
    """Vehicles from (lane, metres to the end of the lane, speed, seconds of waiting)."""
    lanes, to_end, speed, waiting = zip(*rows, strict=True) if rows else ((), (), (), ())
    number = np.array([net.lane_index[lane] for lane in lanes], dtype=int)
    columns = (
        np.array(column, dtype=float) for column in (net.lane_length_m[number] - to_end, speed, waiting, np.zeros(len(rows)))
    )
    return Vehicles([f"v{i}" for i in range(len(rows))], number, *columns)


# detectors and observations


def write_network(path):
    """A road of 100 m, then one of 40 m; behind it either straight on or back by a turn. Interiors of 8 m."""
    roads = {"before": ("a", "b", 100), "stub": ("b", "c", 40), "on": ("c", "d", 50), "back": ("c", "b", 40)}
    ways = [("before", "stub", "b", "s"), ("stub", "on", "c", "s"), ("stub", "back", "c", "t")]
    lane = '<lane id="{}_0" index="0" speed="10" length="{}" shape="0,0 1,0"/>'.format
    lines = [f'<edge id="{e}" from="{a}" to="{b}" priority="1">{lane(e, m)}</edge>' for e, (a, b, m) in roads.items()]
    inner = [f":{node}_{i}" for i, (*_, node, _) in enumerate(ways)]
    lines += [f'<edge id="{e}" function="internal">{lane(e, 8)}</edge>' for e in inner]
    lines += [f'<junction id="{node}" type="priority" x="0" y="0" incLanes="" intLanes="" shape="0,0"/>' for node in "abcd"]
    ends = 'fromLane="0" toLane="0" state="M"'
    for (start, end, _, turn), e in zip(ways, inner, strict=True):
        lines.append(f'<connection from="{start}" to="{end}" via="{e}_0" dir="{turn}" {ends}/>')
        lines.append(f'<connection from="{e}" to="{end}" dir="{turn}" {ends}/>')
    path.write_text('<net version="1.20">' + "\n".join(lines) + "</net>", encoding="utf-8")
    return sumolib.net.readNet(str(path), withInternal=True)


def test_detectors_look_through_the_junction_to_the_road_before(tmp_path):
    net = write_network(tmp_path / "small.net.xml")
    lanes = ["before_0", ":b_0_0", "stub_0", "on_0"]
    index = {lane.getID(): i for i, lane in enumerate(one for e in net.getEdges(withInternal=True) for one in e.getLanes())}
    found = detector_coverage(net, index, ["stub_0"], 200.0).offset_m[[index[lane] for lane in lanes], 0]
    assert found.tolist() == [40 + 8, 40, 0, np.inf]
    short = detector_coverage(net, index, ["stub_0"], 45.0).offset_m[[index[lane] for lane in lanes], 0]
    assert short.tolist() == [np.inf, 40, 0, np.inf]


def test_a_way_back_by_a_turn_leads_to_no_next_signal(tmp_path):
    net = write_network(tmp_path / "small.net.xml")
    before, stub = (net.getLane(name).getLength() for name in ("before_0", "stub_0"))

    def reached(controlled, own=()):
        return LanesDownstream(net, controlled)(["before_0"], own)["before_0"]

    assert reached({"on_0", "back_0"}) == {"before_0": 0, "stub_0": before, "on_0": before + stub}
    assert reached({"stub_0", "on_0"}) == {"before_0": 0, "stub_0": before}
    assert reached({"before_0"}) == {"before_0": 0}
    assert reached({"before_0", "stub_0", "on_0"}, own={"before_0"}) == {"before_0": 0, "stub_0": before}


def nearest_first(lane, passed, wanted):
    """Follow the lanes onward from one, nearest first, past those in `passed`; return how far those in `wanted` begin."""
    heap, away_m = [(0.0, lane.getID(), lane)], {}
    while heap:
        metres, name, lane = heapq.heappop(heap)
        if name in away_m:
            continue
        away_m[name] = metres
        if name in wanted and name not in passed:
            continue
        for way in lane.getOutgoing():
            if way.getDirection() != "t" and way.getToLane().getEdge().getFunction() == "":
                heapq.heappush(heap, (metres + lane.getLength(), way.getToLane().getID(), way.getToLane()))
    return {name: metres for name, metres in away_m.items() if name in wanted and name not in passed}


def test_the_lanes_of_the_next_signals_are_those_of_a_plain_search():
    network = read("ingolstadt7")
    net = sumolib.net.readNet(str(scenario.load("ingolstadt7").net), withInternal=True)
    signal_lanes = {lane for signal in network.signals for lane in signal.lanes}
    for signal in network.signals:
        for link in signal.links:
            expected = nearest_first(net.getLane(link.out_lane), set(signal.lanes), signal_lanes)
            assert link.next_lanes == pytest.approx(expected), (signal.name, link.link)


def observe(*rows):
    """Return each lane's features on cross, by lane and name; decisions fall every 5 s."""
    net = read("cross")
    (signal,) = net.signals
    timers = [SignalTimer(signal.name, signal.phases, Timing(decision_s=5), 0.0)]
    view = SignalView(
        0.0, vehicles(net, *rows), timers, legal_phases(timers, 0.0), np.zeros(len(net.lane_length_m), bool), lambda vehicle: ()
    )
    seen = LanesObservation(SignalContext(net, Timing(decision_s=5), 200.0))(view)[0, : len(signal.lanes) * len(LANE_FEATURES)]
    table = seen.reshape(-1, len(LANE_FEATURES))
    return {lane: dict(zip(LANE_FEATURES, row.tolist(), strict=True)) for lane, row in zip(signal.lanes, table, strict=True)}


ROAD, POCKET = "bottom0A0_0", "bottom0A0.150.00_0"
"""A road of cross and the lane of 34 m that it feeds, 8.27 m of junction between them."""


def test_an_empty_lane_flows_freely():
    empty = observe()
    assert all(lane == {"queue": 0, "approaching": 0, "arriving": 0, "speed": 1, "waiting": 0} for lane in empty.values())
    one = observe((POCKET, 10.0, 13.89 / 4, 0.0))
    assert one[POCKET]["speed"] == pytest.approx(0.25)
    assert {lane["speed"] for name, lane in one.items() if name != POCKET} == {1.0}


def test_a_vehicle_arrives_if_it_reaches_the_stop_line_and_not_just_the_end_of_its_lane():
    way_m = 1 + 8.27 + 34
    for speed, arriving in ((way_m / 5 + 0.01, 1 / 5), (way_m / 5 - 0.01, 0.0)):
        lane = observe((ROAD, 1.0, speed, 0.0))[POCKET]
        assert lane["approaching"] == pytest.approx(1 / 10)
        assert lane["arriving"] == pytest.approx(arriving)


@pytest.mark.parametrize(("waited_s", "shown"), [((50.0,), 0.5), ((50.0, 80.0), 0.8), ((300.0,), 3.0), ((1000.0,), 3.0)])
def test_waiting_is_the_longest_one_up_to_five_minutes(waited_s, shown):
    rows = [(POCKET, 1.0 + 7 * i, 0.0, seconds) for i, seconds in enumerate(waited_s)]
    assert observe(*rows)[POCKET]["waiting"] == pytest.approx(shown)


# metrics


def details(out, *intervals):
    """Return the detailed metrics of intervals (begin, end, attributes of one road)."""
    lines = [f'<interval begin="{a}" end="{b}"><edge id="bottom0A0" {edge}/></interval>' for a, b, edge in intervals]
    (out / f"edges_{SEED}.xml").write_text(f"<meandata>{''.join(lines)}</meandata>", encoding="utf-8")
    (out / f"tripinfo_{SEED}.xml").write_text("<tripinfos/>", encoding="utf-8")
    (out / f"summary_{SEED}.xml").write_text("<summary/>", encoding="utf-8")
    (out / f"pending_{SEED}.json").write_text(json.dumps({}), encoding="utf-8")
    return metrics.read(out, SEED, 1, read("cross"))


@pytest.mark.parametrize(
    ("end_s", "vehicles", "left", "blocked"), [(600, 5, 0, 1), (400, 5, 0, 0), (600, 4.9, 0, 0), (600, 5, 1, 0)]
)
def test_only_five_whole_minutes_make_a_road_blocked(end_s, vehicles, left, blocked, tmp_path):
    counted = f'sampledSeconds="{vehicles * (end_s - 300)}" left="{left}" arrived="0"'
    assert details(tmp_path, (300, end_s, counted))["blocked"] == blocked


@pytest.mark.parametrize(("entered", "worst"), [(20, 3.0), (19, float("nan"))])
def test_an_approach_of_twenty_vehicles_may_be_the_worst(entered, worst, tmp_path):
    found = details(tmp_path, (0, 300, f'entered="{entered}" timeLoss="{3 * entered}"'))
    assert found["worst_approach"] == pytest.approx(worst, nan_ok=True)


# disturbances


SUMO = SimpleNamespace(vehicle=SimpleNamespace(getNextTLS=lambda name: []))
"""Answers the one call that frozen detectors make: no signal is ahead."""


def failures(seed, **shares):
    """Return the lanes of grid2x2 whose detectors show nothing, and those that are frozen, at the end of an episode."""
    net = read("grid2x2")
    everyone = vehicles(net, *((lane, 1.0, 5.0, 0.0) for lane in net.lane_index))
    shown = Disturbance(**shares).detectors(net, seed, 0.0, 100.0).show(everyone, 100.0, SUMO)
    frozen = {name.removeprefix(FROZEN_PREFIX) for name in shown.ids if name.startswith(FROZEN_PREFIX)}
    return set(everyone.ids) - {name.removeprefix(FROZEN_PREFIX) for name in shown.ids}, frozen, len(everyone.ids)


def test_blind_and_frozen_lanes_are_different_ones_with_a_share_each():
    blind, frozen, lanes = failures(SEED, blind=0.3, frozen=0.4)
    assert not blind & frozen
    assert len(blind) / lanes == pytest.approx(0.3, abs=0.1)
    assert len(frozen) / lanes == pytest.approx(0.4, abs=0.1)


def test_other_episodes_have_other_failures():
    assert failures(1, blind=0.3)[0] == failures(1, blind=0.3)[0] != failures(2, blind=0.3)[0]


# signals


def test_where_the_wish_cannot_be_granted_the_link_with_the_longest_red_comes_first():
    """Link 3 lost its green at 30 s, links 0 and 2 at 40 s; at 60 s phase 1 must end, whichever of the others follows."""
    timer = SignalTimer("a", ("rGGr", "rGrr", "rrrG", "GrGr"), Timing(10, yellow_s=3, min_green_s=5, max_red_s=41), 0.0)
    wishes = {0: 0, 10: 1, 20: 2, 30: 3, 40: 1, 50: 1}
    assert {now: timer.request(phase, now) for now, phase in wishes.items()} == wishes
    assert np.flatnonzero(timer.legal(60)).tolist() == [0, 2, 3]
    assert timer.request(1, 60) == 2


# rollouts

TASK = Task("cross")


@pytest.fixture(scope="module")
def policy():
    """A policy with a memory that has a weight in its choices."""
    torch.manual_seed(0)
    cls = algos.find("ippo")
    config = cls.Config(recurrent=True, hidden=(8,))
    algorithm = cls(read_spec(TASK), config)
    torch.nn.init.normal_(algorithm.actor.head.weight)
    return TrainedPolicy("ippo", config, algorithm.policy_state())


def rollouts(jobs):
    """Play jobs with one new worker; return their batches."""
    worker = Worker()
    try:
        return [worker.play(job).batch for job in jobs]
    finally:
        worker.close()


def parts(policy, count, explore_seed=7):
    """The first rollouts of one episode, each of 10 decisions."""
    return [Job(0, TASK, policy, SEED, explore_seed, rollout_length=10, previous_policies=(policy,) * i) for i in range(count)]


def test_a_worker_that_takes_over_remembers_what_came_before(policy):
    *_, expected = rollouts(parts(policy, 3))
    (found,) = rollouts(parts(policy, 3)[-1:])
    assert expected.extras["hidden"][0].any()
    for name in ("hidden", "probs"):
        assert torch.equal(found.extras[name], expected.extras[name])
    assert torch.equal(found.action, expected.action)


def test_exploration_has_a_seed_of_its_own(policy):
    """The same traffic, other draws."""
    (one,), (again,), (other,) = (rollouts(parts(policy, 1, seed)) for seed in (1, 1, 2))
    assert torch.equal(one.action, again.action)
    assert torch.equal(one.obs[0], other.obs[0])
    assert not torch.equal(one.action, other.action)
