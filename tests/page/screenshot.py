#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Takes the picture of the page for the README. tools/page_test.sh --screenshot FILE runs it.

    tests/page/screenshot.py FILE.png
"""

import os
import sys

from playwright.sync_api import expect, sync_playwright

from mock_server import MockServer

FINALS = (
    "Good evening, and welcome to the council meeting of the twelfth of May.",
    "The first item on the agenda is the new bicycle lane on Bridge Street.",
    "Councillor Ahmed, you have the floor.",
)
PARTIAL = "Thank you, chair. I would like to begin with the numbers that"


def main(file):
    server = MockServer("Town council")
    server.final(*FINALS)
    server.partial(PARTIAL)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM") or None)
        page = browser.new_page(viewport={"width": 960, "height": 540})
        page.goto(f"{server.url}?theme=dark")
        expect(page.locator("#partial .text")).to_have_text(PARTIAL)
        expect(page.locator("#partial")).to_be_in_viewport()
        page.screenshot(path=file)
        browser.close()
    server.stop()


if __name__ == "__main__":
    main(sys.argv[1])
