"""Links hold the inputs; damaged ones are told, and nothing of them is ever read as HTML."""

import base64

import pytest

MODEL = "ofa:ks=3,e=3,d=2"
JETSON = "jetson-orin-nano"
YAML = """\
model:
  name: linked · ünïcode
  layers:
    - {type: conv2d, out: 8, kernel: 3, stride: 2, padding: 1}
inputs: [1, 3, 64, 64]
"""


def encoded(text):
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def value(page, field):
    return page.one(f"#{field}").get_attribute("value")


def test_a_link_fills_the_form_and_predicts(page):
    page.open(f"#model={MODEL}&device=jetson&runtime=tensorrt&precision=fp32&batch=2&power_mode=7W"
              "&budget=20&scope=call")  # fmt: skip
    page.answer(f"{MODEL} on NVIDIA Jetson Orin Nano 8GB")
    assert value(page, "model") == MODEL
    assert page.texts("#devices .chips button") == ["NVIDIA Jetson Orin Nano 8GB"]
    assert [value(page, f) for f in ("target", "batch", "power_mode", "budget", "scope")] == [
        "tensorrt/fp32", "2", "7W", "20", "call"]  # fmt: skip
    assert {"fp32", "batch 2", "power mode 7W", "a call through Python"} <= set(
        page.texts("#answer .chip-line li"))  # fmt: skip


def test_a_text_travels_in_a_link(page):
    page.open(f"#yaml={encoded(YAML)}&device={JETSON}")
    page.answer("linked · ünïcode on NVIDIA")
    assert value(page, "yaml") == YAML
    page.write("#batch", "3")
    page.click("#predict")
    page.until("return location.hash.includes('batch=3')")
    again = page.js("return location.hash")
    page.open(again)
    page.answer("linked · ünïcode on NVIDIA")
    assert value(page, "yaml") == YAML


def test_the_address_follows_and_back_goes_back(page):
    page.open(f"#model={MODEL}&device={JETSON}")
    page.answer("Orin Nano")
    page.choose(JETSON)  # away with it
    page.choose("rtx-4090")
    page.click("#predict")
    page.answer("RTX 4090")
    assert page.js("return location.hash") == f"#model={MODEL}&device=rtx-4090".replace(
        "=3,", "%3D3%2C").replace("d=2", "d%3D2").replace("%2Ce=3", "%2Ce%3D3")  # fmt: skip
    page.driver.back()
    page.answer("Orin Nano")
    assert page.texts("#devices .chips button") == ["NVIDIA Jetson Orin Nano 8GB"]
    page.driver.forward()
    page.answer("RTX 4090")
    # A damaged one by hand, and back: the notice goes, the answer comes again.
    page.turn("#batch=x")
    page.shown("#notices .notice")
    page.driver.back()
    page.until("return !document.querySelector('#notices .notice')")
    page.answer("RTX 4090")
    assert page.texts("#devices .chips button") == ["NVIDIA GeForce RTX 4090"]


def test_copy_link(page):
    page.driver.execute_cdp_cmd("Browser.grantPermissions", {
        "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"],
        "origin": page.url.rstrip("/")})  # fmt: skip
    page.open()
    page.write("#model", MODEL)
    page.choose(JETSON)
    page.write("#budget", "7.5")
    page.click("#copy-link")
    page.said("Link copied")
    copied = page.driver.execute_async_script(
        "const done = arguments[0]; navigator.clipboard.readText().then(done, done)"
    )
    assert copied.startswith(f"{page.url}#model=ofa:ks%3D3")
    assert copied.endswith(f"&device={JETSON}&budget=7.5")
    page.open(copied.removeprefix(page.url))
    page.answer(MODEL)


def test_a_damaged_link_from_the_start(page):
    page.open("#yaml=%E0%A4%A&device=jetson&" + "x" * 200)
    assert "This link is damaged" in page.shown("#notices .notice")
    assert page.texts("#devices .chips button") == ["NVIDIA Jetson Orin Nano 8GB"]
    page.write("#model", MODEL)
    page.click("#predict")  # the form works on
    page.answer(MODEL)
    assert not page.all("#notices .notice")


@pytest.mark.parametrize(("fragment", "words"), [
    ("#yaml=%21%21%21&device=jetson", "yaml: '!!!' is cut off or damaged"),
    (f"#yaml={encoded(YAML)[:-7]}%&device=jetson", "is cut off or damaged"),
    ("#yaml=_-8&device=jetson", "is cut off or damaged"),  # bytes that are no UTF-8
    ("#model=%E0%A4%A&device=jetson", "model: '%E0%A4%A' is cut off or damaged"),
    (f"#model={MODEL}&device=jetson&batch=-4", "batch: '-4' is no whole number from 1"),
    (f"#model={MODEL}&device=jetson&budget=1e999", "budget: '1e999' is no number above 0"),
    (f"#model={MODEL}&device=toaster", "this server knows no 'toaster'"),
    (f"#model={MODEL}&device=jetson&resolution=0x0", "no resolution"),
    (f"#model={MODEL}&device=jetson&inputs=1x3x", "no shape"),
    ("#answer", "'answer' is no part of a link"),
    ("#__proto__=1&constructor=2", "'__proto__' is no part of a link"),
    ("#<img src=x onerror=document.title=1>", "is no part of a link"),
    ("#device=<img src=x onerror=document.title=1>", "device:"),
    ("#" + "a" * 70_000, "it is too long"),
], ids=range(14))  # fmt: skip
def test_a_damaged_link_is_told(page, fragment, words):
    page.turn(fragment)
    told = page.shown("#notices .notice")
    assert "This link is damaged" in told
    assert words in told
    assert not page.all("main img")
    assert page.driver.title == "predict-latency"
    page.click("#notices button")
    assert not page.all("#notices .notice")


def test_a_link_to_a_device_by_html_in_the_model_is_text(page):
    page.open("#model=%3Cimg%20src=x%20onerror=document.title=1%3E&device=jetson")
    assert "<img src=x" in page.shown("#model-error")
    assert not page.all("main img")
    assert page.driver.title == "predict-latency"


def test_a_link_to_a_search_fills_it_and_waits(page):
    page.open(f"#view=search&space=nasbench201&signal=params&device={JETSON}&trials=7&seed=3"
              "&budget=2.5&aim=front&sampler=random")  # fmt: skip
    page.said("Start it with the button")
    assert page.one("#view-search").is_displayed()
    assert [value(page, f) for f in ("space", "signal", "trials", "seed", "limit", "aim", "sampler")
            ] == ["nasbench201", "params", "7", "3", "2.5", "front", "random"]  # fmt: skip
    assert not page.one("#progress").is_displayed()
    page.open("#view=search&space=atlantis&device=jetson")
    assert "space: this server knows no 'atlantis'" in page.shown("#notices")


def test_a_text_that_is_too_long_is_left_out_and_told(page):
    page.open()
    page.click("label:has(input[name=from][value=yaml])")
    page.js(
        "document.getElementById('yaml').value = arguments[0] + '# filler\\n'.repeat(4000)", YAML
    )
    page.choose(JETSON)
    page.click("#copy-link")
    page.until("return document.querySelector('#link-box .left')")
    assert "too long for a link" in page.text("#link-box .left")
    assert "yaml" not in value(page, "link-text")
