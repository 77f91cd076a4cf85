"""The environment on real networks: what it pays, what it shows, what plugs in, and what it says of bad files."""

import itertools
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import sumolib

from tsc_marl.controllers import find
from tsc_marl.errors import UserError
from tsc_marl.paths import NETWORKS
from tsc_marl.sim import engine, road_network, scenario
from tsc_marl.sim.disturbances import Disturbance
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.sim.observations.lanes import LANE_FEATURES
from tsc_marl.sim.signal_timing import Timing
from tsc_marl.sim.turning_counts import planning_context

OURS = NETWORKS
RESCO = ("arterial4x4", "cologne1", "cologne3", "cologne8", "grid4x4", "ingolstadt1", "ingolstadt21", "ingolstadt7")
BIG = ("arterial4x4", "ingolstadt21")
EPISODES = [
    (net, controller) if net in ("cross", "grid2x2", "cologne1") else pytest.param(net, controller, marks=pytest.mark.sumo)
    for net in (*RESCO, "cross", "grid2x2")
    for controller in ("random", "max_pressure")
    if controller == "random" or net not in BIG
]


@pytest.fixture
def env_of():
    """Make environments that are closed whatever happens."""
    made = []

    def _env_of(scene, timing=None, config=None):
        scene = scenario.load(scene) if isinstance(scene, str) else scene
        made.append(TrafficEnv(scene, timing, config))
        return made[-1]

    yield _env_of
    for env in made:
        env.close()


@pytest.fixture
def network(tmp_path):
    """Write a scenario into a root of its own; the files default to cross's."""

    def _network(name="mine", files=None, **changes):
        folder = tmp_path / "networks" / name
        folder.mkdir(parents=True)
        for file in ("cross.net.xml", "cross.rou.xml"):
            shutil.copy(OURS / "cross" / file, folder)
        for file, text in (files or {}).items():
            (folder / file).write_text(text, encoding="utf-8")
        fields = {"net": "cross.net.xml", "routes": "[cross.rou.xml]", "begin_s": 0, "end_s": 600, "licence": "x", "source": "x"}
        (folder / "scenario.yaml").write_text(
            "".join(f"{key}: {value}\n" for key, value in (fields | changes).items()), encoding="utf-8"
        )
        return tmp_path / "networks"

    return _network


@pytest.mark.parametrize(("name", "controller"), EPISODES)
def test_delay_rewards_add_up_to_the_trip_output(name, controller, env_of):
    """In the first half hour at most."""
    scene = scenario.load(name)
    env = env_of(replace(scene, end_s=min(scene.end_s, scene.begin_s + 1800)), config=SimConfig("lanes"))
    env.reset(5)
    policy = find(controller)(planning_context(env))
    policy.reset(1, env.view)
    total, ended, steps = np.zeros(len(env.names)), False, 0
    approaches = [[env.net.lane_index[lane] for lane in signal.lanes] for signal in env.net.signals]
    visited = np.zeros(len(env.names), dtype=bool)
    while not ended:
        check_rows(env)
        reward, ended = env.step(policy.act(env.view))
        total += reward
        visited |= [bool(np.isin(env.vehicles.lane, lanes).any()) for lanes in approaches]
        steps += 1
    figures = env.metrics()
    assert steps == env.horizon == env.scenario.duration_s // 5
    assert total.sum() == pytest.approx(-figures["delay"] * figures["scheduled"], rel=0.01)
    assert (total[visited] < 0).all(), "a signal that vehicles come to is charged for them"
    assert visited.sum() >= len(visited) - 2  # no route of arterial4x4 leads to nt8 and nt12
    assert figures["scheduled"] == scenario.scheduled(env.scenario)
    assert figures["teleports"] == 0


