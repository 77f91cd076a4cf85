"""Priority at signals: emergency vehicles and public transport get green as soon as it is legal."""

import numpy as np
import pytest
from helpers.buses import cross_with_buses
from helpers.cli import one_line
from helpers.decisions import piloted

from tsc_marl import Pilot
from tsc_marl.cli.main import main
from tsc_marl.evaluation import signal_log
from tsc_marl.rollout.policies import ControllerPolicy
from tsc_marl.sim import scenario
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.priority import EMERGENCY_M, LONGEST_S, REST_S, TRANSIT_M, kept_to
from tsc_marl.sim.signal_timing import GREEN, Timing

SEED, END_S = 5, 600


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return cross_with_buses(tmp_path_factory.mktemp("priority") / "cross_with_buses")


def play(place, timing, out, name="max_pressure"):
    """Play an episode; return its metrics, and the phases that may be chosen and vehicles that are near, at each decision."""
    env, decisions, done = TrafficEnv(scenario.load(str(place)), timing), [], False
    try:
        driver = ControllerPolicy(name).start(env, SEED, out=out)
        while not done:
            calls = env.engine.api.vehicle
            ahead = {v: calls.getNextTLS(v) for v in env.vehicles.ids if v.startswith(("rescue", "line"))}
            near = {v: (signals[0][1], signals[0][2]) for v, signals in ahead.items() if signals}
            decisions.append((env.now, env.timers[0].legal(env.now), env.avail[0].copy(), near))
            _, done = env.step(driver.act())
        return env.metrics(), decisions
    finally:
        env.close()


@pytest.fixture(scope="module")
def played(place, tmp_path_factory):
    """Metrics and decisions for each kind of priority, and the folder of SUMO's files."""
    made = {kind: tmp_path_factory.mktemp(kind) for kind in ("none", "emergency", "transit", "all")}
    return {kind: (*play(place, Timing(priority=kind, max_red_s=120), out), out) for kind, out in made.items()}


def serving(place, link):
    """Return whether each phase gives a link green."""
    (signal,) = TrafficEnv(scenario.load(str(place))).net.signals
    return np.array([phase[link] in GREEN for phase in signal.phases])


def test_who_has_it_loses_less(played):
    delay = {kind: metrics for kind, (metrics, _, _) in played.items()}
    assert delay["emergency"]["emergency_delay"] < 0.7 * delay["none"]["emergency_delay"]
    assert delay["transit"]["transit_delay"] < 0.7 * delay["none"]["transit_delay"]
    for metric in ("emergency_delay", "transit_delay"):
        assert delay["all"][metric] < 0.8 * delay["none"][metric]
    assert delay["none"]["scheduled"] == delay["all"]["scheduled"]


def test_an_emergency_vehicle_leaves_only_phases_that_serve_it(played, place):
    restricted = 0
    for _, legal, avail, near in played["emergency"][1]:
        asking = [(distance_m, link) for v, (link, distance_m) in near.items() if v[0] == "r" and distance_m <= EMERGENCY_M]
        served = legal & serving(place, min(asking)[1]) if asking else legal
        expected = served if served.any() else legal
        assert (avail == expected).all()
        restricted += (expected != legal).any()
    assert restricted > 5


def test_public_transport_has_it_for_a_while(played, place):
    """Of buses alone: near ones, one at a time, with a pause between two."""
    since, until, last = {}, 0.0, None
    for now, legal, avail, near in played["transit"][1]:
        close = {v: (distance_m, v, link) for v, (link, distance_m) in near.items() if v[0] == "l" and distance_m <= TRANSIT_M}
        rested = last is None or now - until >= REST_S
        able = [one for v, one in close.items() if (now - since[v] < LONGEST_S if v == last else rested)]
        if able:
            _, last, link = min(able)
            since.setdefault(last, now)
            until = now
            served = legal & serving(place, link)
            assert (avail == (served if served.any() else legal)).all()
        else:
            assert (avail == legal).all()
    assert len(since) > 5


def test_the_lights_keep_everything_else(played, place):
    scene = scenario.load(str(place))
    street = signal_log.StreetSignals(scene.net)
    for _, _, out in played.values():
        for signal, states in signal_log.read(out / f"tls_{SEED}.xml").items():
            assert not list(street.violations(signal, states))
            assert not list(signal_log.timing_violations(states, Timing(max_red_s=120), cut=False))


def test_a_pilot_gives_it_too(place, tmp_path):
    timing = Timing(priority="all")
    env = TrafficEnv(scenario.load(str(place)), timing)
    driver, expected = ControllerPolicy("max_pressure").start(env, SEED), []
    while env.now < 300:
        phases = driver.act()
        env.step(phases)
        expected.append(dict(zip(env.names, env.executed.tolist(), strict=True)))
    env.close()
    pilot = Pilot("max_pressure", str(place), timing=timing)
    assert piloted(pilot, scenario.load(str(place)), SEED, tmp_path, 300) == expected


def test_requests_that_may_not_be_kept():
    legal = np.array([[False, True, True], [True, False, True], [False, False, True]])
    assert kept_to(legal, np.array([1, 1, 0]), [0, 2, 1]).tolist() == [1, 2, 2]


def test_the_table_shows_it_and_names_who_gives_none(place, tmp_path, capsys, caplog):
    line = f"evaluate --network {place} --policy max_pressure fixed_time --eval-seeds 1 --out {tmp_path} --workers 1"
    assert main([*line.split(), "--timing-preset", "field-priority"]) == 0
    assert "emergency" in capsys.readouterr().out
    assert "fixed_time: programs that SUMO runs give no priority (timing.priority all)" in caplog.text


def test_a_word_that_is_no_kind(place, capsys):
    assert main(["train", "--network", str(place), "--timing.priority", "buses"]) == 2
    assert "priority" in one_line(capsys.readouterr().err)
