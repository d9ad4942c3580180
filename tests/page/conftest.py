# SPDX-License-Identifier: MIT OR Apache-2.0
"""A browser, a page, and the server that it shows. A page that logs an error or throws fails its test."""

import os

import pytest
from playwright.sync_api import expect, sync_playwright

from mock_server import MockServer

expect.set_options(timeout=10_000)


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        # Debian's Chromium, or what "playwright install chromium" installed.
        browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM") or None)
        yield browser
        browser.close()


@pytest.fixture
def server():
    server = MockServer()
    yield server
    server.stop()


@pytest.fixture
def errors():
    """What the page logged as errors. A test that expects some clears it."""
    return []


@pytest.fixture
def context(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 720}, color_scheme="dark")
    yield context
    context.close()


@pytest.fixture
def page(context, errors):
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: message.type == "error" and errors.append(f"{message.text} {message.location}"))
    yield page
    # A browser asks for an icon and for connections that are not there: these are no errors of the page.
    ours = [error for error in errors if "favicon.ico" not in error and "/events" not in error]
    assert not ours


@pytest.fixture
def open_page(page, server):
    """Opens the page with these settings, and waits until it is connected."""

    def open_page(parameters=""):
        page.goto(server.url + parameters)
        expect(page.locator("#status")).to_have_text("Live")
        return page

    return open_page