def check_rows(env):
    """The observation's documented bounds, and zeros wherever a signal has no such lane or phase."""
    assert env.obs.dtype == np.float32
    assert np.isfinite(env.obs).all()
    width, n = max(len(s.lanes) for s in env.net.signals), len(env.names)
    lanes = env.obs[:, : width * len(LANE_FEATURES)].reshape(n, width, len(LANE_FEATURES))
    phase, since, may = env.obs[:, width * len(LANE_FEATURES) : -2], env.obs[:, -2], env.obs[:, -1]
    assert (lanes >= 0).all()
    speed, waiting = (lanes[..., LANE_FEATURES.index(f)] for f in ("speed", "waiting"))
    assert speed.max() <= 1
    assert waiting.max() <= 3
    assert ((since >= 0) & (since <= 1)).all()
    assert set(np.unique(may)) <= {0.0, 1.0}
    for i, signal in enumerate(env.net.signals):
        assert not lanes[i, len(signal.lanes) :].any()
        assert not phase[i, len(signal.phases) :].any()
        assert phase[i].tolist().count(1.0) == 1
        assert phase[i].sum() == 1
        assert phase[i].argmax() == env.timers[i].phase
        assert not env.avail[i, len(signal.phases) :].any()
        assert env.avail[i].any()
        assert env.avail[i, env.timers[i].phase] or env.timing.max_red_s
    passed = (env.now - env.scenario.begin_s) / env.scenario.duration_s
    assert env.state.shape == (sum(len(s.lanes) * len(LANE_FEATURES) + len(s.phases) + 2 for s in env.net.signals) + 1,)
    assert env.state[-1] == np.float32(passed)


def test_lane_features_are_what_sumo_counts(env_of):
    """Cross has nothing hidden: its 200 m approaches are a pocket and a road; SUMO's own counts are the yardstick."""
    env = env_of("cross", config=SimConfig("lanes", detection_m=1000.0))
    env.reset(2)
    seen = 0
    for _ in range(40):
        env.step(np.zeros(1, dtype=int))
        lane = env.engine.api.lane
        rows = env.obs[0, : len(env.net.signals[0].lanes) * len(LANE_FEATURES)].reshape(-1, len(LANE_FEATURES))
        approach = [name for name in env.net.lane_index if "0A0" in name]  # roads, pockets and the joints between them
        assert len(approach) == 4 * (2 + 3 + 3)
        halting = sum(lane.getLastStepHaltingNumber(name) for name in approach)
        total = sum(lane.getLastStepVehicleNumber(name) for name in approach)
        assert rows[:, 0].sum() * 10 == pytest.approx(halting, abs=1e-4)
        assert rows[:, 1].sum() * 10 == pytest.approx(total - halting, abs=1e-4)
        standing = [env.engine.api.vehicle.getWaitingTime(v) for name in approach for v in lane.getLastStepVehicleIDs(name)]
        assert rows[:, 4].max() * 100 == pytest.approx(min(max(standing, default=0), 300), abs=1e-3)
        seen = max(seen, halting)
    assert seen > 20


def test_same_seed_same_numbers_other_seed_others(env_of):
    env = env_of("grid2x2", Timing(yellow_s=3, all_red_s=2, min_green_s=7, max_red_s=120))

    def play(seed):
        rows = [env.reset(seed)]
        rng = np.random.default_rng(0)
        for _ in range(60):
            reward, _ = env.step(rng.integers(env.n_phases))
            rows.append(np.column_stack([env.obs, reward]))
        return np.concatenate([row.ravel() for row in rows])

    first = play(1)
    assert np.array_equal(first, play(1))
    assert not np.array_equal(first, play(2))


def test_native_leaves_the_lights_to_the_program(env_of):
    """Cross's program: 16 s green, 3 s yellow, 8 s left turn, 3 s yellow, and so for the other road."""
    env = env_of("cross", Timing(decision_s=1))
    env.reset(1, sumo_controlled=True)
    shown = []
    for _ in range(60):
        env.step(np.array([2]))
        shown.append(env.engine.api.trafficlight.getRedYellowGreenState("A0"))
    lengths = [len(run.group()) for run in re.finditer(r"(.)\1*", "".join(chr(65 + sorted(set(shown)).index(s)) for s in shown))]
    assert lengths[1:-1] == [3, 8, 3, 16, 3, 8, 3][: len(lengths) - 2]
    assert len(set(shown)) == 8


