"""Every classical controller: lights that obey, and choices that can be worked out by hand."""

import dataclasses
import itertools
import re

import numpy as np
import pytest

from tsc_marl import controllers
from tsc_marl.config import read_timing
from tsc_marl.controllers import green_wave, webster
from tsc_marl.controllers.max_pressure_cyclic import MaxPressureCyclic
from tsc_marl.errors import UserError
from tsc_marl.evaluation import signal_log
from tsc_marl.rollout.policies import ControllerPolicy
from tsc_marl.sim import link_counts, road_network, scenario, signal_programs, street_programs, turning_counts
from tsc_marl.sim.disturbances import Disturbance
from tsc_marl.sim.engine import Vehicles
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.signal_timing import PhaseChanges, Timing

SEED = 23
NAMES = [name for name in controllers.available() if name not in ("fixed_time", "own_program")]
TIMINGS = ("sumo-rl", "field")
FAST = [
    ("max_pressure", "cross", "field"),
    ("webster", "cross", "sumo-rl"),
    ("actuated", "cross", "field"),
    ("green_wave", "grid2x2", "sumo-rl"),
    ("random", "grid2x2", "field"),
]
"""Controller, network and timing of the fast tier's simulations."""
WINDOW_S = {"ingolstadt21": 300, "arterial4x4": 300, "rush5x5": 300}
"""Simulated seconds, 600 elsewhere: enough for every phase several times."""


def short(name):
    """Return the scenario with its window cut."""
    whole = scenario.load(name)
    return dataclasses.replace(whole, end_s=whole.begin_s + WINDOW_S.get(name, 600))


def play(env, name, out=None):
    """Play one episode and return its figures."""
    try:
        act, done = ControllerPolicy(name).start(env, SEED, out=out).act, False
        while not done:
            _, done = env.step(act())
        return env.metrics()
    finally:
        env.close()


def lights():
    """Return (controller, network, timing): controller k on network k with one timing, on network k + 1 with the other."""
    nets = scenario.available()
    rows = range(max(len(NAMES), len(nets)))
    wide = [(NAMES[k % len(NAMES)], nets[(k + i) % len(nets)], timing) for k in rows for i, timing in enumerate(TIMINGS)]
    return [*FAST, *(pytest.param(*case, marks=pytest.mark.sumo) for case in wide if case not in FAST)]


def test_each_controller_and_each_network_is_played_twice():
    cases = [getattr(case, "values", case) for case in lights()]
    for i, values in ((0, NAMES), (1, scenario.available())):
        for value in values:
            partners = {case[1 - i] for case in cases if case[i] == value}
            assert len(partners) >= 2, value
            assert {case[2] for case in cases if case[i] == value} == set(TIMINGS)


@pytest.mark.parametrize(("name", "net", "timing"), lights())
def test_lights(name, net, timing, tmp_path):
    """No crossing greens, yellow and all-red as configured, no green too short, no red too long: from SUMO's own log."""
    timing = read_timing(timing)
    env = TrafficEnv(short(net), timing)
    assert name != "green_wave" or len(env.names) > 1, "a single signal has no wave; give this network another controller"
    figures = play(env, name, tmp_path)
    logged, street = signal_log.read(tmp_path / f"tls_{SEED}.xml"), signal_log.StreetSignals(env.scenario.net)
    assert set(logged) == set(env.names)
    changes = 0
    for signal, states in logged.items():
        assert not list(signal_log.timing_violations(states, timing, cut=controllers.find(name).sumo_controlled))
        assert street.conflicts[signal]
        assert not list(street.violations(signal, states))
        changes += signal_log.greens_ended(states)
    assert changes > len(env.names)
    assert figures["arrived"] > 0


@pytest.mark.parametrize(
    ("net", "name"), [("cologne3", "fixed_time"), ("cologne3", "own_program"), ("arterial4x4", "fixed_time")]
)
def test_a_static_program_of_the_network_is_shown(net, name, tmp_path):
    """Second by second, from the phases in the network file."""
    env = TrafficEnv(short(net))
    play(env, name, tmp_path)
    street = signal_log.StreetSignals(env.scenario.net)
    for signal, states in signal_log.read(tmp_path / f"tls_{SEED}.xml").items():
        assert len(states) == env.scenario.duration_s
        assert not list(street.program_violations(signal, states, env.scenario.begin_s, by_the_clock=True))


