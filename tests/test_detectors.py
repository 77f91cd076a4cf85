"""Detectors that fail: what policies see of it, what classical controllers expect there, and trainings with such episodes."""

import dataclasses
import json
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from tsc_marl import controllers
from tsc_marl.config import parse
from tsc_marl.controllers import webster
from tsc_marl.errors import UserError
from tsc_marl.rollout.policies import ControllerPolicy
from tsc_marl.rollout.stress import LIMITS, TrainStress
from tsc_marl.rollout.task import Task, check_task
from tsc_marl.sim import road_network, scenario, signal_programs, turning_counts
from tsc_marl.sim.disturbances import Disturbance
from tsc_marl.sim.engine import Vehicles
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.sim.link_counts import LinkCounts
from tsc_marl.sim.observations.movements import LINK_FEATURES, MovementsObservation
from tsc_marl.sim.planned_counts import PlannedCounts
from tsc_marl.sim.road_network import edge_of
from tsc_marl.sim.signal_timing import GREEN, Timing
from tsc_marl.tracking.run_folder import RunFolder
from tsc_marl.training import settings

pytest_plugins = ["helpers.fixtures"]

SEED = 23
COLUMN = {name: k for k, name in enumerate(LINK_FEATURES)}


def read(name):
    return road_network.read(scenario.load(name).net)


# what is seen