PLUGINS = """
import numpy as np
from gymnasium import spaces
from sumo_rl.environment.observations import ObservationFunction

class Counts(ObservationFunction):
    def __call__(self):
        return np.array([7.0, *(self.ts.sumo.lane.getLastStepVehicleNumber(l) for l in self.ts.lanes)], dtype=np.float32)
    def observation_space(self):
        return spaces.Box(0, np.inf, (1 + len(self.ts.lanes),), np.float32)

def minus_vehicles(ts):
    return -float(sum(ts.sumo.lane.getLastStepVehicleNumber(l) for l in ts.lanes))

not_a_class = 3
"""


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    (tmp_path / "my_plugins.py").write_text(PLUGINS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_custom_observation_and_reward_by_import_path(plugins, env_of):
    env = env_of("cologne3", config=SimConfig(observation="my_plugins:Counts", reward="my_plugins:minus_vehicles"))
    env.reset(1)
    paid = 0.0
    for _ in range(40):
        reward, _ = env.step(np.zeros(3, dtype=int))
        for i, signal in enumerate(env.net.signals):
            count = [env.engine.api.lane.getLastStepVehicleNumber(lane) for lane in signal.lanes]
            assert sorted(env.obs[i, 1 : 1 + len(count)]) == sorted(count)
            assert env.obs[i, 0] == 7
            assert not env.obs[i, 1 + len(count) :].any()
            assert reward[i] == -sum(count)
        paid += reward.sum()
    assert paid < -40
    assert env.state.shape == (sum(1 + len(s.lanes) for s in env.net.signals) + 1,)


def test_observation_and_reward_mix(env_of):
    """Our reward with sumo-rl's observation is our reward; its reward with our observation is its reward."""
    runs = {}
    for config in itertools.starmap(SimConfig, itertools.product(("sumo-rl", "lanes"), ("delay", "queue"))):
        env = env_of("grid2x2", config=config)
        obs, paid = [env.reset(4)], []
        for step in range(60):
            reward, _ = env.step(np.full(4, step // 3 % 4))
            obs.append(env.obs)
            paid.append(reward)
        env.close()
        runs[config.observation, config.reward] = np.stack(obs), np.stack(paid)
    assert np.array_equal(runs["sumo-rl", "delay"][1], runs["lanes", "delay"][1])
    assert np.array_equal(runs["sumo-rl", "queue"][1], runs["lanes", "queue"][1])
    assert np.array_equal(runs["lanes", "delay"][0], runs["lanes", "queue"][0])
    assert np.array_equal(runs["sumo-rl", "delay"][0], runs["sumo-rl", "queue"][0])


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"observation": "lane"}, "observation lane not found; did you mean lanes?"),
        ({"reward": "dealy"}, "reward dealy not found; did you mean delay?"),
        ({"detection_m": 0.0}, "detection_m must be positive and finite; got 0.0"),
        ({"observation": "my_plugins:not_a_class"}, "observation my_plugins:not_a_class is not a sumo_rl ObservationFunction"),
        ({"observation": "my_plugins:Nothing"}, "observation my_plugins:Nothing: module my_plugins has no Nothing"),
        ({"reward": "my_plugins:not_a_class"}, "reward my_plugins:not_a_class is not callable"),
        ({"reward": "no_such_module:f"}, "reward no_such_module:f: import of no_such_module failed"),
    ],
)
def test_wrong_config(config, says, plugins, env_of):
    with pytest.raises(UserError, match=re.escape(says)):
        env_of("cross", config=SimConfig(**config)).reset(0)


def test_unknown_network_names_the_nearest(network):
    with pytest.raises(UserError, match=r"network gird4x4 not found; did you mean grid4x4\?.*cologne1"):
        scenario.load("gird4x4")
    with pytest.raises(UserError, match=r"network mein not found; did you mean mine\? \(available: .*\bmine\b"):
        scenario.load("mein", network("mine"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"net": "crss.net.xml"}, r"mine/scenario.yaml: net file .*crss.net.xml does not exist; correct the path"),
        ({"net": "sumo_rl:nets/no.net.xml"}, r"net file .*sumo_rl/nets/no.net.xml does not exist; correct the path"),
        ({"routes": "[a.rou.xml]"}, r"routes file .*a.rou.xml does not exist; correct the path"),
        ({"routes": "cross.rou.xml"}, r"routes must be a list of at least one route file; got 'cross.rou.xml'"),
        ({"begin_s": "now"}, r"begin_s must be a whole number of seconds; got 'now'"),
        ({"begin_s": 700}, r"begin_s 700 must be before end_s 600"),
        ({"bgin_s": 0}, r"expected exactly the fields net, routes, begin_s.*got .*bgin_s"),
        ({"net": "[}"}, r"not valid YAML"),
        ({"begin_s": "true"}, r"begin_s must be a whole number of seconds; got True"),
        ({"licence": "2023"}, r"licence must be a text, in quotes where it looks like a number; got 2023"),
        ({"source": ""}, r"source must be a text, .*; got None"),
    ],
)
def test_wrong_scenario(changes, says, network):
    root = network(**changes)
    with pytest.raises(UserError, match=says):
        scenario.load("mine", root)


