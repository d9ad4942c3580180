# SPDX-License-Identifier: MIT OR Apache-2.0
"""Settings in the address and in the panel."""

import pytest
from playwright.sync_api import expect

DEFAULTS = {
    "theme": "auto",
    "background": "solid",
    "font": "sans",
    "align": "start",
    "lines": "all",
    "partials": "1",
    "uppercase": "0",
    "times": "0",
    "controls": "1",
}


def applied(page):
    return page.evaluate("({ ...document.documentElement.dataset })")


def style(page, selector, name):
    return page.locator(selector).first.evaluate("(node, name) => getComputedStyle(node)[name]", name)


def test_defaults(open_page):
    assert applied(open_page()) == DEFAULTS


@pytest.mark.parametrize(
    "bad",
    [
        "size=0", "size=1e3", "size=-50", "size=999999", "size=", "size=12px",
        "theme=pink", "theme=constructor", "theme=DARK", "background=url(x)", "background=red",
        'font=x"; color: red', "font=url(//x)", "font=" + "a" * 61, "align=left", "lines=-1", "lines=51", "lines=1.5",
        "partials=2", "partials=yes", "uppercase=toString", "times=", "controls=constructor", "lang=%3Cb%3E", "lang=english!",
        "unknown=1", "__proto__=1", "size=%E0%A4%A", "&&&==",
    ],
)  # fmt: skip
def test_bad_values_fall_back(open_page, bad):
    page = open_page(f"?{bad}")
    assert applied(page) == DEFAULTS
    assert page.evaluate("document.documentElement.style.cssText") == "--lines: 0; --scale: 1;"
    assert page.locator("#log").get_attribute("lang") == ""


def test_the_first_of_repeated_values_counts_and_one_bad_value_spoils_no_other(open_page):
    page = open_page("?theme=light&theme=dark&size=huge&align=end")
    assert applied(page) == {**DEFAULTS, "theme": "light", "align": "end"}


@pytest.mark.parametrize("preferred", ["dark", "light"])
@pytest.mark.parametrize("theme", ["auto", "dark", "light"])
def test_themes(open_page, page, preferred, theme):
    page.emulate_media(color_scheme=preferred)
    open_page(f"?theme={theme}")
    dark = (preferred if theme == "auto" else theme) == "dark"
    assert style(page, "body", "backgroundColor") == ("rgb(10, 12, 16)" if dark else "rgb(255, 255, 255)")
    assert style(page, "body", "color") == ("rgb(255, 255, 255)" if dark else "rgb(14, 17, 22)")


def test_size_font_case_alignment_language_and_times(open_page, server):
    page = open_page()
    plain = float(style(page, "#view", "fontSize").removesuffix("px"))
    assert plain >= 28
    page = open_page("?size=200&font=mono&uppercase=1&align=center&lang=de-CH&times=1")
    server.final("hello", "world")
    server.partial("again")
    expect(page.locator("#log .time")).to_have_text(["0:00", "0:02"])
    expect(page.locator("#partial .time")).to_be_visible()
    assert float(style(page, "#view", "fontSize").removesuffix("px")) == pytest.approx(2 * plain, abs=0.1)
    assert "monospace" in style(page, "#log .text", "fontFamily")
    assert style(page, "#log .text", "textTransform") == "uppercase"
    assert style(page, "#log .caption", "textAlign") == "center"
    assert page.locator("#log").get_attribute("lang") == page.locator("#partial").get_attribute("lang") == "de-CH"
    # For screen readers and copies, the text is what was sent.
    assert page.locator("#log .text").first.evaluate("node => node.textContent") == "hello"


def test_a_font_of_the_machine(open_page):
    page = open_page("?font=DejaVu%20Serif")
    assert style(page, "#log", "fontFamily") == '"DejaVu Serif", sans-serif'


def test_hours(open_page, server):
    page = open_page("?times=1")
    server.utterance = 1830
    server.final("late")
    expect(page.locator("#log .time")).to_have_text("1:01:00")


def test_without_partials(open_page, server):
    page = open_page("?partials=0")
    server.partial("not shown")
    server.final("shown")
    expect(page.locator("#log .text")).to_have_text("shown")
    expect(page.locator("#partial")).to_be_hidden()


