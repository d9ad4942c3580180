# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the page makes of captions."""

import pytest
from playwright.sync_api import expect

FINALS = "#log .caption .text"


def test_finals_follow_each_other_and_partials_are_replaced(open_page, server):
    page = open_page()
    server.partial("good")
    expect(page.locator("#partial .text")).to_have_text("good")
    server.partial("good morning")
    expect(page.locator("#partial .text")).to_have_text("good morning")
    server.final("Good morning.", "And welcome.")
    expect(page.locator(FINALS)).to_have_text(["Good morning.", "And welcome."])
    expect(page.locator("#partial .text")).to_have_count(0)


def test_text_is_no_markup(open_page, server, page):
    evil = ["<img src=x onerror=\"document.title='bad'\">", "</span><script>document.title='bad'</script>", "&lt;b&gt; <b>"]
    server.title = "<script>1</script>"
    open_page()
    server.final(*evil)
    server.status("reconnecting", "<b>no</b>")
    server.partial("<i>partial</i>")
    expect(page.locator("#partial .text")).to_have_text("<i>partial</i>")
    expect(page.locator(FINALS)).to_have_text(evil)
    expect(page.locator("#title")).to_have_text("<script>1</script>")
    expect(page.locator("#status")).to_contain_text("<b>no</b>")
    assert page.locator("body :is(img, script, b, i)").count() == 0
    assert "bad" not in page.title()


@pytest.mark.parametrize("data", ["no JSON", "null", "7", '{"final":true}', '{"text":7,"final":true}', "[]"])
def test_malformed_events_are_ignored(open_page, server, data):
    page = open_page()
    for kind in ("caption", "status", "unknown", "constructor"):
        server.send(kind, data)
    server.final("still here")
    expect(page.locator(FINALS)).to_have_text(["still here"])
    expect(page.locator("#status")).to_have_text("Live")


def test_a_late_partial_does_not_come_back(open_page, server):
    page = open_page()
    server.final("one")
    server.utterance -= 1
    server.partial("on")
    server.utterance += 1
    server.final("two")
    expect(page.locator(FINALS)).to_have_text(["one", "two"])
    expect(page.locator("#partial .text")).to_have_count(0)


def test_an_empty_final_only_ends_its_partial(open_page, server):
    page = open_page()
    server.partial("hm")
    expect(page.locator("#partial .text")).to_have_text("hm")
    server.final(" ")
    expect(page.locator("#partial .text")).to_have_count(0)
    expect(page.locator(FINALS)).to_have_count(0)


@pytest.mark.parametrize("settings", ["", "?lines=3", "?times=1&align=center", "?background=box", "?uppercase=1"])
def test_a_final_stands_where_its_partial_stood(open_page, server, settings):
    """Text does not move when a partial begins, and wraps at the same words when it becomes final."""
    page = open_page(settings)
    server.final("A first line.")
    first = page.locator(FINALS).first
    expect(first).to_be_visible()
    page.wait_for_timeout(100)
    before = pytest.approx(first.bounding_box(), abs=0.1)
    server.partial("short")
    expect(page.locator("#partial .text")).to_contain_text("short")
    page.wait_for_timeout(100)
    assert first.bounding_box() == before

    text = "this sentence is long enough that it takes more than a single line on a screen of usual width, and a bit more"
    server.partial(text)
    expect(page.locator("#partial .text")).to_contain_text("bit more")
    partial = words_by_line(page, "#partial .text")
    server.final(text)
    expect(page.locator(FINALS)).to_have_count(2)
    assert words_by_line(page, "#log p:last-child .text") == partial
    assert len(partial) > 1


def words_by_line(page, selector):
    """The left edge and the width of each line of an inline element."""
    return page.locator(selector).evaluate(
        "node => [...node.getClientRects()].map(({ x, width }) => [Math.round(x), Math.round(width)])"
    )


def test_a_partial_is_marked_by_more_than_color(open_page, server):
    page = open_page()
    server.final("final")
    server.partial("partial")
    expect(page.locator("#partial .text")).to_have_text("partial")
    line = "node => getComputedStyle(node).textDecorationLine"
    assert page.locator("#partial .text").evaluate(line) == "underline"
    assert page.locator(FINALS).evaluate(line) == "none"


def test_5000_captions_keep_2000_lines_and_the_end_in_view(open_page, server):
    page = open_page()
    for number in range(5000):
        server.partial(f"number {number}")
        server.final(f"number {number}")
    expect(page.locator(FINALS).last).to_have_text("number 4999", timeout=60_000)
    assert page.locator("#log > *").count() == 2000
    expect(page.locator(FINALS).first).to_have_text("number 3000")
    assert page.locator("body *").count() < 6200
    expect(page.locator("#log > *").last).to_be_in_viewport()
    expect(page.locator("#jump")).to_be_hidden()


def test_a_reader_who_scrolled_up_is_left_there(open_page, server):
    page = open_page()
    server.final(*(f"line {number}" for number in range(60)))
    last = page.locator("#log > *").last
    expect(last).to_contain_text("line 59")
    expect(last).to_be_in_viewport()
    page.locator("#view").focus()
    page.keyboard.press("Home")
    expect(page.locator("#jump")).to_be_visible()
    expect(page.locator("#log > *").first).to_be_in_viewport()
    server.final("news")
    expect(page.locator("#log .text").last).to_have_text("news")
    expect(page.locator("#log > *").first).to_be_in_viewport()
    expect(page.locator("#log > *").last).not_to_be_in_viewport()

    page.keyboard.press("Tab")
    expect(page.locator("#jump")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#log > *").last).to_be_in_viewport()
    expect(page.locator("#jump")).to_be_hidden()
    expect(page.locator("#view")).to_be_focused()
    server.final("more news")
    expect(page.locator("#log > *").last).to_be_in_viewport()
