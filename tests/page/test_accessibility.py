# SPDX-License-Identifier: MIT OR Apache-2.0
"""Roles, what screen readers are told, and axe-core's rules, those of WCAG AAA included."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

AXE = Path(os.environ["AXE_CORE"]).read_text(encoding="utf-8")
TAGS = ["wcag2a", "wcag2aa", "wcag2aaa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def violations(page):
    # As a developer's console would: the page's policy forbids scripts of others.
    page.evaluate(AXE)
    results = page.evaluate(
        """(tags) => axe.run(document, {
            runOnly: { type: "tag", values: tags },
            rules: { "color-contrast-enhanced": { enabled: true } },
        })""",
        TAGS,
    )
    assert any(rule["id"] == "color-contrast-enhanced" for rule in results["passes"] + results["violations"])
    return [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in results["violations"]]


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("settings", ["?theme=dark", "?theme=light", "?theme=dark&times=1&lines=3", "?background=box&controls=0"])
def test_axe_finds_nothing(open_page, page, server, settings, width):
    page.set_viewport_size({"width": width, "height": 720})
    open_page(settings)
    server.final("The quick brown fox jumps over the lazy dog.", "And so on.")
    server.partial("and so")
    expect(page.locator("#partial .text")).to_contain_text("and so")
    assert violations(page) == []


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_axe_finds_nothing_in_the_panel_and_while_scrolled_up(open_page, page, server, theme):
    open_page(f"?theme={theme}")
    server.final(*(f"line {number}" for number in range(60)))
    expect(page.locator("#log > *").last).to_be_in_viewport()
    page.locator("#view").press("Home")
    expect(page.locator("#jump")).to_be_visible()
    assert violations(page) == []
    page.locator("#open-settings").click()
    assert violations(page) == []


def test_landmarks_and_roles(open_page, page, server):
    server.title = "Council"
    open_page()
    server.final("spoken")
    server.partial("not spoken")
    expect(page.locator("#partial .text")).to_have_text("not spoken")
    expect(page.locator("body")).to_match_aria_snapshot(
        """
        - banner:
          - heading "Council" [level=1]
          - status: Live
          - button "Settings"
        - main:
          - region "Transcript":
            - log "Captions":
              - paragraph: spoken
        """
    )
    # What may still change is not read out.
    assert "not spoken" not in page.locator("body").aria_snapshot()
    assert page.title() == "Council – live captions"
    assert page.locator("html").get_attribute("lang") == "en"


def test_what_was_kept_is_not_read_out_and_what_is_new_is(page, server):
    page.clock.install()
    server.final("old")
    # On a slow line, what was kept takes long to arrive.
    server.state = None
    page.goto(server.url)
    log = page.locator("#log")
    expect(log.locator(".text")).to_have_text("old")
    page.clock.run_for(10_000)
    expect(log).to_have_attribute("aria-live", "off")
    server.status("listening")
    expect(page.locator("#status")).to_have_text("Live")
    page.clock.run_for(1500)
    expect(log).to_have_attribute("aria-live", "polite")
    # Nor does a reconnection silence it.
    server.cut()
    page.clock.run_for(2000)
    server.final("new")
    expect(log.locator(".text")).to_have_text(["old", "new"])
    expect(log).to_have_attribute("aria-live", "polite")


def test_the_connection_is_reported_without_controls(open_page, page, server):
    open_page("?controls=0")
    server.status("reconnecting")
    expect(page.get_by_role("status")).to_have_text("Waiting for the source")
    box = page.locator("header").bounding_box()
    assert box["width"] <= 1 and box["height"] <= 1


def test_nothing_is_animated(open_page, page, server):
    open_page()
    server.final("one", "two")
    expect(page.locator("#log > *")).to_have_count(2)
    assert page.evaluate("document.getAnimations().length") == 0
    durations = "[...document.querySelectorAll('*')].map((node) => getComputedStyle(node).transitionDuration)"
    assert set(page.evaluate(durations)) == {"0s"}
    assert style_of_scrolling(page) == "auto"


def style_of_scrolling(page):
    return page.locator("#view").evaluate("node => getComputedStyle(node).scrollBehavior")


def test_text_twice_as_large_is_not_cut_off(open_page, page, server):
    """WCAG 1.4.10 (reflow) at 320 CSS pixels, with long words."""
    page.set_viewport_size({"width": 320, "height": 600})
    open_page("?size=200")
    server.final("Donaudampfschifffahrtsgesellschaftskapitän and others")
    expect(page.locator("#log .text")).to_be_visible()
    for selector in ("html", "#view"):
        assert page.locator(selector).evaluate("node => node.scrollWidth <= node.clientWidth")
    page.locator("#open-settings").click()
    assert page.locator("#settings").evaluate("node => node.scrollWidth <= node.clientWidth")


def test_direction_follows_the_text(open_page, page, server):
    open_page()
    server.final("שלום עולם", "hello")
    expect(page.locator("#log > *")).to_have_count(2)
    directions = page.locator("#log > *").evaluate_all("nodes => nodes.map((node) => getComputedStyle(node).direction)")
    assert directions == ["rtl", "ltr"]
