"""The gateway over HTTP: JSON in and out."""

import http.server
import json
import logging
import socketserver
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

from tsc_marl import console
from tsc_marl.api.watchdog import Watchdog
from tsc_marl.errors import UserError
from tsc_marl.live.gateway import EVERY_S, Gateway, open_folder, summary
from tsc_marl.live.readings import MOST_BYTES, parse

logger = logging.getLogger(__name__)
READINGS, STATE, RECIPE = "/v1/readings", "/v1/state", "/v1/recipe"
METHODS = {READINGS: "POST", STATE: "GET", RECIPE: "GET"}
PATIENCE_S = 10
"""How long a client may take to send what it has begun [s]."""


class Server(socketserver.ThreadingTCPServer):
    """Answers each client in a thread of its own, once it has a gateway.

    Args:
        host: address of this machine to listen at.
        port: there; 0 for any that is free.

    Raises:
        UserError: when the port cannot be used.
    """

    allow_reuse_address, daemon_threads, request_queue_size = True, True, 64

    def __init__(self, host: str, port: int) -> None:
        self.gateway: Gateway | None = None
        self.heard: Callable[[], object] = lambda: None
        """Called after each message."""
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise UserError(f"port {port} of {host} cannot be used ({error}); give another with --http") from None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log that a client has gone away, and whatever else went wrong with one."""
        logger.debug("client %s", client_address, exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version, timeout = "HTTP/1.1", PATIENCE_S

    def do_GET(self) -> None:
        """Answer with the state or the recipe."""
        if self._is_for("GET"):
            self._answer(HTTPStatus.OK, self._gateway.state() if self._path == STATE else self._gateway.recipe)

    def do_POST(self) -> None:
        """Answer readings with requests of phases."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "the message needs a Content-Length")
        elif int(length) > MOST_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the message has {length} bytes, at most {MOST_BYTES} are read")
        else:
            text = self.rfile.read(int(length))
            if self._is_for("POST"):
                self._take(text)

    @property
    def _path(self) -> str:
        return self.path.partition("?")[0]

    @property
    def _gateway(self) -> Gateway:
        if (gateway := self._server.gateway) is None:
            raise RuntimeError("the server answers before it has a gateway")
        return gateway

    @property
    def _server(self) -> Server:
        return cast(Server, self.server)

    def _take(self, text: bytes) -> None:
        try:
            readings = parse(text, self._gateway.recipe)
        except ValueError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
            return
        self._answer(HTTPStatus.OK, self._gateway.take(readings))
        self._server.heard()

    def _is_for(self, method: str) -> bool:
        """Whether the path has this method; if not, say so."""
        if (expected := METHODS.get(self._path)) is None:
            paths = ", ".join(f"{own} {path}" for path, own in METHODS.items())
            self._refuse(HTTPStatus.NOT_FOUND, f"there is no {self._path[:100]}; there are {paths}")
        elif expected != method:
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, f"{self._path} takes {expected}")
        return expected == method

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        """Answer with a sentence; what follows of a message that was not read belongs to no other."""
        logger.debug("%s from %s: %s", status.value, self.client_address[0], why)
        self.close_connection |= status != HTTPStatus.BAD_REQUEST
        self._answer(status, {"error": why})

    def _answer(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        text = json.dumps(content).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(text)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is no HTTP, or another method, in a sentence too."""
        self.close_connection = True
        self._answer(HTTPStatus(code), {"error": message or HTTPStatus(code).phrase})

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the watchdog logs what a person should know."""


def serve(server: Server, folder: Path, settings: Watchdog) -> None:
    """Answer until this process is stopped.

    Args:
        server: that listens already.
        folder: written by `deploy`.
        settings: of the watchdog.

    Raises:
        UserError: when the folder cannot be used.
    """
    server.gateway = gateway = open_folder(folder, settings)
    host, port = server.server_address[:2]
    title = f"{gateway.recipe['network']}: {len(gateway.recipe['signals'])} signals on http://{host}:{port}{READINGS}"
    with console.working(title, EVERY_S) as update:
        server.heard = lambda: update(f"{title}  {summary(gateway)}")
        server.serve_forever()