def links_seen(disturbance, decisions=20):
    """Play grid2x2, its signals changing in turn; return the environment and the features [decisions, links, K]."""
    env = TrafficEnv(scenario.load("grid2x2"), config=SimConfig("movements"), disturbance=disturbance)
    seen, turn = [], np.arange(len(env.names))
    env.reset(SEED)
    for k in range(decisions):
        env.step((turn + k // 3) % env.n_phases)
        observation = env.episode.feedback.observation
        assert isinstance(observation, MovementsObservation)
        structure = observation.structure
        width = structure.real.shape[1] * len(LINK_FEATURES)
        seen.append(env.obs[:, :width].reshape(-1, len(LINK_FEATURES))[structure.links])
    env.close()
    return env, np.array(seen)


def test_a_failed_lane_shows_zeros_and_that_it_has_failed():
    env, blind = links_seen(Disturbance(blind=0.3))
    _, calm = links_seen(Disturbance())
    net, failed = env.net, env.view.failed
    behind = [np.mean([failed[net.lane_index[lane]] for lane in link.receiving]) for s in net.signals for link in s.links]
    assert blind[..., COLUMN["failed_behind"]] == pytest.approx(np.broadcast_to(behind, blind.shape[:2]))
    share = blind[0, :, COLUMN["failed"]]
    assert {0.0, 1.0} <= set(share.tolist())
    counts = [COLUMN[name] for name in ("queue", "approaching", "arriving", "waiting")]
    assert not blind[:, share == 1][..., counts].any()
    assert calm[:, share == 1][..., counts].any()
    assert (blind[:, share == 0][..., counts] == calm[:, share == 0][..., counts]).all()
    for name in ("since_green", "green"):  # the lights are known, whatever the detectors show
        assert (blind[..., COLUMN[name]] == calm[..., COLUMN[name]]).all()
    assert not calm[..., [COLUMN["failed"], COLUMN["failed_behind"]]].any()


def test_a_stretch_without_detectors_counts_by_its_metres():
    """A pocket of cross of 34 m lies behind a road, 8.27 m of junction between them."""
    net = read("cross")
    (signal,) = net.signals
    failed = np.zeros(len(net.lane_length_m), dtype=bool)
    failed[net.lane_index["bottom0A0_0"]] = True
    share = dict(zip(signal.lanes, net.detector_coverage.covered_share(failed, net.lane_length_m, 200.0), strict=True))
    road_m = min(net.lane_length_m[net.lane_index["bottom0A0_0"]], 200 - 34 - 8.27)
    assert share["bottom0A0.150.00_0"] == pytest.approx(road_m / (34 + 8.27 + road_m), abs=0.01)
    near = net.detector_coverage.covered_share(failed, net.lane_length_m, 30.0)
    assert not near.any()


class Api:
    """Detectors without frozen lanes ask SUMO nothing."""


def on_road(net, lane, *away_m):
    """Return vehicles on a lane, so far from its end."""
    n, number = len(away_m), net.lane_index[lane]
    pos_m = net.lane_length_m[number] - np.array(away_m, dtype=float)
    return Vehicles([f"v{i}" for i in range(n)], np.full(n, number), pos_m, *(np.zeros(n) for _ in range(3)))


def test_loops_see_two_spots_of_a_lane():
    net = read("grid4x4")
    vehicles = on_road(net, net.signals[0].lanes[0], 1, 4, 8, 30, 36, 44, 50, 120)
    shown = Disturbance(loops=1.0).detectors(net, SEED, 0.0, 100.0).show(vehicles, 0.0, Api)
    assert shown.ids == ["v0", "v1", "v4", "v5"]
    signals = [
        len(Disturbance(loops=0.5).detectors(net, SEED, 0.0, 100.0).show(on_road(net, s.lanes[0], 100), 0.0, Api).ids)
        for s in net.signals
    ]
    assert 4 <= sum(signals) <= 12


def test_the_same_vehicles_are_connected_throughout():
    net = read("grid4x4")
    vehicles = on_road(net, net.signals[0].lanes[0], *np.linspace(1, 150, 400))
    detectors = Disturbance(connected=0.3).detectors(net, SEED, 0.0, 100.0)
    first, later = (detectors.show(vehicles, now, Api).ids for now in (0.0, 50.0))
    assert first == later
    assert len(first) / 400 == pytest.approx(0.3, abs=0.07)
    assert not Disturbance(connected=0.0).detectors(net, SEED, 0.0, 100.0).show(vehicles, 0.0, Api).ids


# what controllers expect


def refuse():
    raise AssertionError("nobody needs a plan while all detectors work")


def test_without_a_failure_nothing_is_planned():
    env = TrafficEnv(scenario.load("grid2x2"))
    counts = PlannedCounts(dataclasses.replace(turning_counts.planning_context(env), turning_counts=refuse))
    env.reset(SEED)
    counts.reset(env.view)
    for _ in range(20):
        env.step(np.zeros(len(env.names), dtype=int))
        planned, plain = counts.approaching(env.view), LinkCounts(env.net).approaching(env.view)
        assert all(np.array_equal(getattr(planned, name), getattr(plain, name)) for name in vars(plain))
        assert not counts.expected(env.view).any()
    env.close()


def test_a_blind_queue_grows_with_the_plan_and_leaves_with_green():
    """720 veh/h on a lane: a vehicle every 5 s arrives; a protected green lets half a vehicle a second out."""
    env = TrafficEnv(scenario.load("cross"), Timing(decision_s=5, yellow_s=2))
    (signal,) = env.net.signals
    red = next(link for link in signal.links if signal.phases[0][link.link] == "r")
    green = next(p for p, state in enumerate(signal.phases) if state[red.link] == "G")
    alone = [link for link in signal.links if link.in_lane == red.in_lane]
    turns = [(0, edge_of(link.in_lane), edge_of(link.out_lane)) for link in signal.links]
    flows = {turns[signal.links.index(link)]: 720 / len(alone) for link in alone}
    plan = turning_counts.TurningCounts({turn: flow * turns.count(turn) for turn, flow in flows.items()}, {}, {})
    counts = PlannedCounts(dataclasses.replace(turning_counts.planning_context(env), turning_counts=lambda: plan))
    env.reset(SEED)
    counts.reset(env.view)
    failed = np.ones(len(env.net.lane_length_m), dtype=bool)
    phases, queue = [0] * 6 + [green] * 3, []
    for phase in phases:
        env.step(np.array([phase]))
        queue.append(counts.expected(dataclasses.replace(env.view, failed=failed))[[link.link for link in alone]].sum())
    env.close()
    served = np.mean([{"G": 1.0, "g": 0.4}.get(signal.phases[green][link.link], 0.0) for link in alone])
    assert queue[:6] == pytest.approx([1, 2, 3, 4, 5, 6])
    assert queue[6:] == pytest.approx([7 - 1.5 * served, 8 - 4 * served, 9 - 6.5 * served])


def test_an_expected_queue_stands_vehicle_after_vehicle(monkeypatch):
    env = TrafficEnv(scenario.load("cross"))
    counts = PlannedCounts(turning_counts.planning_context(env))
    env.reset(SEED)
    queue = np.zeros(counts.size)
    queue[[2, 5]] = 2.25, 0.5
    monkeypatch.setattr(counts, "expected", lambda view: queue)
    bound = counts.approaching(dataclasses.replace(env.view, vehicles=Vehicles.none()))
    env.close()
    assert bound.link.tolist() == [2, 2, 2, 5]
    assert bound.distance_m.tolist() == [0, 7.5, 15, 0]
    assert bound.weight.tolist() == [1, 1, 0.25, 0.5]
    assert counts.count(bound, bound.distance_m <= 10)[[2, 5]].tolist() == [2, 0.5]


def delay(name, disturbance):
    env = TrafficEnv(scenario.load("cross"), disturbance=disturbance)
    act, done = ControllerPolicy(name).start(env, SEED).act, False
    while not done:
        _, done = env.step(act())
    return env.metrics()["delay"]


@pytest.mark.parametrize("name", ["actuated", "longest_queue", "max_pressure", "max_pressure_lane", "max_wave", "sotl"])
def test_controllers_that_see_nothing_serve_by_the_plan(name):
    assert ControllerPolicy(name).plays_under(Disturbance(blind=1.0))
    assert delay(name, Disturbance(blind=1.0)) < delay("fixed_time", Disturbance())


def test_actuated_phases_of_blind_lanes_run_by_webster():
    env = TrafficEnv(scenario.load("cross"))
    context, (signal,) = turning_counts.planning_context(env), env.net.signals
    flows = context.turning_counts()
    controller = controllers.find("actuated")(dataclasses.replace(context, turning_counts=lambda: flows))
    failed = np.zeros(len(env.net.lane_length_m), dtype=bool)
    assert controller.programs_without(failed) == controller.programs
    failed[env.net.lane_index[signal.lanes[0]]] = True
    blind = {link.link for link in signal.links if link.in_lane == signal.lanes[0]}
    logic, usual = (ElementTree.fromstring(xml)[0] for xml in (controller.programs_without(failed), controller.programs))
    assert {p.get("key"): p.get("value") for p in logic.iter("param")}[signal.lanes[0]] == "NO_DETECTOR"
    phases = signal_programs.needed(signal.changes(env.timing))
    planned = webster.planned_greens(webster.demands(env.net, flows)[0], phases, signal.changes(env.timing))
    greens = {signal.phases[p]: green_s for p, green_s in zip(phases, planned, strict=True)}
    shown = [(phase.attrib, before.attrib) for phase, before in zip(logic.iter("phase"), usual.iter("phase"), strict=True)]
    served = [any(phase["state"][link] in GREEN for link in blind) for phase, _ in shown]
    assert {True, False} <= {one for (phase, _), one in zip(shown, served, strict=True) if phase["state"] in greens}
    for (phase, before), one in zip(shown, served, strict=True):
        by_plan = one and phase["state"] in greens
        assert (phase.get("minDur"), phase.get("maxDur")) == (
            (str(greens[phase["state"]]),) * 2 if by_plan else (before.get("minDur"), before.get("maxDur"))
        )


def test_programs_of_sumo_play_only_where_failures_are_known():
    able = {name for name in controllers.available() if ControllerPolicy(name).plays_under(Disturbance(blind=0.2))}
    assert {"actuated", "delay_based", "max_wave"} <= able
    assert not able & {"fixed_time", "own_program", "webster"}
    for unknown in ({"frozen": 0.1}, {"missed": 0.1}, {"loops": 0.1}, {"connected": 0.9}):
        assert not ControllerPolicy("actuated").plays_under(Disturbance(**unknown))
        assert ControllerPolicy("max_wave").plays_under(Disturbance(**unknown))
    assert ControllerPolicy("actuated").plays_under(Disturbance(demand=1.3))


# trainings


def test_the_stress_of_an_episode_follows_from_its_seed():
    task, presets = Task("cross"), [Timing(), Timing(yellow_s=3)]
    stress = TrainStress(blind=0.4, missed=0.1, connected=0.5, undisturbed=0.25, timing=("a", "b"), demand=(0.5, 1.5))
    tasks = [stress.apply(task, seed, presets) for seed in range(150)]
    assert tasks[:20] == [stress.apply(task, seed, presets) for seed in range(20)]
    drawn = {name: np.array([getattr(one.disturbance, name) for one in tasks]) for name in (*LIMITS, "demand")}
    calm = (drawn["blind"] == 0) & (drawn["missed"] == 0) & (drawn["connected"] == 1)
    assert calm.mean() == pytest.approx(0.25, abs=0.1)
    for name, low, high in (("blind", 0, 0.4), ("missed", 0, 0.1), ("connected", 0.5, 1)):
        values = drawn[name][~calm]
        assert low <= values.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < values.max() <= high
    assert not drawn["frozen"].any()
    assert not drawn["loops"].any()
    assert 0.5 <= drawn["demand"].min() < 0.6 < 1.4 < drawn["demand"].max() <= 1.5
    assert np.mean([one.timing == presets[0] for one in tasks]) == pytest.approx(0.5, abs=0.1)
    assert np.corrcoef(drawn["blind"][~calm], drawn["connected"][~calm])[0, 1] == pytest.approx(0, abs=0.3)


def test_by_default_no_episode_is_stressed():
    task = Task("cross")
    assert all(TrainStress().apply(task, seed, []) == task for seed in range(20))


LINE = "--network cross --algos ippo --episodes 2 --eval-seeds 1 --baselines --algo.epochs 1 --workers 1"
STRESS = "--train-stress.blind 0.9 --train-stress.undisturbed 0 --train-stress.timing sumo-rl field --train-stress.demand 0.5 0.6"


@pytest.mark.sumo
def test_a_training_plays_stressed_episodes_and_keeps_its_settings(home):
    """Half as many vehicles come in training as in the evaluation, and none is seen."""
    assert home.main(f"train {LINE} {STRESS}") == 0
    kept = settings.read(RunFolder(home.training))
    assert kept.train_stress == parse(f"{LINE} {STRESS}".split()).train_stress
    client = MlflowClient(f"sqlite:///{home.folder / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("cross").experiment_id], "params.algorithm = 'ippo'")
    assert run.data.params["train_stress.timing"] == "('sumo-rl', 'field')"
    (row,) = json.loads((home.training / "ippo-s0" / "evaluation.json").read_text(encoding="utf-8"))["results"]["ippo"]
    curves = pd.read_csv(client.download_artifacts(run.info.run_id, "curves.csv"))
    assert curves["traffic/scheduled"].iloc[-1] == pytest.approx(0.55 * row["scheduled"], rel=0.15)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("blind 1.5", r"train-stress.blind must lie in \[0, 1\]; got 1.5"),
        ("timing fieldd", "timing fieldd not found; did you mean field"),
        ("demand 1.2 0.8", "train-stress.demand needs the smaller factor first; got 1.2 0.8"),
        ("demand 0 1", r"train-stress.demand must lie in \(0, 5\]"),
        ("timing field --timing.decision-s 10", "train-stress.timing field decides every 5 s, this training every 10 s"),
    ],
)
def test_stress_that_cannot_be_is_refused(words, said):
    with pytest.raises(UserError, match=said):
        parse(f"--network cross --train-stress.{words}".split())


def test_what_no_episode_could_play_is_refused_before_the_first():
    blind = parse(["--network", "cross", "--train-stress.blind", "0.1", "--sim.observation", "sumo-rl"])
    with pytest.raises(UserError, match="observation sumo-rl reads SUMO itself"):
        [check_task(task) for task in blind.strongest_tasks()]
    tight = Task("cross", Timing(max_red_s=8, yellow_s=2, min_green_s=5))
    with pytest.raises(UserError, match=r"timing\.max_red_s 8 cannot be kept"):
        check_task(tight)
