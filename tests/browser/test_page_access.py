"""Whoever looks, listens or has a small screen: names, headings, contrast, focus, width, themes."""

from pathlib import Path

import pytest

AUDIT = (Path(__file__).parent / "page_audit.js").read_text(encoding="utf-8")
ONE = "#model=ofa:ks%3D3%2Ce%3D3%2Cd%3D2&device=jetson&budget=1.5"
SEVERAL = "#model=ofa:ks%3D3%2Ce%3D3%2Cd%3D2&device=jetson&device=rtx-4090&device=pi4&budget=2"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_names_headings_and_contrast(page, theme):
    page.media(prefers_color_scheme=theme)
    page.open()
    page.shown("#examples button")
    assert page.js(AUDIT) == []
    page.open(ONE)
    page.answer("Orin Nano")
    for css in ("details summary", "button.open"):
        for element in page.all(f"#answer {css}")[:4]:
            page.js("arguments[0].click()", element)
    page.js("document.getElementById('more').open = true")
    assert page.js(AUDIT) == []
    page.open(SEVERAL.replace("pi4", "raspberry-pi-4"))
    page.answer("on 3 devices")
    assert page.js(AUDIT) == []
    page.open("#model=&device=toaster&batch=x")
    page.click("#predict")
    page.shown("#model-error")
    assert page.js(AUDIT) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_search_s_tab(page, theme):
    page.media(prefers_color_scheme=theme)
    page.open("#view=search&space=ofa&signal=flops&device=jetson-orin-nano&trials=20&budget=2.2")
    page.click("#start")
    page.shown("#front-title")
    assert page.js(AUDIT) == []


def test_the_audit_sees_what_is_wrong(page):
    page.open()
    page.js(
        "const main = document.querySelector('main');"
        "const bad = (tag, text) => main.appendChild(Object.assign(document.createElement(tag), {textContent: text}));"
        "bad('input', ''); bad('button', ''); bad('h4', 'too deep'); bad('h1', 'another');"
        "bad('p', 'too faint').style.color = 'light-dark(#aaa, #666)'; bad('th', 'no scope')"
    )
    told = "\n".join(page.js(AUDIT))
    for words in ("no label: input", "no name: button", "skips a level: h4", "not one h1", "contrast",
                  "th without scope"):  # fmt: skip
        assert words in told


def ground(page):
    return page.js("return getComputedStyle(document.body).backgroundColor")


def test_the_theme_follows_the_system_until_one_is_chosen(page):
    page.media(prefers_color_scheme="light")
    page.open()
    light = ground(page)
    assert page.text("#theme") == "Dark theme"
    page.media(prefers_color_scheme="dark")
    dark = ground(page)
    assert dark != light
    page.until("return document.getElementById('theme').textContent === 'Light theme'")
    page.click("#theme")
    assert ground(page) == light
    page.driver.refresh()  # kept
    page.until("return document.body.dataset.ready === 'true'")
    assert ground(page) == light
    page.click("#theme")
    assert ground(page) == dark


@pytest.mark.parametrize("fragment", [ONE, SEVERAL, "#view=search&space=ofa&device=jetson"])
def test_nothing_is_wider_than_a_narrow_screen(page, fragment):
    """320 px: a small telephone, or 1280 px at 400 %."""
    page.size(320, 640)
    page.open(fragment.replace("pi4", "raspberry-pi-4"))
    if fragment is not ONE and "search" not in fragment:
        page.answer("on 3 devices")
    elif fragment is ONE:
        page.answer("Orin Nano")
    assert page.js("return document.documentElement.scrollWidth") <= 320
    wide = page.js(
        "return [...document.querySelectorAll('main *')].filter(e => e.checkVisibility()"
        " && !e.closest('.scroll, .list, svg, .unseen, .strip') && e.getBoundingClientRect().right > 321)"
        ".map(e => e.tagName + '.' + e.className)"
    )
    assert wide == []


def test_an_answer_below_the_form_is_gone_to(page):
    page.size(360, 640)
    page.open()
    page.write("#model", "ofa:ks=3,e=3,d=2")
    page.choose("jetson-orin-nano")
    page.click("#predict")
    page.answer("Orin Nano")
    assert page.focused() == "result-title"
    assert abs(page.js("return document.getElementById('answer').getBoundingClientRect().top")) < 40


