"""`serve`: real processes over real sockets. What is killed, silent or wrong leaves each signal to its own program."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
import traci
from helpers.cli import ROOT, one_line, until
from helpers.decisions import decisions
from helpers.ports import free_port

import tsc_marl
from tsc_marl.evaluation import signal_log
from tsc_marl.live import http_gateway
from tsc_marl.live.gateway import open_folder
from tsc_marl.sim import engine, scenario
from tsc_marl.sim.signal_timing import Timing

pytest_plugins = ("helpers.fixtures", "helpers.street")

NAMES = ("A0", "A1", "B0", "B1")
SCENE = scenario.load("grid2x2")
KEPT = Timing(decision_s=1, yellow_s=3)
"""What `field` and the own programs keep both; these know no all-red."""


def ask(port, path, text=None, method=None, headers=None):
    """Return status and content of one answer."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    line.request(method or ("GET" if text is None else "POST"), path, text, headers or {})
    answer = line.getresponse()
    return answer.status, json.loads(answer.read())


def answers(port):
    try:
        return ask(port, "/v1/state")[0] == 200
    except OSError:
        return False


# a street in SUMO, with controllers that ask a gateway


def test_a_street_goes_on_without_the_gateway_and_returns_to_it(home, folder, tmp_path, processes):
    """Before the gateway is killed the decisions are those of an evaluation; no yellow or least green is ever cut."""
    port, expected = free_port(), decisions("pretrained", "grid2x2", "field", 200)
    line = f"serve --from {folder} --http {port}"
    gateway = processes(home.start(line))
    until(lambda: answers(port), 60)
    options = engine.command(SCENE, 1, tmp_path, NAMES)
    example = [sys.executable, str(ROOT / "examples/roadside_controller.py"), f"http://127.0.0.1:{port}", "600", "100", *options]
    street = processes(subprocess.Popen(example, stdout=subprocess.PIPE, text=True))
    rows = (json.loads(line) for line in street.stdout if line.startswith("{"))  # libsumo prints a line of its own
    before = [next(rows) for _ in range(40)]
    street.send_signal(signal.SIGSTOP)
    assert [row["requests"] for row in before] == expected
    gateway.kill()
    gateway.communicate()
    street.send_signal(signal.SIGCONT)
    alone = next(row for row in rows if not row["requests"])
    assert alone["fallback"].keys() == set(NAMES)
    assert alone["fallback"]["A0"].startswith("no answer: ")
    assert next(rows)["requests"] == {}
    street.send_signal(signal.SIGSTOP)
    gateway = processes(home.start(line))
    until(lambda: answers(port), 60)
    street.send_signal(signal.SIGCONT)
    rest = list(rows)
    assert street.wait() == 0
    assert rest[-1]["requests"].keys() == set(NAMES)
    assert set(NAMES) == {name for row in rest for name in row["requests"]}
    gateway.send_signal(signal.SIGTERM)
    out, err = gateway.communicate(timeout=20)
    assert (gateway.returncode, err) == (130, "")
    assert out.startswith(f"grid2x2: 4 signals on http://127.0.0.1:{port}/v1/readings")
    logged = signal_log.read(tmp_path / "tls_1.xml")
    assert logged.keys() == set(NAMES)
    for name, states in logged.items():
        assert not list(signal_log.StreetSignals(SCENE.net).violations(name, states))
        assert not list(signal_log.timing_violations(states, KEPT, cut=True))


# one gateway, message by message


@pytest.fixture
def gateway(folder):
    """Serves in a thread of this process; with a folder of its own, that one."""
    servers = []

    def start(own=folder, **settings):
        server = http_gateway.Server("127.0.0.1", 0)
        server.gateway = open_folder(own, tsc_marl.Watchdog(**settings))
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server.server_address[1], server.gateway

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def message(recipe, now, number=3, names=NAMES, shown=None, **more):
    """Readings with a number of halting vehicles on each lane."""
    lanes = {lane: {"halting": number} for name in names for lane in recipe["signals"][name]["lanes"]}
    states = shown or {name: recipe["signals"][name]["phases"][0]["state"] for name in names}
    return {"time_s": now, "shown": states, "lanes": lanes, **more}


