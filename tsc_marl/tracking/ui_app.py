"""MLflow's server with an address of its own for the curves of each network, `/curves/<id of the experiment>`.

MLflow finds it by its entry point `mlflow.app`. MLflow's pages open as they are for language models, and keep in the browser
what they show. The page at that address sets it, and goes on to the curves.
"""

import json
from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tsc_marl.tracking import pages

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Curves of the trainings</title></head>
<body><p><a href="{link}">Curves of the trainings</a></p>
<script>
const kept = {settings};
const own = JSON.parse(localStorage.getItem("experimentRunColors") || "{{}}");
kept.experimentRunColors = JSON.stringify({{...own, ...JSON.parse(kept.experimentRunColors)}});
for (const name in kept) localStorage.setItem(name, kept[name]);
location.replace({target});
</script></body></html>
"""


def curves(request: Request) -> HTMLResponse:
    """Set what MLflow's pages keep in the browser, and go on to the curves of an experiment."""
    address = pages.address(str(request.path_params["experiment"]))
    page = PAGE.format(link=escape(address), settings=json.dumps(pages.settings()), target=json.dumps(address))
    return HTMLResponse(page)


class App:
    """The application. It imports MLflow's when it is first called: MLflow loads this module once more, only to look at it."""

    def __init__(self) -> None:
        self._mlflow: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as ASGI has it."""
        if self._mlflow is None:
            from mlflow.server.fastapi_app import app as mlflow_app

            mlflow_app.router.routes.insert(0, Route("/curves/{experiment:int}", curves))
            self._mlflow = mlflow_app
        await self._mlflow(scope, receive, send)


app = App()
