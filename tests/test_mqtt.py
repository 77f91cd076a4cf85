"""`serve` with a broker of MQTT: a real one, in a process of its own."""

import json
import queue
import signal
import subprocess
import sys

import pytest
from helpers.cli import ROOT, one_line, until
from helpers.decisions import decisions
from helpers.ports import free_port

from tsc_marl.sim import engine, scenario

pytest_plugins = ("helpers.fixtures", "helpers.street")
pytest.importorskip("paho.mqtt.client", reason="it is not installed; pip install tsc_marl[deploy]")
pytest.importorskip("amqtt", reason="it is not installed; pip install tsc_marl[dev]")

BROKER = """
import asyncio, sys
from amqtt.broker import Broker

async def main():
    listener = {"type": "tcp", "bind": f"127.0.0.1:{sys.argv[1]}"}
    plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": sys.argv[2] == "open"}}
    broker = Broker({"listeners": {"default": listener}, "plugins": plugins})
    await broker.start()
    await asyncio.Event().wait()

asyncio.run(main())
"""
NAMES = {"A0", "A1", "B0", "B1"}


def broker(processes, port, kind="open"):
    """Start a broker."""
    words = [sys.executable, "-c", BROKER, str(port), kind]
    return processes(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))


class Client:
    """A client of the broker that keeps what it receives, by topic."""

    def __init__(self, port):
        from paho.mqtt import client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion

        self.received: dict[str, queue.Queue] = {}
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self.client.on_connect = self.subscribe
        self.client.on_message = self.take
        until(lambda: self.connects(port), 30)
        self.client.loop_start()

    def subscribe(self, client, *_):
        client.subscribe([(f"tsc_marl/grid2x2/{topic}", 0) for topic in ("recipe", "state", "answers/+")])

    def connects(self, port):
        try:
            self.client.connect("127.0.0.1", port)
        except OSError:
            return False
        return True

    def take(self, _client, _data, message):
        self.received.setdefault(message.topic, queue.Queue()).put(json.loads(message.payload))

    def next(self, topic):
        """Return the next message of a topic."""
        until(lambda: f"tsc_marl/grid2x2/{topic}" in self.received, 60)
        return self.received[f"tsc_marl/grid2x2/{topic}"].get(timeout=60)

    def ask(self, content, name="test"):
        """Send readings, and return the answer."""
        self.client.publish(f"tsc_marl/grid2x2/readings/{name}", content)
        return self.next(f"answers/{name}")


def test_a_street_is_driven_through_a_broker_and_goes_on_without_the_gateway(home, folder, tmp_path, processes):
    port, expected = free_port(), decisions("pretrained", "grid2x2", "field", 200)
    broker(processes, port)
    monitor = Client(port)
    gateway = processes(home.start(f"serve --from {folder} --mqtt 127.0.0.1:{port}"))
    assert monitor.next("recipe")["network"] == "grid2x2"
    assert monitor.next("state")["status"] == "waiting"
    options = engine.command(scenario.load("grid2x2"), 1, tmp_path, sorted(NAMES))
    url = f"mqtt://127.0.0.1:{port}/grid2x2"
    example = [sys.executable, str(ROOT / "examples/roadside_controller.py"), url, "600", "50", *options]
    street = processes(subprocess.Popen(example, stdout=subprocess.PIPE, text=True))
    rows = (json.loads(line) for line in street.stdout if line.startswith("{"))  # libsumo prints a line of its own
    assert [next(rows)["requests"] for _ in range(40)] == expected
    gateway.kill()
    gateway.communicate()
    alone = next(row for row in rows if not row["requests"])
    assert alone["fallback"].keys() == NAMES
    while monitor.next("state")["status"] != "offline":
        pass
    street.kill()


def test_a_wrong_message_is_answered_with_a_sentence(home, folder, processes):
    port = free_port()
    broker(processes, port)
    client = Client(port)
    gateway = processes(home.start(f"serve --from {folder} --mqtt mqtt://127.0.0.1:{port}"))
    recipe = client.next("recipe")
    shown = {name: plan["phases"][0]["state"] for name, plan in recipe["signals"].items()}
    for given, says in ((b"{", "the message: invalid JSON"), (json.dumps({"time_s": -1, "shown": shown}), "time_s: ")):
        assert client.ask(given)["error"].startswith(says)
    answer = client.ask(json.dumps({"time_s": 0, "shown": shown}))
    assert answer["requests"].keys() == NAMES
    assert client.ask(json.dumps({"time_s": 5, "shown": {"A0": shown["A0"]}}), "A0")["requests"].keys() == {"A0"}
    gateway.send_signal(signal.SIGTERM)
    out, err = gateway.communicate(timeout=20)
    assert (gateway.returncode, err) == (130, "")
    assert out.startswith(f"grid2x2: 4 signals on mqtt://127.0.0.1:{port}, tsc_marl/grid2x2/readings/<controller>")
    while client.next("state")["status"] != "offline":
        pass


def test_the_gateway_comes_back_to_a_broker_that_was_gone(home, folder, processes):
    port = free_port()
    first = broker(processes, port)
    client = Client(port)
    processes(home.start(f"serve --from {folder} --mqtt 127.0.0.1:{port}"))
    client.next("recipe")
    first.kill()
    first.communicate()
    broker(processes, port)
    assert Client(port).next("recipe")["network"] == "grid2x2"


def test_brokers_that_cannot_be_are_one_line(home, folder, processes, capsys):
    port, closed = free_port(), free_port()
    for given, says in (
        (f"127.0.0.1:{port}", f"broker mqtt://127.0.0.1:{port} did not answer"),
        ("127.0.0.1:nowhere", "mqtt must be host:port"),
        ("http://127.0.0.1:1", "mqtt must be host:port"),
        (f"127.0.0.1:{port} --traci 127.0.0.1:1", "mqtt is for a gateway to a street"),
    ):
        line = f"serve --mqtt {given}" + ("" if "traci" in given else f" --from {folder}")
        assert home.main(line) == 2
        assert says in one_line(capsys.readouterr().err)
    broker(processes, closed, "closed")
    until(lambda: home.main(f"serve --mqtt 127.0.0.1:{closed} --from {folder}") == 2 and "refused" in capsys.readouterr().err, 30)
