"""What a person sees in a browser: MLflow's pages on real trainings, and the report without any network."""

import io
import json
import os
import re
import signal
import socket

import numpy as np
import pytest
from helpers.cli import serves, until
from mlflow import MlflowClient
from PIL import Image

from tsc_marl.tracking import colours

pytest_plugins = ["helpers.fixtures", "helpers.browser"]
pytestmark = pytest.mark.slow

LINE = "train --net grid2x2 --algos mappo jointq --episodes 4 --algo.epochs 1 --eval-seeds 1 2 --baselines max_pressure"


@pytest.fixture
def page(new_page):
    return new_page()


@pytest.fixture(scope="module")
def home(new_home):
    home = new_home()
    assert home.main(LINE) == 0
    assert home.main("report --net grid2x2") == 0
    return home


@pytest.fixture(scope="module")
def runs(home):
    client = MlflowClient(f"sqlite:///{home.folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("grid2x2").experiment_id
    return {run.data.tags.get("algorithm", run.data.tags["kind"]): run for run in client.search_runs([experiment])}


@pytest.fixture(scope="module")
def ui(home):
    """`make ui`: the address, and the link that it prints."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = home.start(f"ui --port {port}")

    try:
        until(lambda: serves(port), 120)
        line = next(line for line in process.stdout if "/curves/" in line)
        assert len(line) <= 80
        yield f"http://127.0.0.1:{port}", line.split()[0]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_the_experiment_shows_its_runs(ui, page, runs):
    base, _ = ui
    experiment = runs["mappo"].info.experiment_id
    page.goto(f"{base}/#/experiments/{experiment}/runs?workflowType=machine_learning")
    for kind in ("comparison", "report"):
        page.get_by_role("link", name=runs[kind].info.run_name).wait_for()
    page.get_by_text("4 matching runs").wait_for()
    assert [url for url in page.asked if not url.startswith((base, "data:", "blob:"))] == []


def test_the_link_that_it_prints_shows_the_delay_of_both_algorithms_in_one_chart(ui, page):
    _, link = ui
    page.goto(link)
    chart = page.get_by_test_id("experiment-view-compare-runs-card").first
    for name in ("mappo", "jointq"):
        chart.get_by_text(f"{name} (delay_s)").wait_for()
    chart.locator(".scatterlayer .js-line").nth(1).wait_for(state="attached")
    lines = chart.locator(".scatterlayer .js-line").evaluate_all("lines => lines.map(line => getComputedStyle(line).stroke)")
    expected = [colours.of_algorithms()[name].lower() for name in ("jointq", "mappo")]
    assert {f"#{bytes(map(int, re.findall('[0-9]+', line)[:3])).hex()}" for line in lines} >= set(expected)
    assert page.get_by_text("GenAI", exact=True).count() <= 1  # the switch alone
    assert [url for url in page.asked if not url.startswith((ui[0], "data:", "blob:"))] == []


def test_three_clicks_lead_to_the_policies(ui, page, runs):
    _, link = ui
    page.goto(link)
    page.get_by_role("link", name="Model registry").click()
    for name in ("mappo", "jointq"):
        page.get_by_role("link", name=f"grid2x2-{name}", exact=True).wait_for()
    page.get_by_role("link", name="grid2x2-jointq", exact=True).click()
    page.get_by_text("newest").first.wait_for()
    page.get_by_text("best").first.wait_for()


def test_two_runs_compared_show_both_curves(ui, page, runs):
    base, _ = ui
    both = json.dumps([runs[name].info.run_id for name in ("mappo", "jointq")])
    page.goto(f'{base}/#/compare-runs?runs={both}&experiments=["{runs["mappo"].info.experiment_id}"]')
    page.get_by_role("link", name="delay_s", exact=True).click()
    page.locator(".scatterlayer .js-line").nth(1).wait_for(state="attached")
    for name in ("mappo", "jointq"):
        page.get_by_text(f"{runs[name].info.run_name} (delay_s)").first.wait_for()


def test_a_run_page_shows_its_description(ui, page, runs):
    base, _ = ui
    run = runs["jointq"].info
    page.goto(f"{base}/#/experiments/{run.experiment_id}/runs/{run.run_id}")
    page.get_by_role("heading", name=run.run_name).wait_for()
    page.get_by_text(f'mlflow.pyfunc.load_model("runs:/{run.run_id}/policy")').wait_for()


def test_the_report_draws_without_errors_or_network(home, page):
    path = home.folder / "report" / "report.html"
    page.goto(path.as_uri())
    figures = {"curves": "path", "final": "path", "map": "title", "credit": "image"}
    for name, drawn in figures.items():
        page.locator(f"#grid2x2-{name} svg {drawn}").first.wait_for(state="attached")
    assert page.locator("#grid2x2-map svg title").count() == 4
    assert "veh·s per episode" in page.locator("#grid2x2-map svg title").first.text_content()
    assert page.wrong == []
    assert [url for url in page.asked if not url.startswith(("data:", "blob:"))] == [path.as_uri()]


@pytest.mark.parametrize(("width", "height", "scheme"), [(1280, 800, "light"), (390, 844, "dark")])
def test_the_first_screen_has_the_answer_and_nothing_is_wider_than_the_screen(home, new_page, width, height, scheme):
    page = new_page(width, height, color_scheme=scheme, java_script_enabled=scheme == "light")
    page.goto((home.folder / "report" / "report.html").as_uri())
    for part in (".lead", ".overview"):
        box = page.locator(part).bounding_box()
        assert box["y"] + box["height"] <= height
    for opened in page.locator("details").all():
        opened.locator("summary").first.click()
    body = page.locator("body").bounding_box()
    boxes = [panel.bounding_box() for panel in page.locator("main > *, figure, .panels svg").all()]
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in [body, *filter(None, boxes)])
    assert page.locator("svg:not([aria-label])").count() == 0
    links = page.locator("nav a").count()
    assert page.locator("a, button, input, summary, [tabindex]").count() <= links + 4
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        assert (np.asarray(picture.convert("L")).mean() < 128) == (scheme == "dark")
