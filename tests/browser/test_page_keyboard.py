"""The page without a mouse: every step by real key events, and the focus never lost."""

import predictor
from predictor.report.units import milliseconds

MODEL = "ofa:ks=3,e=3,d=2"
JETSON = "jetson-orin-nano"


def test_from_the_first_key_to_the_chart(page):
    page.open()
    page.press("TAB")
    assert page.focused() == "skip"
    page.tab_to("#model")
    page.press(MODEL)
    page.tab_to("#device-find")
    page.press("jetson", "ENTER")  # an alias: exactly one device is meant
    page.said("NVIDIA Jetson Orin Nano 8GB chosen")
    page.tab_to("#batch")
    page.press("2")
    page.tab_to("#budget")
    page.press("50")
    page.press("ENTER")  # in any field: the form is sent
    page.answer(f"{MODEL} on NVIDIA Jetson Orin Nano 8GB")
    graph = predictor.Predictor(JETSON)
    config = {"model": MODEL, "batch": 2}
    from predictor.config import Config
    from predictor.frontends.load import load_graph

    expected = graph.estimate(load_graph(MODEL, config=Config.from_dict(config)))
    assert page.text(".hero .value") == milliseconds(expected.latency_ms)
    assert len(page.all("#profile rect")) == len(expected.kernels)
    page.said("Within budget")
    assert page.focused() == "budget"  # an answer takes nobody away from where they type


def test_the_list_of_devices_by_arrows_and_space(page):
    page.open()
    page.tab_to("#device-find")
    page.press("jetson")
    page.press("ARROW_DOWN", "ARROW_DOWN", "SPACE")
    second = page.js("return document.activeElement.value")
    assert page.js("return document.activeElement.checked")
    page.press("ARROW_DOWN", "SPACE", "HOME")
    assert page.js("return document.activeElement === [...document.querySelectorAll("
                   "'#devices input[type=checkbox]')].find(b => b.checkVisibility())")  # fmt: skip
    page.press("ARROW_UP")
    assert page.focused() == "device-find"
    chips = page.all("#devices .chips button")
    assert len(chips) == 2
    page.press("ESCAPE")
    assert page.one("#device-find").get_attribute("value") == ""
    page.tab_to("#devices .chips button")
    page.press("ENTER")  # the first is removed, and the focus goes to the next
    left = page.all("#devices .chips button")
    assert len(left) == 1
    assert page.js("return document.activeElement === arguments[0]", left[0])
    page.press("SPACE")
    assert page.focused() == "device-find"
    assert not page.all("#devices input:checked")
    assert second


def test_one_stop_for_all_boxes(page):
    """Tab does not walk through 150 devices."""
    page.open()
    page.tab_to("#device-find")
    page.press("TAB")
    assert page.js("return document.activeElement.type") == "checkbox"
    page.press("TAB")
    assert page.focused() == "target"


def test_sort_and_open_by_keys(page):
    page.open(f"#model={MODEL}&device={JETSON}")
    page.answer(MODEL)
    page.tab_to("section:has(#profile) th:nth-child(3) button", most=120)
    page.press("ENTER")
    assert page.texts("section:has(#profile) th[aria-sort] button") == ["Latency"]
    page.press("SPACE")
    assert page.all("section:has(#profile) th[aria-sort=ascending]")
    page.tab_to("button.open")
    page.press("ENTER")
    assert page.js("return document.activeElement.getAttribute('aria-expanded')") == "true"
    assert len(page.all("tr.inside li")) > 1
    page.press("SPACE")
    assert not page.all("tr.inside")
    page.tab_to("section:has(#roofline) summary", most=200)
    page.press("ENTER")
    assert page.all("section:has(#roofline) details[open] tbody")


def test_tabs_by_arrows_and_the_skip_link(page):
    page.open()
    page.tab_to("#tab-predict")
    page.press("ARROW_RIGHT")
    assert page.focused() == "tab-search"
    assert page.one("#view-search").is_displayed()
    assert not page.one("#view-predict").is_displayed()
    page.press("HOME")
    assert page.focused() == "tab-predict"
    page.open()
    page.press("TAB", "ENTER")
    assert page.focused() == "answer"
    assert page.js("return location.hash") == ""


def test_where_the_model_comes_from_by_arrows(page):
    page.open()
    page.tab_to("input[name=from]")
    page.press("ARROW_RIGHT")
    assert page.one("#yaml").is_displayed()
    page.tab_to("#yaml-example")
    page.press("ENTER")
    assert page.focused() == "yaml"
    assert "layers:" in page.one("#yaml").get_attribute("value")
    page.tab_to("#device-find")
    page.press("rtx-4090", "ENTER")
    page.tab_to("#predict")
    page.press("SPACE")
    page.answer("small on NVIDIA GeForce RTX 4090")


def test_a_wrong_file_by_keys(page, tmp_path):
    path = tmp_path / "net.yaml"
    path.write_text("model: {layers: [{type: conv3}]}\ninputs: [1, 3, 8, 8]\ndevice: jetson\n")
    page.open()
    page.tab_to("input[name=from]")
    page.press("ARROW_RIGHT", "ARROW_RIGHT")
    page.tab_to("#file")
    page.one("#file").send_keys(str(path))  # what the system's own dialogue would hand over
    page.tab_to("#predict")
    page.press("ENTER")
    assert "net.yaml:1:" in page.shown("#model-error")
    assert page.focused() == "file"
    page.tab_to("#file-edit")
    page.press("ENTER")
    page.until("return document.activeElement.id === 'yaml'")
    page.press("END")
    page.tab_to("input[name=from]:checked")
    page.press("ARROW_LEFT")
    page.tab_to("#model")
    page.press(MODEL)
    page.tab_to("#device-find")
    page.press("jetson", "ENTER")
    page.tab_to("#predict")
    page.press("ENTER")
    page.answer(MODEL)
    assert not page.one("#model-error").is_displayed()


def test_devices_are_compared_by_keys(page):
    page.open()
    page.tab_to("#model")
    page.press(MODEL)
    page.tab_to("#device-find")
    page.press("jetson", "ENTER", *["BACKSPACE"] * 6, "rtx-4090", "ENTER")
    page.tab_to("#predict")
    page.press("ENTER")
    page.answer("on 2 devices")
    page.tab_to("section[aria-labelledby=compare-title] tbody:last-of-type th button", most=120)
    title = page.js("return document.activeElement.textContent")
    page.press("ENTER")
    assert title in page.text("#result-title")
    assert page.focused() == title
