"""What is read from the network files: counts against a table, neighbours, and queues behind stub lanes."""

import dataclasses
import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import sumolib

from tsc_marl.sim import road_network, scenario
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.sim.lane_features import LANE_FEATURES, QUEUE_VEH
from tsc_marl.sim.observations.lanes import LanesObservation

TABLE = {  # phases of each signal, sorted; controlled lanes
    "grid4x4": ([8] * 16, 192),
    "arterial4x4": ([5] * 16, 96),
    "cologne1": ([4], 8),
    "cologne3": ([3, 4, 4], 19),
    "cologne8": (None, 33),
    "ingolstadt1": ([3], 7),
    "ingolstadt7": ([2] + [3] * 6, 59),
    "rush5x5": ([5] * 25, 150),
    "ingolstadt21": ([2] + [3] * 16 + [4] * 4, 158),
}
NETWORKS = sorted([*TABLE, "cross", "grid2x2"])


def read(name):
    return road_network.read(scenario.load(name).net)


def test_every_network_is_read_without_sumo():
    code = """
import json, sys
from tsc_marl.sim import road_network, scenario
names = {n: len(road_network.read(scenario.load(n).net).signals) for n in scenario.available()}
print(json.dumps([names, sorted(m for m in ("libsumo", "traci", "torch", "sumo_rl") if m in sys.modules)]))
"""
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    signals, imported = json.loads(out)
    assert imported == []
    assert set(signals) >= set(NETWORKS)
    assert {"cologne8": 8, "cross": 1, "grid2x2": 4}.items() <= signals.items()


@pytest.mark.parametrize("name", TABLE)
def test_counts(name):
    net, (phases, lanes) = read(name), TABLE[name]
    assert sum(len(signal.lanes) for signal in net.signals) == lanes
    if phases is None:
        assert len(net.signals) == 8
    else:
        assert sorted(len(signal.phases) for signal in net.signals) == phases
    assert net.fixed == ()


@pytest.mark.parametrize("name", NETWORKS)
def test_signals_hang_together(name):
    net = read(name)
    by_name = {signal.name: signal for signal in net.signals}
    assert list(by_name) == sorted(by_name)
    for signal in net.signals:
        assert len(set(signal.lanes)) == len(signal.lanes)
        assert set(signal.lanes) == {movement.in_lane for movement in signal.links}
        for state in signal.phases:
            assert set("Gg") & set(state)
            assert "y" not in state
            assert len(state) > max(movement.link for movement in signal.links)
        assert signal.name not in signal.neighbours
        for other in signal.neighbours:
            assert signal.name in by_name[other].neighbours
    assert all(0 <= owner < len(net.signals) for owner in net.charged_signal)
    for i, signal in enumerate(net.signals):
        assert all(net.charged_signal[net.lane_index[lane]] == i for lane in signal.lanes)


@pytest.mark.parametrize("name", NETWORKS)
def test_phases_are_the_greens_of_the_program(name):
    """All of them, as they stand in the file: none of these networks repeats one, or has one that is part of a change.

    Published figures and trained policies rely on these phases.
    """
    path = scenario.load(name).net
    signals = {signal.name: signal.phases for signal in read(name).signals}
    for tls in sumolib.net.readNet(str(path), withPrograms=True).getTrafficLights():
        (program,) = tls.getPrograms().values()
        states = [phase.state for phase in program.getPhases()]
        assert signals.pop(tls.getID()) == tuple(state for state in states if "y" not in state and set("Gg") & set(state))
    assert not signals
    assert read(name).notes == ()


@pytest.mark.parametrize("name", ["grid4x4", "arterial4x4"])
def test_grid_neighbours_are_the_grid(name):
    net = read(name)
    assert sorted(len(signal.neighbours) for signal in net.signals) == [2] * 4 + [3] * 8 + [4] * 4
    place = {signal.name: (signal.x, signal.y) for signal in net.signals}
    for signal in net.signals:
        for other in signal.neighbours:  # in the same row or column, and nobody between
            dx, dy = np.subtract(place[other], place[signal.name])
            assert min(abs(dx), abs(dy)) < 0.2 * max(abs(dx), abs(dy))


@pytest.mark.parametrize("name", NETWORKS)
def test_detection_counts_every_vehicle_once(name):
    net = read(name)
    slots = [lane for signal in net.signals for lane in signal.lanes]
    slot, weight, offset = net.detector_coverage.slot, net.detector_coverage.weight, net.detector_coverage.offset_m
    assert slot.shape == weight.shape == offset.shape
    assert len(slot) == len(net.lane_index)
    seen = np.isfinite(offset)
    assert ((weight > 0) == seen).all()
    assert np.allclose(weight.sum(1)[seen.any(1)], 1, rtol=0, atol=1e-12)
    assert ((offset >= 0) & (offset < road_network.DETECTION_M))[seen].all()
    for i, lane in enumerate(slots):  # a signal's lane is seen from its own stop line, and by nobody else
        row = net.lane_index[lane]
        assert slot[row][seen[row]].tolist() == [i]
        assert offset[row][seen[row]].tolist() == [0]


def test_a_queue_behind_a_stub_is_seen():
    """41 of ingolstadt21's lanes are shorter than a vehicle and its gap: the queue stands on the lane before.

    Phases are held for 200 s each, so that queues build up; on which lanes they stand is asked of SUMO, which lanes
    feed a stub of sumolib.
    """
    scene = scenario.load("ingolstadt21")
    env = TrafficEnv(scene, config=SimConfig("lanes"))
    net, graph = env.net, sumolib.net.readNet(str(scene.net))
    slots = [lane for signal in net.signals for lane in signal.lanes]
    stubs = [lane for lane in slots if net.lane_length_m[net.lane_index[lane]] < 7.5]
    assert (len(stubs), len(slots)) == (41, 158)

    feeders = {stub: [lane.getID() for lane in graph.getLane(stub).getIncoming()] for stub in stubs}
    alone = {f: len(graph.getLane(f).getOutgoing()) == 1 for some in feeders.values() for f in some}
    place = {lane: (i, k * len(LANE_FEATURES)) for i, s in enumerate(net.signals) for k, lane in enumerate(s.lanes)}
    found, more = Counter(), Counter()
    env.reset(3)
    only_stub = LanesObservation(dataclasses.replace(env.episode.context, network=road_network.read(scene.net, 0.01)))
    for step in range(160):
        env.step(np.array([(step // 40) % n for n in env.n_phases]))
        blind = only_stub(env.view)
        lane = env.engine.api.lane
        for stub in stubs:
            standing = {f: lane.getLastStepHaltingNumber(f) for f in feeders[stub] if alone[f]}
            if sum(standing.values()) < 2 or any(graph.getLane(f).getLength() > 180 for f in standing):
                continue  # on a long lane they may stand out of reach
            on_stub = lane.getLastStepHaltingNumber(stub)
            assert on_stub <= 1
            queue, blind_queue = (rows[place[stub]] * QUEUE_VEH for rows in (env.obs, blind))
            assert blind_queue == pytest.approx(on_stub, abs=1e-5)
            assert queue >= on_stub + sum(standing.values()) - 1e-4
            (more if on_stub else found)[stub] += 1
    env.close()
    assert len(found) >= 3, found  # nothing at all on the stub, two or more behind it
    assert len(found | more) >= 6, found | more