def test_scenario_in_another_encoding(network):
    root = network()
    (root / "mine" / "scenario.yaml").write_bytes(b'source: "K\xf6ln"\n')
    with pytest.raises(UserError, match=r"mine/scenario.yaml: not valid YAML"):
        scenario.load("mine", root)


def test_a_comma_in_a_file_name(network):
    with pytest.raises(UserError, match=r"mine/scenario.yaml: routes file .*a,b.rou.xml has a comma in its path, .*; rename it"):
        scenario.load("mine", network(files={"a,b.rou.xml": "<routes/>"}, routes='["a,b.rou.xml"]'))


def test_window_without_vehicles(network):
    scene = scenario.load("mine", network(begin_s=600, end_s=900))
    with pytest.raises(
        UserError, match=r"no vehicle departs between begin_s 600 and end_s 900; correct the window in networks/mine"
    ):
        scenario.scheduled(scene)


def test_malformed_routes(network, env_of):
    text = (OURS / "cross" / "cross.rou.xml").read_text(encoding="utf-8").replace("</routes>", "</rutes>")
    scene = scenario.load("mine", network(files={"cross.rou.xml": text}))
    with pytest.raises(UserError, match=r"cross.rou.xml: not well-formed XML \(.*line \d+.*\); make the file again or correct"):
        scenario.scheduled(scene)
    with pytest.raises(UserError, match=r"cross.rou.xml: not well-formed XML"):
        env_of(scene).reset(0)
    env_of("cross").reset(0)  # and the process can go on


def test_routes_over_edges_that_are_not_there(network, env_of):
    text = (OURS / "cross" / "cross.rou.xml").read_text(encoding="utf-8").replace('from="top0A0"', 'from="nowhere"')
    env = env_of(scenario.load("mine", network(files={"cross.rou.xml": text})))
    with pytest.raises(UserError, match=r"mine: .*nowhere"):
        env.reset(0)
    env_of("cross").reset(0)


@pytest.mark.parametrize(
    ("trip", "says"),
    [
        ('id="late" depart="300" from="A0right0" to="left0A0"', r"Vehicle 'late' has no valid route.*"),
        ('id="late" depart="300" from="left0A0" to="nowhere"', r"The edge 'nowhere' .*"),
        ('id="once" depart="300" from="left0A0" to="A0right0"', r".*vehicle with .*id 'once'.* exists"),
    ],
)
def test_what_sumo_finds_wrong_only_on_the_way(trip, says, network, env_of):
    """SUMO reads route files bit by bit, and looks for the way of a trip when it departs."""
    before = "".join(
        f'<trip id="{name}" depart="{at}" from="left0A0" to="A0right0"/>' for name, at in (("a", 250), ("once", 290))
    )
    text = f"<routes>{before}<trip {trip}/></routes>"
    env = env_of(scenario.load("mine", network(files={"cross.rou.xml": text})))
    env.reset(0)
    with pytest.raises(UserError, match=rf"^mine: SUMO stopped after second \d+: {says}; correct the route files$"):  # noqa: PT012
        for _ in range(70):
            env.step(np.zeros(1, dtype=int))
    env_of("cross").reset(0)  # and the process can go on


@pytest.mark.parametrize("text", ["<net", "no xml", "<routes></routes>"])
def test_net_file_that_is_no_network(text, network, env_of):
    scene = scenario.load("mine", network(files={"cross.net.xml": text}))
    with pytest.raises(UserError, match=r"cross.net.xml: .*netconvert"):
        env_of(scene)


def test_network_without_signals(network, tmp_path, env_of):
    root = network(net="plain.net.xml", files={"plain.net.xml": ""})
    plain = root / "mine" / "plain.net.xml"
    netgenerate = engine.binary("netgenerate")
    subprocess.run([netgenerate, "--grid", "--grid.number", "2", "-o", plain], check=True, capture_output=True)
    with pytest.raises(UserError, match=r"plain.net.xml: no signal with at least two green phases.*none.*netconvert"):
        env_of(scenario.load("mine", root))


ONLY_GREEN = '<phase duration="16" state="GGgrrrGGgrrr"/><phase duration="3" state="yygrrryygrrr"/>'


