"""A search on the page: from its start to the front, and cancelled on the way."""

import json

JETSON = "jetson-orin-nano"


def front_of(page):
    """What the server itself says of the newest search."""
    return page.driver.execute_async_script(
        "const done = arguments[0];"
        "fetch('v1/searches').then(a => a.json())"
        ".then(all => fetch(`v1/searches/${all.searches[0].id}/front`)).then(a => a.json())"
        ".then(done, error => done(String(error)))"
    )


def test_from_the_start_to_the_front(page):
    page.open()
    page.click("#tab-search")
    page.choose(JETSON, prefix="hunt")
    page.write("#trials", "25")
    page.write("#limit", "3")
    page.click("#start")
    page.shown("#progress")
    assert page.one("#cancel").is_displayed()
    assert not page.one("#start").is_displayed()
    page.shown("#front-title")
    page.said("Search done: 25 trials")
    assert page.one("#start").is_displayed()
    assert not page.one("#progress").is_displayed()
    result = front_of(page)
    front = sorted((t for t in result["trials"] if t["on_front"]), key=lambda t: -t["accuracy"])
    assert f"{len(front)} on the front" in page.text("#front-title")
    assert page.texts("#found tbody th") == [str(trial["number"]) for trial in front]
    assert len(page.all("#scatter path.best")) == len(front)
    scored = [trial for trial in result["trials"] if trial["accuracy"] is not None]
    assert len(page.all("#scatter path[data-trial]")) == len(scored)
    assert page.all("#scatter line.limit")
    assert "limit 3.00 ms" in page.texts("#scatter text.limit-text")
    assert page.js("return location.hash").startswith("#view=search&device=")
    # A network of the front goes on to the other tab, layer by layer.
    page.click("#found tbody button")
    page.answer("on NVIDIA Jetson Orin Nano 8GB")
    assert page.one("#model").get_attribute("value") == f"ofa:{front[0]['key']}"


def test_the_result_is_downloaded(page, tmp_path):
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {
        "behavior": "allow", "downloadPath": str(tmp_path), "eventsEnabled": False})  # fmt: skip
    page.open(f"#view=search&space=ofa&signal=params&device={JETSON}&device=rtx-4090&trials=8")
    page.click("#start")
    page.shown("#front-title")
    page.driver.find_element("xpath", "//div[@id='found']//button[.='Download JSON']").click()
    from selenium.webdriver.support.ui import WebDriverWait

    path = tmp_path / "front.json"
    WebDriverWait(page.driver, 20, 0.1).until(  # it is there before it is whole
        lambda _: path.exists() and path.read_text(encoding="utf-8").endswith("}\n")
    )
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result == front_of(page)
    assert result["devices"] == [JETSON, "rtx-4090"]
    # Latency of the other device on the axis.
    before = page.texts("#scatter title")[0]
    page.js("const s = document.getElementById('front-device'); s.value = 'rtx-4090';"
            "s.dispatchEvent(new Event('change'))")  # fmt: skip
    assert page.texts("#scatter title")[0] != before
    assert "RTX 4090" in page.texts("#scatter title")[0]


def test_cancelled_by_keys_with_what_was_found_until_then(page):
    page.open(f"#view=search&space=ofa&signal=flops&device={JETSON}&trials=2000&sampler=random")
    page.tab_to("#start")
    page.press("ENTER")
    page.shown("#progress")
    assert page.focused() == "cancel"
    page.until("return document.getElementById('bar').value > 0")
    page.press("ENTER")
    page.said("Search cancelled")
    assert page.focused() == "start"
    if page.all("#front-title"):
        assert "cancelled: what was found until then" in page.texts("#found .chip-line li")
        assert 0 < len(front_of(page)["trials"]) < 2000


def test_what_is_missing_or_wrong_is_said(page):
    page.open("#view=search&space=ofa&trials=7")
    page.click("#start")
    assert "Choose a device first" in page.shown("#hunt-error")
    assert page.focused() == "hunt-find"
    page.choose(JETSON, prefix="hunt")
    page.write("#trials", "0")
    page.click("#start")
    assert "Trials: wants a whole number from 1." in page.shown("#hunt-error")
    page.write("#trials", "999999")
    page.click("#start")
    page.until("return document.getElementById('hunt-error').textContent.includes('999999')")
    assert page.focused() == "start"
