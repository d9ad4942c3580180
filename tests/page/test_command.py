# SPDX-License-Identifier: MIT OR Apache-2.0
"""The page as `nemostt live` itself serves it. A clip plays in real time, 25 seconds."""

import json
import os
import re
import subprocess
import threading
from pathlib import Path

import pytest
from playwright.sync_api import expect

ROOT = Path(__file__).resolve().parents[2]
# The same clip as assets/demo.wav, so that the built-in model writes this text.
CLIP = ROOT / "tests" / "data" / "wav" / "u5_eight_sentences.wav"
TEXTS = json.loads((ROOT / "tests" / "data" / "texts.json").read_text(encoding="utf-8"))
FINALS = "#log .caption .text"
STATUS = "#status"


class Command:
    """A running `nemostt live`."""

    def __init__(self, *arguments, port=0):
        command = [os.environ["NEMOSTT"], "live", str(CLIP), "--serve", f"127.0.0.1:{port}", *arguments]
        env = {name: value for name, value in os.environ.items() if name != "NEMOSTT_MODEL"}
        self.process = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
        )
        self.url, said = None, []
        for line in self.process.stderr:
            said.append(line)
            if found := re.search(r"captions at (http://\S+)", line):
                self.url = found[1]
                break
        assert self.url, "".join(said)
        self.port = int(re.search(r":(\d+)/", self.url)[1])
        # A pipe that nobody reads would stop it.
        for stream in (self.process.stdout, self.process.stderr):
            threading.Thread(target=stream.read, daemon=True).start()

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start():
    """Starts the command, and ends it with the test."""
    commands = []

    def start(*arguments, port=0):
        commands.append(Command(*arguments, port=port))
        return commands[-1]

    yield start
    for command in commands:
        command.kill()


def test_a_clip_is_captioned_to_its_end(page, start):
    command = start()
    page.goto(command.url)
    expect(page.locator(STATUS)).to_have_text("Live")
    expect(page.locator("#title")).to_contain_text(CLIP.name)
    # A partial is there before its final.
    expect(page.locator("#partial .text")).not_to_have_count(0)
    expect(page.locator(FINALS).first).to_be_visible()
    expect(page.locator(STATUS)).to_have_attribute("data-state", "ended", timeout=60_000)
    words = " ".join(page.locator(FINALS).all_text_contents()).split()
    assert words == TEXTS["trained"]["u5_eight_sentences"]["k13"]["rnnt"].split()
    assert command.process.wait(timeout=10) == 0


def test_a_command_that_was_killed_and_started_again(page, start):
    first = start()
    page.goto(first.url)
    expect(page.locator(FINALS).first).to_be_visible(timeout=30_000)
    before = page.locator(FINALS).all_text_contents()
    first.kill()
    expect(page.locator(STATUS)).to_contain_text("lost")
    second = start(port=first.port)
    expect(page.locator(STATUS)).to_have_text("Live", timeout=30_000)
    expect(page.locator(".session")).to_have_count(1)
    # What was said before stays, and the clip begins again.
    expect(page.locator(FINALS)).to_have_count(len(before) + 1, timeout=30_000)
    assert page.locator(FINALS).all_text_contents() == [*before, before[0]]
    assert second.process.poll() is None


def test_a_page_that_comes_later_has_what_was_said(page, context, start):
    command = start()
    page.goto(command.url)
    expect(page.locator(FINALS).nth(1)).to_be_visible(timeout=30_000)
    texts = page.locator(FINALS).all_text_contents()
    later = context.new_page()
    later.goto(f"{command.url}?background=transparent&controls=0&lines=2")
    expect(later.locator(FINALS).nth(len(texts) - 1)).to_have_text(texts[-1])
    assert later.locator(FINALS).all_text_contents()[: len(texts)] == texts


def test_the_token(page, start, errors):
    command = start("--token", "s3cret")
    page.goto(f"{command.url.partition('?')[0]}?token=s3cret")
    expect(page.locator(STATUS)).to_have_text("Live")
    assert page.url == command.url.partition("?")[0]
    page.reload()
    expect(page.locator(STATUS)).to_have_text("Live")
    page.goto(f"{command.url.partition('?')[0]}?token=wrong")
    expect(page.locator(STATUS)).to_contain_text("A token is needed")