def crossing(flow, other):
    """Return the demand at a junction of two one-lane streets, one phase each, flows as shares of saturation."""
    each = np.eye(2)
    return webster.PhaseDemand(serves=each, turn=each.astype(bool), lane=each.astype(bool), flow=np.array([flow, other]))


def changes(n, timing=None):
    """Return the changes between n phases with a link each."""
    return PhaseChanges(["".join("rG"[i == k] for k in range(n)) for i in range(n)], timing or Timing())


def test_webster_by_hand():
    """Y = .5, L = 2 (5 + 1): C = (18 + 5) / .5 = 46; green in proportion to the flows, 34 s of it usable."""
    timing = Timing(yellow_s=3, all_red_s=2)
    demand = crossing(0.3, 0.2)
    assert webster.flow_ratio(demand, (0, 1)) == pytest.approx(0.5)
    plan = webster.best_plan(demand, changes(2, timing))
    assert plan.cycle_s(changes(2, timing)) == 46
    assert plan.phases == (0, 1)
    assert plan.green_s == (21, 15)  # 34 * .6 + 1 = 21.4, 34 * .4 + 1 = 14.6, whole seconds


@pytest.mark.parametrize(("flows", "cycle_s"), [((0.01, 0.01), 30), ((0.6, 0.5), 120), ((0.3, 0.2), 90)])
def test_webster_bounds_the_cycle(flows, cycle_s):
    """Between 30 and 120 s, a given cycle is kept, and no green is shorter than the least."""
    plan = webster.best_plan(crossing(*flows), changes(2))
    if cycle_s == 90:
        plan = dataclasses.replace(plan, green_s=webster.splits(crossing(*flows), plan.phases, cycle_s, changes(2)))
    assert plan.cycle_s(changes(2)) == cycle_s
    assert min(plan.green_s) >= Timing().min_green_s


def test_webster_leaves_out_a_phase_that_only_repeats():
    """Three phases of which the third serves what the others serve: it would only cost its lost time."""
    demand = dataclasses.replace(crossing(0.3, 0.2), serves=np.array([[1, 0], [0, 1], [1, 0.0]]))
    assert webster.candidates(demand, changes(3)) == [(0, 1), (1, 2), (0, 1, 2)]
    assert len(webster.best_plan(demand, changes(3)).phases) == 2


def test_webster_with_many_phases():
    """Sixteen links in a ring, each phase with three of them: of 2^16 sets the small ones are tried."""
    serves = np.array([np.roll([1.0] * 3 + [0.0] * 13, k) for k in range(16)])
    each = np.eye(16, dtype=bool)
    demand = webster.PhaseDemand(serves, each, each, np.full(16, 0.05))
    sets = webster.candidates(demand, changes(16))
    assert len(sets) == webster.MOST_SETS
    assert len(sets[0]) == 6
    assert all(serves[list(phases)].any(axis=0).all() for phases in sets)
    assert len(webster.best_plan(demand, changes(16)).phases) == 6


def test_webster_gives_a_protected_phase_to_a_turn_that_gaps_cannot_carry():
    """A left turn of half the saturation flow does not fit into permissive green, worth .4 of it."""
    serves = np.array([[1, 0.4, 0], [0, 1, 0], [0, 0, 1.0]])  # main street, its left turn alone, side street
    each = np.eye(3, dtype=bool)
    weak = webster.PhaseDemand(serves, each, each, np.array([0.3, 0.05, 0.2]))
    strong = webster.PhaseDemand(serves, each, each, np.array([0.3, 0.35, 0.2]))
    assert webster.best_plan(weak, changes(3)).phases == (0, 2)
    assert webster.best_plan(strong, changes(3)).phases == (0, 1, 2)


def test_flows_are_counted_along_the_routes():
    net = road_network.read(scenario.load("grid4x4").net)
    a, b = net.signals[0], net.signals[1]
    through = next(m for m in a.links if any(n.in_lane == m.out_lane for n in b.links))
    after = next(m for m in b.links if m.in_lane == through.out_lane)
    first, second = (tuple(map(road_network.edge_of, (m.in_lane, m.out_lane))) for m in (through, after))
    counted = turning_counts.count(net, {(*first, second[1]): 10, ("nowhere", *first): 5}, per_hour=2.0)
    one, two = (0, *first), (1, *second)
    assert counted.vehicles_per_hour == {one: 30.0, two: 20.0}
    assert counted.pairs_per_hour == {(one, two): 20.0}
    lane = net.lane_index[through.out_lane]
    assert counted.travel_s[one, two] == pytest.approx(net.lane_length_m[lane] / net.lane_limit_ms[lane])


