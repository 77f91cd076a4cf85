"""MLflow's pages, served on this machine."""

import contextlib
import logging
import os
import socket
import subprocess
import sys
from urllib.parse import quote, urlencode

from tsc_marl.errors import UserError
from tsc_marl.rollout import interrupts
from tsc_marl.tracking.connection import uri, without_stray_folders
from tsc_marl.tracking.stored_runs import StoredRuns

logger = logging.getLogger(__name__)

BEST_FIRST = urlencode(
    {
        "workflowType": "machine_learning", "compareRunsMode": "CHART", "searchFilter": "tags.kind = 'training'",
        "orderByKey": "metrics.`eval/delay`", "orderByAsc": "true",
    },
    quote_via=quote,
)  # fmt: skip
"""Query of MLflow's page of an experiment: by default the page hides trainings and their curves."""


def serve(port: int) -> None:
    """Serve MLflow's pages on this machine until Ctrl-C.

    Raises:
        UserError: when the port is taken.
    """
    if uri().startswith("http"):
        raise UserError(f"the tracking store is a server with pages of its own: open {uri()} in a browser")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise UserError(f"port {port} cannot be used ({error}); give another with --port") from None
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri(), "--host", "127.0.0.1", "--port", str(port)]
    quiet = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
        "PYTHONWARNINGS": "ignore",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
    }
    pages = f"http://127.0.0.1:{port}/#/experiments"
    for network, number in sorted(StoredRuns("Default").experiments().items()):  # every store has that one
        if network != "Default":
            logger.info(f"{network}, curves of the trainings, best first: {pages}/{number}/runs?{BEST_FIRST}")
    logger.info(f"MLflow on {uri()}: {pages}?workflowType=machine_learning (in some seconds; Ctrl-C ends)")
    interrupts.check()
    line = [*command, "--workers", "1", "--uvicorn-opts", "--log-level warning"]
    with without_stray_folders(), contextlib.ExitStack() as held:
        with interrupts.kept_from_children():
            server = held.enter_context(subprocess.Popen(line, env=os.environ | quiet))
            held.callback(server.terminate)  # MLflow hands it on to the process that serves
        server.wait()
