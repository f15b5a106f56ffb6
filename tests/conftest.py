"""What tests of several folders use."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from shutil import which
from typing import Any

import pytest


def pytest_configure() -> None:
    """Take Ctrl-C as usual, which a shell has its background jobs ignore; tests send it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# Not for the whole session: while it runs, its event loop keeps others from starting.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    executable = which("chromium")
    if executable is None:
        pytest.skip("needs chromium: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs pip install playwright")
    # A page that does not answer fails its test; how long it takes is not tested.
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=executable,
            args=[
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser) -> Iterator[Any]:
    """A page of the browser that fails the test if a script or the policy raises an error."""
    page = browser.new_page()
    page.set_default_timeout(120_000)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda m: problems.append(m.text) if "Content Security" in m.text else None)
    yield page
    page.close()
    assert not problems
