"""MLflow's pages, served on this machine."""

import contextlib
import logging
import os
import socket
import subprocess
import sys
import time
import webbrowser
from importlib.metadata import entry_points

from tsc_marl.errors import UserError
from tsc_marl.rollout import interrupts
from tsc_marl.tracking import pages
from tsc_marl.tracking.connection import uri, without_stray_folders
from tsc_marl.tracking.stored_runs import StoredRuns

logger = logging.getLogger(__name__)

APP = "tsc_marl"
"""Entry point of `ui_app`."""


def _experiments() -> dict[str, str]:
    """Return the id of each network's experiment, that of the newest training first; give them their view of the curves."""
    store = StoredRuns("Default")  # every store has that one
    found = [each for each in store.client.search_experiments(order_by=["last_update_time DESC"]) if each.name != "Default"]
    for experiment in found:
        for name, value in pages.tags().items():
            if experiment.tags.get(name) != value:
                with contextlib.suppress(UserError):  # a store that one may only read
                    store.client.set_experiment_tag(experiment.experiment_id, name, value)
    return {experiment.name: experiment.experiment_id for experiment in found}


def _open(link: str | None, port: int, server: "subprocess.Popen[bytes]") -> None:
    """Open a page in the browser of this desktop, where there is one, once the server answers."""
    if link is None or not (sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    while server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            webbrowser.open(link)
            return
        time.sleep(0.5)


def serve(port: int) -> None:
    """Serve MLflow's pages on this machine until Ctrl-C.

    Raises:
        UserError: when the port is taken.
    """
    if uri().startswith("http"):
        raise UserError(f"the tracking store is a server with pages of its own: open {uri()} in a browser")
    if not entry_points(group="mlflow.app", name=APP):
        raise UserError("the installed tsc_marl is older than this program, so MLflow does not find its page: make install")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise UserError(f"port {port} cannot be used ({error}); give another with --port") from None
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri(), "--host", "127.0.0.1", "--port", str(port)]
    quiet = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes more, for prompts and judges alone
        "GIT_PYTHON_REFRESH": "quiet",
        "PYTHONWARNINGS": "ignore",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
    }
    links = {network: f"http://127.0.0.1:{port}/curves/{number}" for network, number in _experiments().items()}
    logger.info(f"MLflow on {uri()}, curves of the trainings by algorithm (in some seconds; Ctrl-C ends):")
    for network, link in links.items():
        logger.info(f"  {link}  {network}")
    interrupts.check()
    line = [*command, "--workers", "1", "--app-name", APP, "--uvicorn-opts", "--log-level warning"]
    with without_stray_folders(), contextlib.ExitStack() as held:
        with interrupts.kept_from_children():
            server = held.enter_context(subprocess.Popen(line, env=os.environ | quiet))
            held.callback(server.terminate)  # MLflow hands it on to the process that serves
        _open(next(iter(links.values()), None), port, server)
        server.wait()