def with_one_green(text, signal):
    """Return the network with the program of a signal cut to one green and one yellow."""
    return re.sub(rf'(<tlLogic id="{signal}"[^>]*>).*?(</tlLogic>)', rf"\1{ONLY_GREEN}\2", text, flags=re.DOTALL)


def test_a_signal_with_one_green_phase_is_fixed_and_keeps_its_program(network, env_of):
    text = with_one_green((OURS / "grid2x2" / "grid2x2.net.xml").read_text(encoding="utf-8"), "B0")
    files = {"g.net.xml": text, "g.rou.xml": (OURS / "grid2x2" / "grid2x2.rou.xml").read_text(encoding="utf-8")}
    scene = scenario.load("mine", network(files=files, net="g.net.xml", routes="[g.rou.xml]"))
    env = env_of(scene, Timing(decision_s=1))
    assert env.net.fixed == ("B0",)
    assert env.names == ("A0", "A1", "B1")
    assert all("B0" not in signal.neighbours for signal in env.net.signals)
    env.reset(1)
    shown = []
    for _ in range(60):
        env.step(np.array([1, 1, 1]))
        shown.append(env.engine.api.trafficlight.getRedYellowGreenState("B0"))
    assert set(shown) == {"GGgrrrGGgrrr", "yygrrryygrrr"}
    assert shown.count("yygrrryygrrr") == pytest.approx(60 * 3 / 19, abs=3)


NIGHT = ("GGgrrrrrGGgrrrrr", "rrrrGGgGrrrrGGgG")


def with_second_program(text, first):
    """Return the network with a program of another name before the one of cross, or after it."""
    phases = "".join(f'<phase duration="10" state="{green}"/><phase duration="2" state="{RED_YELLOW}"/>' for green in NIGHT)
    night = f'<tlLogic id="A0" type="static" programID="{"z" if first else "a"}" offset="0">{phases}</tlLogic>'
    return text.replace("<tlLogic", f"{night}<tlLogic", 1) if first else text.replace("</tlLogic>", f"</tlLogic>{night}", 1)


RED_YELLOW = "u" * 16


@pytest.mark.parametrize("first", [True, False])
def test_of_several_programs_sumo_starts_the_last(first, network, env_of):
    """Agents choose among its greens, not its red-yellows; fixed time and a signal that got stuck run it."""
    files = {"cross.net.xml": with_second_program((OURS / "cross" / "cross.net.xml").read_text(encoding="utf-8"), first)}
    scene = scenario.load("mine", network(files=files))
    own = road_network.read(OURS / "cross" / "cross.net.xml").signals[0].phases
    for native, stress in ((True, Disturbance()), (False, Disturbance(stuck=1))):
        env = TrafficEnv(scene, Timing(decision_s=1), disturbance=stress)
        assert env.net.signals[0].phases == (own if first else NIGHT)
        env.reset(1, sumo_controlled=native)
        shown = set()
        for _ in range(70):
            env.step(np.zeros(1, dtype=int))
            shown.update(env.engine.states(env.names))
        env.close()
        assert shown >= set(env.net.signals[0].phases)
        assert (RED_YELLOW in shown) == (not first)


def test_a_program_shorter_than_its_links(network, env_of):
    text = re.sub(r'state="(\w{12})\w{4}"', r'state="\1"', (OURS / "cross" / "cross.net.xml").read_text(encoding="utf-8"))
    scene = scenario.load("mine", network(files={"cross.net.xml": text}))
    with pytest.raises(
        UserError, match=r"cross.net.xml: signal A0 has 16 links, but a phase of program 0 has only 12 states; correct"
    ):
        env_of(scene)


NODES = """<nodes><node id="t" x="0" y="0" type="traffic_light"/><node id="w" x="-100" y="0"/><node id="e" x="100" y="0"/>
<node id="n" x="0" y="100"/><node id="s" x="0" y="-100"/><node id="a" x="-300" y="300"/><node id="c" x="300" y="300"/>
<node id="b" x="0" y="300" type="rail_signal"/></nodes>"""
EDGES = """<edges><edge id="wt" from="w" to="t"/><edge id="te" from="t" to="e"/><edge id="nt" from="n" to="t"/>
<edge id="ts" from="t" to="s"/><edge id="ab" from="a" to="b" allow="rail"/><edge id="bc" from="b" to="c" allow="rail"/></edges>"""