LIGHTS = {
    name: signal.phases[0] for name, signal in ((s.name, s) for s in tsc_marl.Pilot("max_pressure", "grid2x2")._net.signals)
}
GOOD = {"time_s": 7, "shown": LIGHTS}
ASKED = {"vehicle": "bus", "kind": "transit", "link": 0, "distance_m": 50}
WRONG = [
    (b"", "the message: invalid JSON"),
    (b"{", "the message: invalid JSON"),
    (b"\xff\xfe", "the message: invalid JSON"),
    (b"[" * 100_000, "the message: invalid JSON"),
    (b"[]", "the message: input should be an object"),
    (b"null", "the message: input should be an object"),
    ({"shown": LIGHTS}, "time_s: field required"),
    ({"time_s": 7}, "shown: field required"),
    (GOOD | {"time_s": "7"}, "time_s: input should be a valid number; got 7"),
    (GOOD | {"time_s": True}, "time_s: input should be a valid number; got True"),
    (GOOD | {"time_s": -1}, "time_s: input should be greater than or equal to 0; got -1"),
    (b'{"time_s": NaN, "shown": {"A0": "G"}}', "time_s: input should be a finite number; got nan"),
    (b'{"time_s": 1e999, "shown": {"A0": "G"}}', "time_s: input should be a finite number; got inf"),
    (GOOD | {"time_s": 1.7e12}, "time_s: input should be less than or equal to 10000000000; got 1700000000000"),
    (GOOD | {"shown": {}}, "shown: dictionary should have at least 1 item"),
    (GOOD | {"shown": {"A9": "G"}}, "shown, signal A9 not found"),
    (GOOD | {"shown": {"A0": "Gr"}}, "shown.A0 must have"),
    (GOOD | {"lanes": {"nowhere_0": {}}}, "lanes, lane nowhere_0 not found"),
    (GOOD | {"lanes": []}, "lanes: input should be an object"),
    (GOOD | {"links": {"A9": {}}}, "links, signal A9 not found"),
    (GOOD | {"links": {"A0": {"99": {}}}}, "links.A0, link 99 not found"),
    (GOOD | {"receiving": {"nowhere_0": {}}}, "receiving, lane nowhere_0 not found"),
    (GOOD | {"lanes": {"A0A1_0": {"halting": -1}}}, "lanes.A0A1_0.halting: input should be greater than or equal to 0; got -1"),
    (GOOD | {"lanes": {"A0A1_0": {"halting": None}}}, "lanes.A0A1_0.halting: input should be a valid number"),
    (GOOD | {"lanes": {"A0A1_0": {"speed": 13.9}}}, "lanes.A0A1_0.speed: input should be less than or equal to 1; got 13.9"),
    (GOOD | {"lanes": {"A0A1_0": {"haltin": 1}}}, "lanes.A0A1_0.haltin: extra inputs are not permitted; got 1"),
    (GOOD | {"priority": {"A9": []}}, "priority, signal A9 not found"),
    (GOOD | {"priority": {"A0": [ASKED]}}, "priority: this folder gives none; leave it out, or write a folder with"),
    (GOOD | {"lane": {}}, "lane: extra inputs are not permitted"),
]


def test_a_wrong_message_is_one_sentence_and_changes_nothing(gateway):
    port, served = gateway()
    first, second = message(served.recipe, 0), message(served.recipe, 5)
    assert ask(port, "/v1/readings", json.dumps(first))[0] == 200
    state = ask(port, "/v1/state")
    for given, says in WRONG:
        status, answer = ask(port, "/v1/readings", given if isinstance(given, bytes) else json.dumps(given))
        assert status == 400, given
        assert answer["error"].startswith(says), answer
        assert len(answer["error"]) < 1500
        assert "\n" not in answer["error"]
    assert ask(port, "/v1/readings", "{}", "PUT") == (501, {"error": "Unsupported method ('PUT')"})
    assert ask(port, "/v2/readings", "{}")[0] == 404
    assert ask(port, "/v1/readings") == (405, {"error": "/v1/readings takes POST"})
    assert ask(port, "/v1/readings", "{}", headers={"Content-Length": "99999999"})[0] == 413
    assert ask(port, "/v1/readings", "{}", headers={"Content-Length": "-1"})[0] == 411
    with socket.create_connection(("127.0.0.1", port)) as broken:
        broken.sendall(b"POST /v1/readings HTTP/1.1\r\nContent-Length: 50\r\n\r\n{")
    assert ask(port, "/v1/state") == state
    status, answer = ask(port, "/v1/readings", json.dumps(second))
    assert (status, answer["requests"].keys(), answer["next_s"]) == (200, set(NAMES), 10)
    assert ask(port, "/v1/readings", json.dumps(second)) == (status, answer), "the same message again is the same answer"


