"""Two ways to a gateway (`make serve`): HTTP, and MQTT through a broker. Without an answer within 1 s both raise an OSError."""

import json
import queue
import urllib.request
from urllib.parse import urlsplit


class HttpLine:
    """`url` is that of the gateway, such as http://127.0.0.1:8840."""

    def __init__(self, url):
        self.url = url
        self.recipe = json.load(urllib.request.urlopen(f"{url}/v1/recipe", timeout=10))

    def ask(self, readings):
        return json.load(urllib.request.urlopen(f"{self.url}/v1/readings", json.dumps(readings).encode(), timeout=1))


class MqttLine:
    """`url` is that of the broker with the network, such as mqtt://127.0.0.1:1883/grid2x2; `name` is the controller's own."""

    def __init__(self, url, name="street"):
        from paho.mqtt import client as mqtt

        parts, self.name, self.received = urlsplit(url), name, {"recipe": queue.Queue(), name: queue.Queue()}
        self.topic, self.status = f"tsc_marl{parts.path}", "waiting"
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self.client.on_connect = lambda client, *_: client.subscribe(
            [(f"{self.topic}/{own}", 0) for own in ("recipe", "state", f"answers/{name}")]
        )
        self.client.on_message = self.take
        self.client.connect(parts.hostname, parts.port or 1883, keepalive=5)
        self.client.loop_start()
        self.recipe = self.received["recipe"].get(timeout=10)

    def take(self, client, data, message):
        content, kind = json.loads(message.payload), message.topic.rpartition("/")[2]
        if kind == "state":
            self.status = content["status"]
        else:
            self.received[kind].put(content)

    def ask(self, readings):
        while not self.received[self.name].empty():  # an answer that came too late
            self.received[self.name].get()
        if self.status == "offline":
            raise ConnectionError("the gateway is offline")
        self.client.publish(f"{self.topic}/readings/{self.name}", json.dumps(readings))
        try:
            return self.received[self.name].get(timeout=1)
        except queue.Empty:
            raise TimeoutError("1 s has passed") from None


def line_to(url):
    """Return the line for a URL."""
    return (MqttLine if url.startswith("mqtt://") else HttpLine)(url)
