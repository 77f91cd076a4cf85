"""What the observation `movements` shows of made traffic, number by number."""

import numpy as np
import pytest

from tsc_marl.sim import road_network, scenario
from tsc_marl.sim.engine import Vehicles
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.sim.observations.movements import LINK_FEATURES, BoundVehicles, MovementsObservation
from tsc_marl.sim.signal_timer import SignalTimer, legal_phases
from tsc_marl.sim.signal_timing import Timing
from tsc_marl.sim.signal_view import SignalContext, SignalView

TIMING = Timing(decision_s=5, yellow_s=3, all_red_s=1, min_green_s=6)


class Signals:
    """The signals of a network without traffic, and the observation of made vehicles."""

    def __init__(self, name):
        self.net = road_network.of(scenario.load(name))
        self.timers = [SignalTimer(s.name, s.phases, TIMING, 0.0) for s in self.net.signals]
        self.observation = MovementsObservation(SignalContext(self.net, TIMING, 200.0))
        self.links = [link for signal in self.net.signals for link in signal.links]

    def see(self, *rows, now_s=0.0, failed=(), bound=None):
        """Observe vehicles (lane, metres to its end, speed, waiting); return the tables of links, phases and signals.

        `bound` is what SUMO's `vehicle.getNextTLS` says of each.
        """
        lanes, to_end, speed, waiting = zip(*rows, strict=True) if rows else ((), (), (), ())
        number = np.array([self.net.lane_index[lane] for lane in lanes], dtype=int)
        columns = (self.net.lane_length_m[number] - to_end, speed, waiting, np.zeros(len(rows)))
        vehicles = Vehicles([f"v{i}" for i in range(len(rows))], number, *(np.array(c, dtype=float) for c in columns))
        broken = np.isin(list(self.net.lane_index), list(failed))
        legal = legal_phases(self.timers, now_s)
        obs = self.observation(
            SignalView(now_s, vehicles, self.timers, legal, broken, lambda vehicle: (bound or {}).get(vehicle, ()))
        )
        n, n_links = self.observation.structure.real.shape
        table = obs[:, : n_links * len(LINK_FEATURES)].reshape(n * n_links, -1)[self.observation.structure.links]
        phases = obs[:, n_links * len(LINK_FEATURES) : -5].reshape(n, -1, 2)
        return [dict(zip(LINK_FEATURES, row.tolist(), strict=True)) for row in table], phases, obs[:, -5:]


@pytest.fixture
def cross():
    return Signals("cross")


def test_a_queue_counts_once_over_the_links_of_its_lane(cross):
    lane = cross.links[0].in_lane
    own = [k for k, link in enumerate(cross.links) if link.in_lane == lane]
    links, _, _ = cross.see((lane, 5.0, 0.0, 30.0), (lane, 12.0, 0.0, 20.0), (lane, 60.0, 10.0, 0.0), (lane, 20.0, 10.0, 0.0))
    assert sum(links[k]["queue"] for k in own) == pytest.approx(0.2)
    assert sum(links[k]["approaching"] for k in own) == pytest.approx(0.2)
    assert sum(links[k]["arriving"] for k in own) == pytest.approx(0.2)
    assert all(links[k]["waiting"] == pytest.approx(0.3) for k in own)
    assert all(link["queue"] == 0 for k, link in enumerate(links) if k not in own)


def test_a_vehicle_counts_on_the_link_that_it_is_bound_for(cross):
    lane, signal = cross.links[0].in_lane, cross.net.signals[0].name
    right, straight = (k for k, link in enumerate(cross.links) if link.in_lane == lane)
    rows = [(lane, away_m, speed_ms, 0.0) for away_m, speed_ms in ((5, 0), (12, 0), (60, 10), (20, 10), (9, 0))]
    ahead = [(signal, right), (signal, straight), (signal, straight), (signal, straight), ("other", right)]
    bound = {f"v{i}": [(name, cross.links[k].link, rows[i][1], "r")] for i, (name, k) in enumerate(ahead)}
    links, _, _ = cross.see(*rows, bound=bound)
    table = [[link[f"bound_{column}"] for column in ("queue", "approaching", "arriving", "near")] for link in links]
    assert table[right] == pytest.approx([0.1, 0, 0, 0.2])
    assert table[straight] == pytest.approx([0.1, 0.2, 0.2, 0.4])
    assert not any(sum(row) for k, row in enumerate(table) if k not in (right, straight))