class Street:
    """Sends readings every 5 s; each signal shows what it was asked for, or the first phase of its own program."""

    def __init__(self, port, recipe):
        self.port, self.recipe, self.now, self.lights = port, recipe, 0, {}

    def send(self, number=3, names=NAMES, **more):
        """Return who was in fallback, with why."""
        shown = {}
        for name in names:
            due = [state for second, state in self.lights.get(name, []) if second <= self.now]
            shown[name] = due[-1] if due else self.recipe["signals"][name]["phases"][0]["state"]
        status, answer = ask(self.port, "/v1/readings", json.dumps(message(self.recipe, self.now, number, names, shown, **more)))
        assert status == 200, answer
        assert answer["requests"].keys() | answer["fallback"].keys() == set(names)
        assert not answer["requests"].keys() & answer["fallback"].keys()
        self.lights = {name: lights for name, lights in self.lights.items() if name not in names} | answer["lights"]
        self.now += 5
        return answer["fallback"]


def test_silent_detectors_hand_back_one_signal_and_three_good_decisions_return_it(gateway, caplog):
    port, served = gateway()
    street = Street(port, served.recipe)
    own = served.recipe["signals"]["A0"]["lanes"]

    def send(**reading):
        lanes = message(served.recipe, 0)["lanes"] | dict.fromkeys(own, reading)
        return street.send(lanes=lanes)

    for reading in ({}, {"halting": 3, "failed": 1}):
        faults = [send(**reading) for _ in range(61)]
        assert not any(faults[:59])
        assert faults[-1] == {"A0": "no vehicle detected for 300 s"}
        assert ask(port, "/v1/state")[1]["status"] == "fallback"
        assert [bool(send(moving=1)) for _ in range(4)] == [True, True, True, False]
        assert ask(port, "/v1/state")[1]["status"] == "policy"
    assert "signals A0: back to the signal's own program: no vehicle detected for 300 s" in caplog.text
    assert "signals A0: the policy drives again, after: no vehicle detected for 300 s" in caplog.text


def test_readings_that_stay_away_hand_back_the_signals_of_that_controller(gateway):
    """Two controllers: the one of A0 and A1 goes on while that of B0 and B1 is silent for 15 s."""
    port, served = gateway()
    west, east = Street(port, served.recipe), Street(port, served.recipe)
    for _ in range(4):
        assert west.send(names=("A0", "A1")) == east.send(names=("B0", "B1")) == {}
    east.now += 10
    gap = dict.fromkeys(("B0", "B1"), "no readings for 15 s")
    assert [east.send(names=("B0", "B1")) for _ in range(5)] == [gap, gap, gap, gap, {}]
    assert west.send(names=("A0", "A1")) == {}
    west.now += 5
    assert west.send(names=("A0", "A1")) == {}, "two decisions may pass"
    signals = ask(port, "/v1/state")[1]["signals"]
    assert {name: row["by"] for name, row in signals.items()} == dict.fromkeys(NAMES, "policy")


def test_a_monitor_sees_that_readings_stay_away(gateway):
    port, served = gateway()
    assert ask(port, "/v1/state")[1]["status"] == "waiting"
    Street(port, served.recipe).send()
    for heard in served._signals.values():
        heard.clock_s -= 12
    state = ask(port, "/v1/state")[1]
    assert state["status"] == "fallback"
    assert state["signals"]["B1"]["fault"] == "no readings for 12 s"


def test_a_signal_is_taken_over_in_a_phase_and_after_its_least_green(gateway):
    """Its own program shows yellow, then phase 1, which has begun just then."""
    port, served = gateway()
    phases = served.recipe["signals"]["A0"]["phases"]
    green = phases[1]["state"]
    yellow = green.replace("G", "y").replace("g", "y")

    def send(now, state):
        text = json.dumps(message(served.recipe, now, names=("A0",), shown={"A0": state}))
        return ask(port, "/v1/readings", text)[1]

    assert send(100, yellow)["fallback"] == {"A0": "its own program shows none of the phases now"}
    assert send(105, green)["lights"] == {"A0": [[105.0, green]]}
    assert phases[1]["least_green_s"] >= 5
    assert send(3, phases[0]["state"])["requests"] == {"A0": 0}, "an earlier time starts anew"