def test_a_platoon_waits_for_the_start_of_green():
    """It leaves in seconds 0 to 4 of 20 and travels 10 s; the next signal is green for its first 5 s."""
    green = np.arange(20) < 5
    wait = green_wave.waiting(green, green, 10.0)
    assert wait[10] == 0
    assert wait[9] == pytest.approx(15 / 5)  # the last of the five comes when green has just ended
    assert wait[11] == pytest.approx(1 / 5)  # the first waits 1 s
    assert wait[15] == pytest.approx((5 + 4 + 3 + 2 + 1) / 5)


def test_offsets_follow_a_one_way_street():
    turns = [(i, f"e{i}", f"e{i + 1}") for i in range(3)]
    green = np.arange(60) < 20
    pairs = list(itertools.pairwise(turns))
    street = turning_counts.TurningCounts(
        dict.fromkeys(turns, 400.0), dict.fromkeys(pairs, 400.0), dict(zip(pairs, (13.0, 31.0), strict=True))
    )
    shift = green_wave.offsets(street, dict.fromkeys(turns, green), 60, 3)
    assert (shift[1] - shift[0]) % 60 == 13
    assert (shift[2] - shift[1]) % 60 == 31


def test_green_wave_needs_a_second_signal():
    env = TrafficEnv(short("cologne1"))
    with pytest.raises(UserError, match="green_wave cannot serve cologne1: no vehicle passes two signals"):
        controllers.find("green_wave")(turning_counts.planning_context(env))
    env.close()


@pytest.mark.parametrize(
    ("phases", "picked"),
    [
        (("GGrr", "rrGG"), (0, 1)),
        (("GgrG", "rGrr", "rrGr"), (0, 1, 2)),  # link 1 yields in the first
        (("GGrrrr", "rrGrrr", "GGGrrr", "rrrGGG"), (2, 3)),
        (("Gs", "sG"), (0, 1)),
    ],
)
def test_needed_phases(phases, picked):
    assert signal_programs.needed(PhaseChanges(phases, Timing())) == picked


@pytest.mark.parametrize("n", [2, 4])
def test_the_longest_green_keeps_the_longest_red(n):
    """n phases, all as long as may be: a link is red for all-red, then for the others with their changes."""
    timing = Timing(yellow_s=3, all_red_s=2, min_green_s=7, max_red_s=120)
    green_s = signal_programs.longest_green_s(changes(n, timing), range(n), 50)[0]
    red_s = [timing.all_red_s + (n - 1) * (g + timing.change_s) for g in (green_s, green_s + 1)]
    assert green_s == 50 or red_s[0] <= 120 < red_s[1]
    assert signal_programs.longest_green_s(changes(n), range(n), 50) == [50] * n


@pytest.fixture
def at():
    """Return a function that returns a controller at the start of an episode."""
    begun = []

    def begin(name, net):
        begun.append(TrafficEnv(scenario.load(net)))
        controller = controllers.find(name)(turning_counts.planning_context(begun[-1]))
        begun[-1].reset(SEED)
        controller.reset(SEED, begun[-1].view)
        return controller, begun[-1].view

    yield begin
    for env in begun:
        env.close()


def bound(*vehicles):
    """Return what a controller counts, vehicles given as (link, metres, halting)."""
    link, distance_m, halting = np.array(vehicles, dtype=float).reshape(-1, 3).T
    return link_counts.ApproachingVehicles(link.astype(int), distance_m, halting.astype(bool), np.ones(len(link)))


@pytest.mark.parametrize(("name", "expected"), [("longest_queue", [1, 1]), ("max_wave", [1, 0]), ("max_pressure", [2, 1])])
def test_what_the_greedy_rules_count(at, name, expected):
    """One vehicle halting at 10 m, one moving at 60 m, one halting at 150 m, one at 300 m, which is out of sight."""
    seen = bound((3, 10, True), (3, 60, False), (4, 150, True), (4, 300, True))
    assert at(name, "cross")[0].scores(seen)[[3, 4]].tolist() == expected


