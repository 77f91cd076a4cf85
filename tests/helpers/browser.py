"""A headless Chromium, and pages that remember what went wrong and where they asked."""

import shutil

import pytest

WAIT_MS = 90_000


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no chromium on this machine; install one to test the pages in it")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make install")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def new_page(browser):
    """Return a function that opens a page of a width, with further options of playwright's `new_page`."""
    opened = []

    def open_page(width=1366, height=900, **options):
        page = browser.new_page(viewport={"width": width, "height": height}, **options)
        page.set_default_timeout(WAIT_MS)
        page.wrong, page.asked = [], []
        page.on("console", lambda message: page.wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        opened.append(page)
        return page

    yield open_page
    for page in opened:
        page.close()