def test_a_policy_without_sense_drives_nothing(gateway, folder, tmp_path):
    """Weights that are no numbers: the actor answers, and its scores mean nothing."""
    import onnx
    from onnx import numpy_helper

    own = tmp_path / "broken"
    own.mkdir()
    model = onnx.load(folder / "actor.onnx")
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.ndim == 2:
            weight.CopyFrom(numpy_helper.from_array(np.full_like(values, np.nan), weight.name))
    onnx.save(model, own / "actor.onnx")
    (own / "recipe.json").write_bytes((folder / "recipe.json").read_bytes())
    port, served = gateway(own)
    fault = "the policy failed: ValueError: the actor's scores are not finite"
    assert Street(port, served.recipe).send() == dict.fromkeys(NAMES, fault)


def test_a_port_in_use_and_a_damaged_folder_are_one_line(home, folder, tmp_path, gateway, capsys):
    port, _ = gateway()
    assert home.main(f"serve --from {folder} --http {port}") == 2
    assert f"port {port} of 127.0.0.1 cannot be used" in one_line(capsys.readouterr().err)
    (tmp_path / "recipe.json").write_bytes((folder / "recipe.json").read_bytes()[:-100])
    assert home.main(f"serve --from {tmp_path} --http 0") == 2
    assert f"folder {tmp_path} cannot be read (JSONDecodeError" in one_line(capsys.readouterr().err)


# a SUMO that somebody else steps


@pytest.mark.parametrize("given", ["--policy max_pressure", "--network cross", "--timing-preset field"])
def test_a_folder_has_its_own_network_policy_and_timing(home, tmp_path, capsys, given):
    assert home.main(f"serve --from {tmp_path} {given}") == 2
    assert f"{given} has no effect with --from {tmp_path}, which has its own; leave out one" in one_line(capsys.readouterr().err)


def test_a_policy_joins_a_running_sumo_and_leaves_it(home, tmp_path, processes):
    """Somebody else's loop goes on after SIGTERM, with the signals' own programs; SUMO's end is an end in order."""
    port = free_port()
    command = [engine.binary("sumo"), *engine.command(SCENE, 1, tmp_path, NAMES), "--num-clients", "2"]
    log = (tmp_path / "sumo.log").open("w")
    sumo = processes(subprocess.Popen([*command, "--remote-port", str(port)], stdout=log, stderr=log, env=os.environ))
    line = f"serve --network grid2x2 --policy max_pressure --timing-preset field --traci 127.0.0.1:{port}"
    client = processes(home.start(line))
    until(lambda: client.poll() is not None or "waiting" in client.stdout.readline(), 60)
    loop: Any = traci.connect(port, 20)
    loop.setOrder(1)

    def step(seconds):
        for _ in range(seconds):
            loop.simulationStep()
        return {loop.trafficlight.getProgram(name) for name in NAMES}

    assert step(120) == {"online"}
    client.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    while client.poll() is None and time.monotonic() < begun + 60:
        step(1)
    out, err = client.communicate()
    assert (client.returncode, err) == (130, "")
    assert out.splitlines()[-1].startswith("left SUMO after second ")
    assert out.splitlines()[-1].endswith("faults at the end: none")
    assert step(60) == {"0"}
    loop.close()
    assert sumo.wait(20) == 0
    for name, states in signal_log.read(tmp_path / "tls_1.xml").items():
        assert not list(signal_log.StreetSignals(SCENE.net).violations(name, states))
        assert not list(signal_log.timing_violations(states, KEPT, cut=True))


def test_sumo_may_end_first(home, tmp_path, processes, capsys):
    port = free_port()
    command = [engine.binary("sumo"), *engine.command(scenario.load("cross"), 1, tmp_path), "--remote-port", str(port)]
    sumo = processes(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    threading.Timer(4, sumo.kill).start()
    assert home.main(f"serve --network cross --policy max_pressure --traci {port}") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(("SUMO closed after second ", "left SUMO after second "))


def test_a_sumo_that_does_not_answer_is_one_line(home, capsys):
    port = free_port()
    assert home.main(f"serve --network cross --policy max_pressure --traci {port}") == 2
    assert f"SUMO on 127.0.0.1:{port} did not answer within 10 s; start it with" in one_line(capsys.readouterr().err)