def test_a_rail_signal_beside_the_road(network, env_of):
    """It has no phases: it is no agent, and its train passes."""
    trips = '<vType id="train" vClass="rail"/><trip id="t" type="train" depart="0" from="ab" to="bc"/><trip id="c" depart="1" '
    files = {
        "n.nod.xml": NODES,
        "n.edg.xml": EDGES,
        "n.rou.xml": f'<routes>{trips} from="wt" to="te"/></routes>',
        "n.net.xml": "",
    }
    root = network(net="n.net.xml", files=files, routes="[n.rou.xml]", end_s=200)
    netconvert = [engine.binary("netconvert"), "-n", "n.nod.xml", "-e", "n.edg.xml", "-o", "n.net.xml"]
    subprocess.run(netconvert, check=True, capture_output=True, cwd=root / "mine")
    env = env_of(scenario.load("mine", root))
    assert (env.names, env.net.fixed) == (("t",), ("b",))
    for native in (False, True):
        env.reset(1, sumo_controlled=native)
        while not env.step(np.array([env.now // 30 % 2], dtype=int))[1]:
            pass
        assert env.metrics()["arrived"] == 2


def test_only_fixed_signals_is_an_error_that_names_them(network, env_of):
    text = (OURS / "grid2x2" / "grid2x2.net.xml").read_text(encoding="utf-8")
    for signal in ("A0", "A1", "B0", "B1"):
        text = with_one_green(text, signal)
    with pytest.raises(UserError, match=r"no signal with at least two green phases.*A0, A1, B0, B1"):
        road_network.read(scenario.load("mine", network(files={"cross.net.xml": text})).net)


def test_one_simulation_in_a_process(env_of):
    first, second = env_of("cross"), env_of("cross")
    first.reset(0)
    with pytest.raises(UserError, match="already runs in this process; close it"):
        second.reset(0)
    first.close()
    second.reset(0)
    with pytest.raises(RuntimeError, match="call reset first"):
        first.step(np.zeros(1, dtype=int))


def test_the_last_decision_stops_at_the_horizon(network, env_of):
    """A window that the decisions do not divide: the last step is short, nothing is simulated beyond the window."""
    env = env_of(scenario.load("mine", network(end_s=203)))
    env.reset(0)
    ends = []
    while not (ends and ends[-1]):
        _, ended = env.step(np.zeros(1, dtype=int))
        ends.append(ended)
    assert len(ends) == env.horizon == 41
    assert env.now == env.engine.api.simulation.getTime() == 203
    assert env.state[-1] == 1


def test_delay_reward_charges_the_signal_that_holds_the_vehicles(env_of):
    """On grid2x2 with A0 stuck on a left-turn phase, A0 is charged the most of what is lost."""
    env = env_of("grid2x2")
    env.reset(1)
    policy = find("max_pressure")(planning_context(env))
    policy.reset(1, env.view)
    total, ended = np.zeros(4), False
    while not ended:
        actions = policy.act(env.view)
        actions[0] = 1
        reward, ended = env.step(actions)
        total += reward
    assert total.argmin() == 0
    assert total[0] < 3 * total[1:].min()


def test_vehicles_that_cannot_enter_are_charged_to_the_signal_that_they_wait_for(env_of):
    """With two signals of grid2x2 stuck; a node of it has the name of its signal."""
    env = env_of("grid2x2")
    env.reset(1)
    policy = find("max_pressure")(planning_context(env))
    policy.reset(1, env.view)
    net = sumolib.net.readNet(str(env.scenario.net))

    def next_signal(edge):
        node = net.getEdge(edge).getToNode()
        while node.getID() not in env.names:  # where a road is cut in two
            (onward,) = node.getOutgoing()
            node = onward.getToNode()
        return node.getID()

    ended, charged = False, set()
    while not ended:
        actions = policy.act(env.view)
        actions[[0, 3]] = 1
        _, ended = env.step(actions)
        for name, (signal, total) in env.episode.feedback.reward._pending.items():
            if name in env.engine.api.simulation.getPendingVehicles():
                assert next_signal(env.engine.api.vehicle.getRoute(name)[0]) == env.names[signal]
                assert total == env.engine.api.vehicle.getDepartDelay(name) > 0
                charged.add(signal)
    assert charged >= {0, 3}
