"""The gateway over MQTT: the same JSON messages as over HTTP, by topics of a broker.

| topic, behind `tsc_marl/<network>/` | sent by | content |
|---|---|---|
| `readings/<controller>` | a controller | readings of its signals |
| `answers/<controller>` | the gateway | requests of phases, or an error |
| `recipe` | the gateway, retained | `recipe.json` |
| `state` | the gateway, retained; the broker when the gateway is gone | who drives each signal; then `{"status": "offline"}` |
"""

import json
import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from tsc_marl import console
from tsc_marl.api.watchdog import Watchdog
from tsc_marl.errors import UserError
from tsc_marl.live.gateway import EVERY_S, Gateway, open_folder, summary
from tsc_marl.live.readings import MOST_BYTES, parse

if TYPE_CHECKING:  # an extra of the installation
    from paho.mqtt.client import Client, MQTTMessage

logger = logging.getLogger(__name__)
PORTS = {"mqtt": 1883, "mqtts": 8883}
ALIVE_S = 5
"""Time between two signs of life [s]; the broker says that the gateway is offline after one and a half of it."""
OFFLINE = json.dumps({"status": "offline"})


def checked(address: str) -> SplitResult:
    """Return the parts of the address of a broker.

    Raises:
        UserError: for anything but `host`, `host:port`, or `mqtt://` or `mqtts://` before `user:password@host:port`.
    """
    parts = urlsplit(address if "://" in address else f"mqtt://{address}")
    try:
        valid = parts.scheme in PORTS and parts.hostname and parts.port != 0 and not parts.path.strip("/")
    except ValueError:  # a port that is no number
        valid = False
    if not valid:
        raise UserError(f"mqtt must be host:port, mqtt://host:port or mqtts://user:password@host:port; got {address}")
    return parts


def serve(broker: SplitResult, folder: Path, settings: Watchdog) -> None:
    """Answer the controllers of a broker until this process is stopped.

    Args:
        broker: from `checked`.
        folder: written by `deploy`.
        settings: of the watchdog.

    Raises:
        UserError: when the folder cannot be used, the broker does not answer or refuses, or a package is missing.
    """
    line = _Line(open_folder(folder, settings), broker)
    signals, readings = len(line.gateway.recipe["signals"]), f"{line.topic}/readings/<controller>"
    title = f"{line.gateway.recipe['network']}: {signals} signals on {line.address}, {readings}"
    with console.working(title, EVERY_S) as update:
        line.heard = lambda: update(f"{title}  {summary(line.gateway)}")
        try:
            line.run()
        finally:
            line.close()


class _Line:
    """The connection of a gateway with a broker; it comes back by itself when it breaks."""

    def __init__(self, gateway: Gateway, broker: SplitResult) -> None:
        self.gateway, self._broker = gateway, broker
        self.topic = f"tsc_marl/{gateway.recipe['network']}"
        self.address = f"{broker.scheme}://{broker.hostname}:{broker.port or PORTS[broker.scheme]}"
        self.heard: Any = lambda: None
        self._ended, self._refused = threading.Event(), ""
        try:
            from paho.mqtt import client as mqtt
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError as error:
            raise UserError(f"a gateway over MQTT needs paho-mqtt ({error}); pip install 'tsc_marl[deploy]'") from None
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.will_set(f"{self.topic}/state", OFFLINE, qos=1, retain=True)
        self._client.reconnect_delay_set(1, 10)
        if broker.username:
            self._client.username_pw_set(broker.username, broker.password)
        if broker.scheme == "mqtts":
            self._client.tls_set()
        self._client.on_connect, self._client.on_disconnect = self._greet, self._miss
        self._client.on_message = self._take

    def run(self) -> None:
        """Answer until the process is stopped."""
        host, port = self._broker.hostname or "", self._broker.port or PORTS[self._broker.scheme]
        try:
            self._client.connect(host, port, keepalive=ALIVE_S)
        except (OSError, ValueError) as error:
            raise UserError(f"broker {self.address} did not answer ({error}); start one there, or correct --mqtt") from None
        self._client.loop_start()
        self._ended.wait()
        raise UserError(f"broker {self.address} refused the gateway ({self._refused}); give mqtt://user:password@host:port")

    def close(self) -> None:
        """Say that the gateway is offline, and leave."""
        if self._client.is_connected():
            self._client.publish(f"{self.topic}/state", OFFLINE, qos=1, retain=True).wait_for_publish(2)
        self._client.disconnect()
        self._client.loop_stop()

    def _greet(self, client: "Client", _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._refused = str(reason)
            self._ended.set()
            return
        client.subscribe(f"{self.topic}/readings/+")
        client.publish(f"{self.topic}/recipe", json.dumps(self.gateway.recipe), qos=1, retain=True)
        self._publish_state()

    def _miss(self, _client: "Client", _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            logger.warning("broker %s is gone (%s): signals run their own programs until it is back", self.address, reason)

    def _take(self, client: "Client", _data: Any, message: "MQTTMessage") -> None:
        try:
            if len(message.payload) > MOST_BYTES:
                raise ValueError(f"the message has {len(message.payload)} bytes, at most {MOST_BYTES} are read")
            answer = self.gateway.take(parse(bytes(message.payload), self.gateway.recipe))
        except ValueError as error:
            answer = {"error": str(error)}
        client.publish(f"{self.topic}/answers/{message.topic.rpartition('/')[2]}", json.dumps(answer))
        self._publish_state()
        self.heard()

    def _publish_state(self) -> None:
        self._client.publish(f"{self.topic}/state", json.dumps(self.gateway.state()), qos=1, retain=True)