@pytest.mark.parametrize("lines", [1, 2, 3])
def test_lines_on_screen(open_page, server, lines):
    """The last lines are in view, whole, and what is above is not."""
    page = open_page(f"?lines={lines}&partials=0")
    server.final(*(f"line {number}" for number in range(9)))
    expect(page.locator("#log .text").last).to_have_text("line 8")
    page.wait_for_timeout(100)
    for number in range(9):
        line = expect(page.locator("#log > *").nth(number))
        if number >= 9 - lines:
            line.to_be_in_viewport(ratio=0.99)
        else:
            line.not_to_be_in_viewport()
    assert page.locator("#view").get_attribute("tabindex") == "-1"


@pytest.mark.parametrize("background", ["transparent", "box"])
@pytest.mark.parametrize("preferred", ["dark", "light"])
def test_a_browser_source_of_obs(open_page, page, server, background, preferred):
    page.emulate_media(color_scheme=preferred)
    open_page(f"?background={background}&controls=0&lines=2")
    server.final("over a video")
    expect(page.locator("#log .text")).to_be_visible()
    clear = "rgba(0, 0, 0, 0)"
    assert style(page, "html", "backgroundColor") == style(page, "body", "backgroundColor") == clear
    assert style(page, "#log .text", "color") == "rgb(255, 255, 255)"
    for control in ("#open-settings", "#jump"):
        expect(page.locator(control)).to_be_hidden()
    # Only the text is painted: the corners of the picture are empty.
    picture = page.screenshot(omit_background=True)
    assert corners(page, picture) == [0, 0, 0, 0]


def corners(page, png):
    """The opacity of the four corners of a picture, which the browser itself decodes."""
    import base64

    return page.evaluate(
        """async (data) => {
            const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
            const image = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
            const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
            canvas.drawImage(image, 0, 0);
            const [x, y] = [image.width - 1, image.height - 1];
            return [[0, 0], [x, 0], [0, y], [x, y]].map(([x, y]) => canvas.getImageData(x, y, 1, 1).data[3]);
        }""",
        base64.b64encode(png).decode(),
    )


def test_the_panel_changes_page_and_address_and_works_with_the_keyboard(open_page, server, page):
    open_page("?other=1&lang=fr")
    opener = page.locator("#open-settings")
    for _ in range(10):
        page.keyboard.press("Tab")
        if opener.evaluate("node => node === document.activeElement"):
            break
    expect(opener).to_be_focused()
    assert opener.evaluate("node => node.matches(':focus-visible') && getComputedStyle(node).outlineWidth") == "3px"
    page.keyboard.press("Enter")
    panel = page.locator("#settings")
    expect(panel).to_be_visible()

    size = page.get_by_label("Text size")
    expect(size).to_be_focused()
    expect(size).to_have_value("100")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Colors")).to_be_focused()
    page.keyboard.type("L")
    for label in ("Background", "Font", "Alignment", "Lines on screen", "Text that may", "Capitals"):
        page.keyboard.press("Tab")
        expect(page.get_by_label(label)).to_be_focused()
    page.keyboard.press("Space")
    expect(page.locator("html")).to_have_attribute("data-uppercase", "1")
    assert applied(page) == {**DEFAULTS, "theme": "light", "uppercase": "1"}
    assert page.url == f"{server.url}?other=1&lang=fr&size=110&theme=light&uppercase=1"

    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(opener).to_be_focused()
    page.reload()
    assert applied(page) == {**DEFAULTS, "theme": "light", "uppercase": "1"}

    opener.press("Enter")
    page.get_by_role("button", name="Reset").press("Enter")
    assert applied(page) == DEFAULTS
    expect(size).to_have_value("100")
    assert page.url == f"{server.url}?other=1&lang=fr"
    page.get_by_role("button", name="Close").press("Enter")
    expect(panel).to_be_hidden()


def test_nonsense_in_the_panel_falls_back(open_page, page, server):
    open_page("?size=150")
    page.locator("#open-settings").click()
    page.get_by_label("Text size").fill("7")
    page.get_by_label("Font").fill("}")
    assert applied(page) == DEFAULTS
    assert page.url == server.url