def test_max_pressure_subtracts_what_waits_at_the_next_signal(at):
    """One vehicle on a link and one on each link that follows, whose mean is 1; the paper's rule would gain nothing."""
    controller, _ = at("max_pressure", "grid2x2")
    following = controller.links.following.toarray()
    link = int(following.any(axis=1).argmax())
    onward = np.flatnonzero(following[link])
    assert following[link].sum() == pytest.approx(1)
    alone, blocked = bound((link, 5, True)), bound((link, 5, True), *((other, 5, True) for other in onward))
    assert controller.scores(alone)[link] == 1
    assert controller.scores(blocked)[link] == pytest.approx(0.5)
    controller.FOLLOWING = 1.0
    assert controller.scores(blocked)[link] == pytest.approx(0)


def test_a_link_of_several_movements_has_one_share_of_each_link_ahead():
    """ingolstadt21 has links that several lanes share; shares that were added up would count their vehicles twice."""
    net = road_network.of(scenario.load("ingolstadt21"))
    numbering = link_counts.LinkCounts(net)
    expected, leaving = np.zeros((numbering.size, numbering.size)), {}
    ways = [(first + m.link, m) for first, signal in zip(numbering.first, net.signals, strict=True) for m in signal.links]
    assert len({link for link, _ in ways}) < len(ways)
    for link, movement in ways:
        leaving.setdefault(movement.in_lane, []).append(link)
    for link, movement in ways:
        onward = [other for lane in movement.next_lanes for other in leaving[lane]]
        expected[link, onward] = 1 / max(len(onward), 1)
    assert (numbering.following.toarray() == expected).all()


