"""Generated networks: the same for the same seed, usable like any other, with signals that are safe and serve everybody."""

import itertools
from xml.etree import ElementTree

import numpy as np
import pytest
import sumolib
from helpers.cli import one_line

from tsc_marl.cli.main import main
from tsc_marl.evaluation.signal_log import StreetSignals
from tsc_marl.generator import build, phase_sets
from tsc_marl.generator.recipes import PLANS, draw
from tsc_marl.generator.streets import CUT_M
from tsc_marl.sim import road_network, scenario

LAYOUTS = {"single": 10, "town": 5, "grid": 12, "ring": 3, "arterial": 47}


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module", params=LAYOUTS)
def network(request, tmp_path_factory):
    seed = LAYOUTS[request.param]
    assert draw(seed).layout == request.param
    out = tmp_path_factory.mktemp(request.param)
    build.generate(seed, out)
    return scenario.load(str(out / build.name_of(seed)))


def test_signals_have_a_choice_and_serve_every_link(network):
    roads = road_network.of(network)
    assert roads.signals
    assert roads.notes == ()  # no signal without choice, no ramp meter, no link that is red for ever, no equal phases
    assert all(2 <= len(signal.phases) <= 8 for signal in roads.signals)
    assert scenario.scheduled(network) >= 20


def test_no_phase_lets_crossing_links_go_first_together(network):
    street = StreetSignals(network.net)
    for signal, program in street.programs.items():
        rules = [violation.rule for violation in street.violations(signal, [phase.state for phase in program.getPhases()])]
        assert rules == []


def test_routes_follow_streets(network):
    net = sumolib.net.readNet(str(network.net))
    (path,) = network.routes
    for route in set(route.get("edges") for route in ElementTree.parse(path).iter("route")):
        edges = [net.getEdge(name) for name in route.split()]
        assert all(after in edge.getOutgoing() for edge, after in itertools.pairwise(edges))


def test_trips_start_at_every_street_from_outside(tmp_path):
    """Streets with turn lanes, whose last metres are an edge of their own, have an end like all others."""
    build.generate(75, tmp_path)
    network = scenario.load(str(tmp_path / "generated-0075"))
    first = {route.get("edges").split()[0] for route in ElementTree.parse(network.routes[0]).iter("route")}
    edges = sumolib.net.readNet(str(network.net)).getEdges()
    assert any("." in edge.getID() for edge in edges)
    assert first >= {edge.getID() for edge in edges if edge.getFromNode().getType() == "dead_end"}


def test_streets_to_the_outside_may_end_close_to_their_junction(tmp_path):
    seed = next(seed for seed in range(50) if draw(seed).cut == 1 and draw(seed).layout == "single")
    build.generate(seed, tmp_path)
    (path,) = tmp_path.glob("*/*.net.xml")
    nodes = [node for node in sumolib.net.readNet(str(path)).getNodes() if node.getType() == "dead_end"]
    lengths_m = [edge.getLength() for node in nodes for edge in (*node.getOutgoing(), *node.getIncoming())]
    assert lengths_m
    assert max(lengths_m) < CUT_M[1] + 10


def test_the_same_seed_gives_the_same_bytes(tmp_path, capsys):
    for out in ("a", "b"):
        assert main(f"generate --seeds 10 --count 2 --out {tmp_path / out} --workers 2".split()) == 0
        assert "use one: make evaluate NET=" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"generated-0010", "generated-0011"}
    for name in ("generated-0010", "generated-0011"):
        files = content(tmp_path / "a" / name)
        assert files == content(tmp_path / "b" / name)
        assert len(files) == 3
        assert b"<!--" not in files[f"{name}.net.xml"]
    assert main(f"generate --seeds 10 --out {tmp_path / 'a'}".split()) == 0
    assert "generated-0010: exists already, unchanged" in capsys.readouterr().out


def test_a_folder_with_other_content_is_kept_and_the_other_seeds_are_made(tmp_path, capsys):
    own = tmp_path / "generated-0010"
    own.mkdir()
    (own / "scenario.yaml").write_text("mine", encoding="utf-8")
    assert main(f"generate --seeds 10 11 --out {tmp_path}".split()) == 2
    error = one_line(capsys.readouterr().err)
    assert "1 of 2 networks cannot be made: seed 10" in error
    assert "exists with other content; remove it, or give another out" in error
    assert content(own) == {"scenario.yaml": b"mine"}
    assert {path.name for path in tmp_path.iterdir()} == {"generated-0010", "generated-0011"}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("--seeds -1", "seed must lie in 0 .. 2147483647; got -1"),
        ("--seeds 1 1", "none twice"),
        ("--seeds 1 2 --count 3", "count 3 goes with one seed"),
        ("--count 0", "count must be at least 1"),
        ("--seeds 0 --out /proc/none", "cannot be made"),
    ],
)
def test_wrong_options_are_refused_in_one_line(options, reason, capsys):
    assert main(f"generate {options}".split()) == 2
    assert reason in one_line(capsys.readouterr().err)


def junction(name):
    path = scenario.load(name).net
    node = next(node for node in sumolib.net.readNet(str(path)).getNodes() if node.getType() == "traffic_light")
    element = next(e for e in ElementTree.parse(path).iter("junction") if e.get("id") == node.getID())
    return phase_sets.junction_links(node, element)


def test_a_crossing_with_lanes_for_left_turns_has_the_eight_pairs_of_movements():
    """Straight on and left of four approaches: two rings with two barriers have 2 x 2 pairs on each side, eight in all."""
    links = junction("cross")
    states = phase_sets.phases(links, 8, False, np.random.default_rng(0))
    moving = {
        frozenset((link.edge, link.turn) for link in links if state[link.index] == "G" and link.turn != "r") for state in states
    }
    north, east, south, west = dict.fromkeys(link.edge for link in links)
    expected = {
        frozenset(pair)
        for a, b in ((north, south), (east, west))
        for pair in [((a, "s"), (b, "s")), ((a, "l"), (b, "l")), ((a, "s"), (a, "l")), ((b, "s"), (b, "l"))]
    }
    assert moving == expected
    assert phase_sets.is_safe(links, states)


@pytest.mark.parametrize("most", range(2, 9))
def test_fewer_phases_still_serve_every_link(most):
    links = junction("cross")
    for seed in range(5):
        states = phase_sets.phases(links, most, seed % 2 == 1, np.random.default_rng(seed))
        assert len(states) == max(4, most)  # four streams of two approaches that cross need four phases
        assert all(any(state[link.index] in "Gg" for state in states) for link in links)


def test_two_greens_that_cross_are_unsafe():
    links = junction("cross")
    assert not phase_sets.is_safe(links, ["G" * len(links)])
    assert phase_sets.is_safe(links, ["g" * len(links)])


def test_recipes_cover_what_a_city_may_have():
    recipes = [draw(seed) for seed in range(128)]
    assert {recipe.layout for recipe in recipes} == set(LAYOUTS)
    assert {recipe.main_lanes for recipe in recipes} == {1, 2, 3, 4}
    assert {recipe.duration_s for recipe in recipes} == {1800, 3600}
    assert {PLANS[int(np.argmax(recipe.plans))] for recipe in recipes} == set(PLANS)
    assert min(recipe.flow_ratio for recipe in recipes) < 0.1
    assert max(recipe.flow_ratio for recipe in recipes) > 1
    assert {recipe.cut for recipe in recipes} == {0, 0.5, 1}
