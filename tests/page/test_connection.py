# SPDX-License-Identifier: MIT OR Apache-2.0
"""Connections that are lost, refused, or come back to another session."""

import pytest
from playwright.sync_api import expect

FINALS = "#log .caption .text"
STATUS = "#status"


def test_a_lost_connection_is_resumed_without_loss_or_repetition(open_page, server):
    page = open_page()
    server.final("one", "two")
    server.partial("thr")
    expect(page.locator("#partial .text")).to_have_text("thr")
    server.cut()
    server.final("three")
    server.partial("fo")
    expect(page.locator(FINALS)).to_have_text(["one", "two", "three"])
    expect(page.locator("#partial .text")).to_have_text("fo")
    server.final("four")
    expect(page.locator(FINALS)).to_have_text(["one", "two", "three", "four"])
    expect(page.locator(STATUS)).to_have_text("Live")
    # The id of the last final: one of a later event would skip finals that were lost with the connection.
    assert server.requests_for_events()[-1]["Last-Event-ID"] == f"{server.session}-{server.finals[1][0]}"
    assert page.locator(".session").count() == 0


def test_finals_that_are_sent_twice_are_shown_once(open_page, server):
    page = open_page()
    server.final("one", "two")
    expect(page.locator(FINALS)).to_have_count(2)
    # A server that ignores the id sends all that it has kept.
    for _, event in server.finals:
        server.clients[0].put(event)
    server.final("three")
    expect(page.locator(FINALS)).to_have_text(["one", "two", "three"])


def test_a_restarted_server_begins_a_new_session(open_page, server):
    page = open_page()
    server.final("before")
    expect(page.locator(FINALS)).to_have_text(["before"])
    server.stop()
    expect(page.locator(STATUS)).to_contain_text("lost")
    server.start()
    server.final("after")
    expect(page.locator(FINALS)).to_have_text(["before", "after"])
    expect(page.locator("#log .text")).to_have_text(["before", "— New session —", "after"])
    expect(page.locator(STATUS)).to_have_text("Live")


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
def test_a_refusal_is_shown_and_overcome(open_page, server, page, status):
    server.refusal = (status, "this host is not served: use --serve-host")
    page.goto(server.url)
    expect(page.locator(STATUS)).to_have_attribute("data-state", "refused")
    shown = "A token is needed" if status == 401 else "Refused: this host is not served: use --serve-host"
    expect(page.locator(STATUS)).to_contain_text(shown)
    server.refusal = None
    expect(page.locator(STATUS)).to_have_text("Live")


def test_a_silent_connection_is_given_up(page, server, open_page):
    page.clock.install()
    server.hello = False
    page.goto(server.url)
    expect(page.locator(STATUS)).to_have_text("Connecting")
    while not server.requests_for_events():
        page.wait_for_timeout(20)
    server.hello = True
    page.clock.fast_forward(26_000)
    expect(page.locator(STATUS)).to_contain_text("lost")
    page.clock.fast_forward(11_000)
    expect(page.locator(STATUS)).to_have_text("Live")


def test_pauses_between_tries_grow(page, server):
    page.clock.install()
    server.refusal = (500, "")
    page.goto(server.url)
    expect(page.locator(STATUS)).to_have_attribute("data-state", "refused")
    tries = len(server.requests_for_events())
    # 0.5, 1, 2, 4, 8 and 10 s, of which half may be missing: 13 to 26 s, then 5 to 10 s each.
    for _ in range(120):
        page.clock.run_for(1000)
        page.wait_for_timeout(5)
    assert 14 <= len(server.requests_for_events()) - tries <= 30


def test_a_source_without_sound_yet_is_told(page, server):
    server.state = "starting"
    page.goto(server.url)
    expect(page.locator(STATUS)).to_have_text("Waiting for the first sound")
    server.status("listening")
    expect(page.locator(STATUS)).to_have_text("Live")


def test_captions_without_a_name_have_the_title_of_the_page(open_page, server):
    server.title = "Live captions"
    page = open_page()
    expect(page.locator("#title")).to_have_text("Live captions")
    assert page.title() == "Live captions"


def test_the_end_and_a_lost_source_are_told(open_page, server):
    page = open_page()
    server.status("reconnecting", "the camera is gone")
    expect(page.locator(STATUS)).to_have_text("Waiting for the source: the camera is gone")
    server.status("listening")
    expect(page.locator(STATUS)).to_have_text("Live")
    server.status("ended")
    expect(page.locator(STATUS)).to_have_text("The captions have ended")
    server.refusal = (503, "The captions have ended")
    server.cut()
    page.wait_for_timeout(1500)
    expect(page.locator(STATUS)).to_have_attribute("data-state", "ended")
    server.refusal = None
    server.stop()
    page.wait_for_timeout(1500)
    expect(page.locator(STATUS)).to_have_text("The captions have ended")
    server.start()
    expect(page.locator(STATUS)).to_have_text("Live")


def test_the_token_leaves_the_address_and_survives_a_reload(page, server, context):
    server.token = "s3cret &+"
    page.goto(f"{server.url}?token=s3cret%20%26%2B&size=150")
    expect(page.locator(STATUS)).to_have_text("Live")
    assert page.url == f"{server.url}?size=150"
    page.reload()
    expect(page.locator(STATUS)).to_have_text("Live")
    assert all("token" not in path for path, _ in server.requests if path.startswith("/events"))
    # Another tab needs the address with the token.
    other = context.new_page()
    other.goto(server.url)
    expect(other.locator(STATUS)).to_contain_text("A token is needed")


def test_captions_that_were_kept_are_there_after_a_reload(open_page, server):
    page = open_page()
    server.final("one", "two")
    expect(page.locator(FINALS)).to_have_count(2)
    page.reload()
    expect(page.locator(FINALS)).to_have_text(["one", "two"])