def test_a_link_asked_once_for_each_lane_is_the_link_asked_at_each_decision():
    env = TrafficEnv(scenario.load("grid2x2"), config=SimConfig("movements"))
    env.reset(3)
    observation, seen = env.episode.feedback.observation, 0.0
    assert isinstance(observation, MovementsObservation)
    structure = observation.structure
    for k in range(40):
        env.step((np.arange(len(env.names)) + k // 3) % env.n_phases)
        fresh = BoundVehicles(SignalContext(env.net, env.timing, 200.0), structure)
        asked = fresh.features(fresh.find(env.view))
        table = env.obs[:, : structure.real.size // len(env.names) * len(LINK_FEATURES)]
        column = LINK_FEATURES.index("bound_queue")
        shown = table.reshape(-1, len(LINK_FEATURES))[structure.links, column : column + 4]
        assert np.array_equal(shown, asked.astype(np.float32))
        seen += asked.sum()
    env.close()
    assert seen > 10


def test_the_receiving_lane_fills_up(cross):
    lane = cross.links[0].out_lane
    room = sum(cross.net.lane_length_m[cross.net.lane_index[one]] for one in cross.links[0].receiving) / 7.5
    empty = cross.see()[0][0]
    assert (empty["occupancy"], empty["halting_behind"]) == (0, 0)
    assert empty["room_behind"] == pytest.approx(min(2, room / 10))
    link = cross.see((lane, 5.0, 0.0, 0.0), (lane, 15.0, 0.0, 0.0), (lane, 25.0, 9.0, 0.0))[0][0]
    assert link["occupancy"] == pytest.approx(3 / room)
    assert link["halting_behind"] == pytest.approx(0.2)


def test_red_time_runs_from_the_last_green(cross):
    green = [char in "Gg" for char in cross.timers[0].phases[0]]
    for now_s, shown in ((0.0, 0), (60.0, 60 / 120), (600.0, 3.0)):
        links, _, _ = cross.see(now_s=now_s)
        for link, feature in zip(cross.links, links, strict=True):
            assert feature["green"] == green[link.link]
            assert feature["since_green"] == (0 if green[link.link] else pytest.approx(shown))


def test_phases_show_what_is_on_and_what_may_be_chosen(cross):
    _, phases, signal = cross.see(now_s=5.0)
    assert phases[0, :, 0].tolist() == [1, *[0] * (len(cross.timers[0].phases) - 1)]
    assert phases[0, :, 1].tolist() == phases[0, :, 0].tolist()
    assert signal[0].tolist() == pytest.approx([5 / 60, 0, 0.5, 0.4, 0.6])
    _, phases, signal = cross.see(now_s=10.0)
    assert phases[0, :, 1].all()
    assert signal[0, 1] == 1


def test_failed_detectors_are_shown_as_failed(cross):
    lane, out = cross.links[0].in_lane, cross.links[0].receiving
    links, _, _ = cross.see(failed=(lane,))
    assert [0 < link["failed"] <= 1 for link in links] == [other.in_lane == lane for other in cross.links]
    links, _, _ = cross.see(failed=out)
    assert links[0]["failed_behind"] == 1
    assert links[0]["failed"] == 0


def test_green_at_the_next_signal_is_seen_within_500_m():
    grid = Signals("grid2x2")
    links, _, _ = grid.see()
    structure = grid.observation.structure
    ahead = dict.fromkeys(range(structure.real.size), ())
    for first, then in structure.onward.tolist():
        ahead[first] = (*ahead[first], then)
    place = {number: k for k, number in enumerate(structure.links.tolist())}
    assert any(ahead[number] for number in place)
    for number, k in place.items():
        following = [grid.links[place[then]] for then in ahead[number]]
        assert {link.in_lane for link in following} == set(grid.links[k].next_lanes)
        greens = [links[place[then]]["green"] for then in ahead[number]]
        assert links[k]["green_behind"] == pytest.approx(np.mean(greens) if greens else 0)
