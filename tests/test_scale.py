"""Growth with the number of signals: the measurement, and what signals share."""

import pytest

from tsc_marl.benchmarks import scale
from tsc_marl.sim import road_network, scenario
from tsc_marl.sim.signal_timing import Timing


def test_signals_that_are_alike_share_what_they_show_between_phases():
    signals = road_network.of(scenario.load("grid4x4")).signals
    first, *others = [signal for signal in signals if signal.phases == signals[0].phases]
    assert others
    assert all(signal.changes(Timing()) is first.changes(Timing()) for signal in others)
    assert first.changes(Timing(yellow_s=4)) is not first.changes(Timing())


def test_the_measurement_has_every_part_of_a_training():
    grown = scale.measure((2, 3), decisions=2, rounds=1)
    assert {len(of_rounds) for of_rounds in grown.values()} == {1}
    for part in ("reading", "start of an episode", "environment", "jointq: update on 2 decisions", "memory"):
        assert any(part in what for what in grown), part


def test_a_grid_has_as_many_agents_as_its_recipe_says(tmp_path):
    folder = scale.make_grid(tmp_path / "five", 5)
    network = road_network.of(scenario.load(str(folder)))
    assert (len(network.signals), network.fixed) == (25, ())
    assert {len(signal.neighbours) for signal in network.signals} == {2, 3, 4}
    assert scenario.scheduled(scenario.load(str(folder))) == pytest.approx(25 * 20 / 6, rel=0.1)