def test_a_full_road_behind_leaves_a_green_no_use(at):
    """A vehicle bound for each link of a signal; the road behind the first link fills."""
    controller, view = at("max_pressure_capacity", "grid2x2")
    signal = controller.context.network.signals[0]
    first = signal.links[0]
    behind = [controller.context.network.lane_index[lane] for lane in first.receiving]
    holds = round(controller.context.network.lane_length_m[behind].sum() / road_network.VEHICLE_M)
    waiting = {f"w{i}": link for i, link in enumerate(signal.links)}

    def numbers(n_behind):
        lanes = [controller.context.network.lane_index[link.in_lane] for link in waiting.values()] + behind[:1] * n_behind
        zeros = np.zeros(len(lanes))
        vehicles = Vehicles([*waiting, *(f"b{i}" for i in range(n_behind))], np.array(lanes), zeros, zeros, zeros, zeros)
        ahead = {name: [(signal.name, link.link, 5.0, "r")] for name, link in waiting.items()}
        controller.act(dataclasses.replace(view, vehicles=vehicles, next_signals=lambda name: ahead.get(name, [])))
        return controller.phase_numbers[0]

    empty, half, full, over = (numbers(n) for n in (0, holds // 2, holds, 2 * holds))
    served = [[link for link in signal.links if state[link.link] in "Gg"] for state in signal.phases]
    sharing = np.array([sum(link.receiving == first.receiving for link in links) for links in served])
    assert sharing.any()
    assert empty.tolist() == list(map(len, served))
    assert empty - half == pytest.approx(sharing * (holds // 2 / holds) ** 2, abs=0.03)
    assert empty - full == pytest.approx(sharing, abs=0.1)
    assert empty - over == pytest.approx(sharing)


@pytest.mark.parametrize("net", ["cross", "grid2x2"])
def test_phases_come_in_turn_and_last_their_share(net):
    env = TrafficEnv(short(net))
    policy, done = ControllerPolicy("max_pressure_cyclic").start(env, SEED), False
    controller = policy.controller
    assert isinstance(controller, MaxPressureCyclic)
    cycle_s, begun, changes_seen = controller.CYCLE_S, [0.0] * len(env.names), 0
    while not done:
        seen = controller.links.approaching(env.view)
        near = controller.links.count(seen, seen.distance_m <= env.config.detection_m)
        before, legal, now = [timer.phase for timer in env.timers], env.avail, env.now
        _, done = env.step(policy.act())
        for i, (timer, green) in enumerate(zip(env.timers, controller.links.green, strict=True)):
            wanted = (green @ controller.links.for_signal(near, i) >= 0.5) & legal[i, : len(green)]
            steps = (timer.phase - before[i]) % len(green)
            passed = [(before[i] + k) % len(green) for k in range(1, steps)]
            assert not wanted[passed].any()
            if steps:
                begun[i], changes_seen = now, changes_seen + 1
            elif wanted.sum() > 1:
                assert now - begun[i] <= cycle_s + env.timing.decision_s
    env.close()
    assert changes_seen > 10


@pytest.mark.parametrize("name", ["max_pressure", "longest_queue", "max_wave"])
def test_no_link_with_traffic_waits_much_longer_than_the_guard(name):
    """On cologne8, where without it links wait for minutes; several may be due at once, hence the visits."""
    env = TrafficEnv(short("cologne8"))
    act, done = ControllerPolicy(name).start(env, SEED).act, False
    numbering = link_counts.LinkCounts(env.net)
    red_s, worst = np.zeros(numbering.size), 0.0
    while not done:
        seen = numbering.approaching(env.view)
        near = numbering.count(seen, seen.distance_m <= env.config.detection_m)
        _, done = env.step(act())
        for i, timer in enumerate(env.timers):
            own = numbering.for_signal(red_s, i)
            own += env.timing.decision_s
            own[numbering.green[i][timer.phase] | (numbering.for_signal(near, i) == 0)] = 0
        worst = max(worst, red_s.max())
    env.close()
    assert 10 < worst <= controllers.Greedy.MAX_RED_S + 3 * max(timer.service_s for timer in env.timers)


def test_sotl_waits_for_the_threshold_and_for_platoons(at, monkeypatch):
    """Vehicles halting on red count 5 vehicle-seconds a decision each; 40 are needed."""
    controller, view = at("sotl", "cross")
    green = controller.links.green[0]
    other = next(p for p in range(1, len(green)) if not (green[p] & green[0]).any())
    mine, theirs = int(green[0].argmax()), int(green[other].argmax())
    view.legal[:] = True
    waiting = [(theirs, 10, True)] * 4

    def see(*vehicles):
        monkeypatch.setattr(controller.links, "approaching", lambda *_: bound(*vehicles))
        return green[controller.act(view)[0]]

    assert see(*waiting)[mine]  # 20 of 40
    assert see(*waiting, (mine, 10, False))[mine]  # enough, but a platoon of one is about to pass
    assert see(*waiting)[theirs]
    assert see(*[(mine, 10, False)] * 4, *waiting)[theirs]  # four are no short platoon: they are cut


def test_fixed_time_runs_an_actuated_program_by_the_clock_and_own_program_as_it_is(tmp_path):
    """A signal of cross, its program actuated with greens of 5 to 50 s: by the clock it shows what the static one shows."""
    static = short("cross")
    actuated = tmp_path / "actuated.net.xml"
    text = static.net.read_text(encoding="utf-8").replace('type="static"', 'type="actuated"')
    actuated.write_text(
        re.sub(r'<phase duration="(\d\d|8)" +', r'<phase duration="\1" minDur="5" maxDur="50" ', text), encoding="utf-8"
    )
    scene = dataclasses.replace(static, net=actuated)
    delays = {name: play(TrafficEnv(scene), name)["delay"] for name in ("fixed_time", "own_program")}
    assert delays["fixed_time"] == play(TrafficEnv(static), "own_program")["delay"]
    assert delays["own_program"] < delays["fixed_time"] - 1
    stuck = TrafficEnv(scene, disturbance=Disturbance(stuck=1))
    assert play(stuck, "max_pressure")["delay"] == delays["fixed_time"]


def test_fixed_time_refuses_a_program_without_a_clock():
    program = street_programs.StreetProgram("A0", "NEMA", "0", (("Gr", 30.0), ("rG", 30.0)))
    env = TrafficEnv(short("cross"))
    context = turning_counts.planning_context(env)
    network = dataclasses.replace(context.network, responsive=(program,))
    with pytest.raises(UserError, match="fixed_time cannot serve cross: signal A0 has a NEMA program"):
        controllers.find("fixed_time")(dataclasses.replace(context, network=network))
    env.close()
