"""MLflow's pages of an experiment: which curves stand first, in which colours, and the address that shows them."""

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from tsc_marl.tracking import colours
from tsc_marl.tracking.curves import TRAINING
from tsc_marl.tracking.registry import DELAY

KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Tag of an experiment: otherwise its pages are those for language models."""
VIEW = "delay"
"""Key of the saved view."""
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
COLOUR_TAG = "mlflow.runColor"
GROUP = "algorithm"
"""Tag by whose values the curves are averaged."""
COLUMNS = (DELAY, TRAINING["minutes"], "eval_worst_approach_s", "eval_never_inserted_veh")
"""Metrics in the table of runs."""
SECTIONS = (
    ("delay", "Delay over training episodes", 1, True),
    ("final", "Final policies, and minutes of training", 2, True),
    ("learning", "Learning", 3, False),
    ("speed", "Seconds of an episode", 3, False),
    ("model", "Model metrics", 3, False),
    ("system", "System metrics", 3, False),
)
"""Sections of the page: key, title, columns, and whether it is open. The last two are MLflow's own, for all other metrics."""
SPEED = ("simulation_s", "acting_s", "learning_s")


def tags() -> dict[str, str]:
    """Return the tags that a network's experiment must have."""
    packed = base64.b64encode(zlib.compress(json.dumps(_state()).encode())).decode()  # a tag has 5000 characters
    return {**KIND, VIEW_TAG: json.dumps({"name": "Delay by algorithm", "createdAt": 0, "state": f"deflate;{packed}"})}


def run_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tag with the colour of a training, from its other tags; nothing for another run."""
    colour = colours.of_algorithms().get(tags.get(GROUP, "").partition("-")[0])
    return {} if colour is None else {COLOUR_TAG: colour}


def address(experiment_id: str) -> str:
    """Return the page of an experiment that shows its curves, without the server's address."""
    query = {"viewStateShareKey": VIEW, "compareRunsMode": "CHART", "workflowType": "machine_learning"}
    return f"/#/experiments/{experiment_id}/runs?{urlencode(query, quote_via=quote)}"


def picture(run_id: str, artifact: str) -> str:
    """Return an artifact of a run as a picture in a description, in Markdown."""
    return f"![{artifact}](get-artifact?{urlencode({'path': artifact, 'run_uuid': run_id})})"


def settings() -> dict[str, str]:
    """Return what a browser keeps for MLflow's pages: for machine learning, no assistant, a colour for each algorithm."""
    groups = {f"tag.{GROUP}.{name}": colour for name, colour in colours.of_algorithms().items()}
    return {
        "mlflow.workflowType_v1": '"machine_learning"', "mlflow.assistant.panelOpen_v1": "false",
        "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true", "experimentRunColors": json.dumps(groups),
        "_mlflow_model_registry_promo_modal_dismissed_v1": "true",
    }  # fmt: skip


def _state() -> dict[str, Any]:
    """Return the view: what MLflow's button *Share* writes."""
    learning = ("reward", "entropy_nat", "kl_nat", "policy_loss", "critic_loss", "explained_variance")
    charts = [_curve("delay", TRAINING["delay"]) | {"scaleType": "log"}]
    charts += [_bar("final", DELAY), _bar("final", TRAINING["minutes"])]
    charts += [_curve("learning", name) for name in learning] + [_bar("speed", name) for name in SPEED]
    return {
        "searchFilter": "tags.kind = 'training'", "orderByKey": f"metrics.`{DELAY}`", "orderByAsc": True,
        "selectedColumns": [*(f"metrics.`{name}`" for name in COLUMNS), "attributes.`Models`", "attributes.`Dataset`"],
        "runsHiddenMode": "SHOW_ALL", "useGroupedValuesInCharts": True, "hideEmptyCharts": True, "isAccordionReordered": True,
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": GROUP}]},
        "compareRunSections": [_section(*section) for section in SECTIONS],
        "compareRunCharts": charts,
    }  # fmt: skip


def _section(key: str, name: str, columns: int, is_open: bool) -> dict[str, Any]:
    return {
        "uuid": key, "name": name, "display": is_open, "isReordered": True, "deleted": False, "isGenerated": False,
        "columns": columns, "cardHeight": 360,
    }  # fmt: skip


def _curve(section: str, metric: str) -> dict[str, Any]:
    return _chart("LINE", section, metric) | {
        "selectedMetricKeys": [metric], "xAxisKey": "step", "xAxisScaleType": "linear", "scaleType": "linear", "range": {},
        "lineSmoothness": 0, "useGlobalXaxisKey": True, "useGlobalLineSmoothing": True, "yAxisKey": "metric",
        "yAxisExpressions": [], "selectedXAxisMetricKey": "", "ignoreOutliers": False,
    }  # fmt: skip


def _bar(section: str, metric: str) -> dict[str, Any]:
    return _chart("BAR", section, metric)


def _chart(kind: str, section: str, metric: str) -> dict[str, Any]:
    return {
        "type": kind, "uuid": f"{section}-{metric}", "metricSectionId": section, "metricKey": metric, "isGenerated": False,
        "deleted": False, "runsCountToCompare": 100,
    }  # fmt: skip