def test_the_focus_is_seen_on_every_stop(page):
    page.open(ONE)
    page.answer("Orin Nano")
    stops = set()
    for _ in range(45):
        page.press("TAB")
        stop, seen = page.js(
            "const e = document.activeElement, drawn = (x) => x && getComputedStyle(x).outlineStyle !== 'none'"
            " && parseFloat(getComputedStyle(x).outlineWidth) >= 2;"
            "return [e.outerHTML.slice(0, 120), drawn(e) || drawn(e.closest('label')) || drawn(e.nextElementSibling)]"
        )
        assert seen, stop
        stops.add(stop)
    assert len(stops) > 25


def test_less_motion_where_that_is_wanted(page):
    page.media(prefers_reduced_motion="reduce")
    page.open(ONE)
    page.answer("Orin Nano")
    moving = page.js("return [...document.querySelectorAll('*')].filter(e => "
                     "!['0s', ''].includes(getComputedStyle(e).transitionDuration)).length")  # fmt: skip
    assert moving == 0


def test_pictures_have_words(page):
    page.open(ONE)
    page.answer("Orin Nano")
    page.until("return document.querySelectorAll('svg[role=img]').length >= 2")
    for title, words in zip(page.texts("svg[role=img] > title"), page.texts("svg[role=img] > desc"),
                            strict=True):  # fmt: skip
        assert title
        assert "table below holds every" in words


def test_everything_comes_from_the_server_itself(page):
    page.requested()
    page.open(ONE)
    page.answer("Orin Nano")
    page.shown("#examples button")
    asked = [url for url in page.requested() if not url.startswith(("data:", "about:"))]
    assert len(asked) > 20
    assert all(url.startswith(page.url) for url in asked)
    policy = page.js("const r = new XMLHttpRequest(); r.open('GET', '', false); r.send();"
                     "return r.getResponseHeader('content-security-policy')")  # fmt: skip
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_a_server_that_has_no_time_says_when_to_come_again(page):
    page.open()
    page.write("#model", "ofa:ks=3,e=3,d=2")
    page.choose("jetson-orin-nano")
    page.js(
        "window.fetch = async () => new Response(JSON.stringify({error: {code: 'busy', message:"
        "'<b>too many</b> requests wait', request_id: 'r1'}}), {status: 503, headers: {'Retry-After': '7'}})"
    )
    page.click("#predict")
    words = page.shown("#ask-error")
    assert "<b>too many</b> requests wait" in words
    assert "Try again in 7 s." in words
    assert "Request r1." in words
    assert page.focused() == "predict"
    page.js("window.fetch = async () => new Response('<html>bad gateway</html>', {status: 502})")
    page.click("#predict")
    page.until("return document.getElementById('ask-error').textContent.includes('502')")


def test_a_server_that_is_busy_at_the_beginning_is_asked_again(page):
    once = page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": (
        "const real = window.fetch; let times = 0;"
        "window.fetch = (url, ...rest) => url === 'v1/devices' && !times++ ? Promise.resolve("
        "new Response(JSON.stringify({error: {code: 'busy', message: 'not now'}}), {status: 503}))"
        " : real(url, ...rest)")})  # fmt: skip
    try:
        page.open(ONE, ready=False)
        assert "not now" in page.shown("#notices .notice")
        page.driver.find_element("xpath", "//button[.='Try again']").click()
        page.answer("Orin Nano")
        assert not page.all("#notices .notice")
    finally:
        page.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", once)


def test_a_server_that_is_gone_is_told(page):
    page.open()
    page.write("#model", "ofa:ks=3,e=3,d=2")
    page.choose("jetson-orin-nano")
    page.driver.execute_cdp_cmd("Network.enable", {})
    page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", {
        "offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0})  # fmt: skip
    try:
        page.click("#predict")
        assert "cannot be reached" in page.shown("#ask-error")
    finally:
        page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", {
            "offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1})  # fmt: skip
    assert [one for one in page.complaints() if "ERR_INTERNET_DISCONNECTED" not in one] == []
    page.click("#predict")
    page.answer("Orin Nano")
    assert not page.one("#ask-error").is_displayed()
