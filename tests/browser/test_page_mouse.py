"""The page by mouse: choose, predict, look, sort, open, compare."""

import pytest

import predictor
from predictor.report.units import digits, milliseconds, percent

MODEL = "ofa:ks=7,e=6,d=4"
JETSON = "jetson-orin-nano"


@pytest.fixture(scope="module")
def expected():
    return predictor.predict(MODEL, device=JETSON)


def test_choose_a_model_and_a_device_and_see_the_numbers(page, expected):
    page.open()
    page.shown("#examples button")
    page.click(f"#examples button[title='{MODEL}']")
    assert page.one("#model").get_attribute("value") == MODEL
    page.choose(JETSON)
    page.click("#predict")
    page.answer(f"{MODEL} on NVIDIA Jetson Orin Nano 8GB")
    low, high = expected.interval_ms
    unit = milliseconds(expected.latency_ms).split()[1]
    assert page.texts(".hero > div > :last-child") == [
        milliseconds(expected.latency_ms),
        f"{milliseconds(low, unit).split()[0]} to {milliseconds(high, unit)}",
        f"{digits(expected.throughput_fps)} frames/s",
    ]
    rows = page.all("section:has(#profile) tbody")
    assert len(rows) == len(expected.kernels)
    first = [
        cell
        for cell in page.texts("section:has(#profile) tbody:first-of-type tr:first-child > *")
        if cell
    ]
    assert first[1].startswith(expected.kernels[0].name)
    assert first[2].startswith(f"{milliseconds(expected.kernels[0].latency_ms)} ")
    assert len(page.all("#profile rect")) == len(expected.kernels)
    page.said(milliseconds(expected.latency_ms))
    for share in filter(None, expected.sources.values()):
        assert percent(share) in page.text("#answer section")
    for note in expected.notes:
        assert note in page.text("#answer")


def test_the_budget_is_judged_in_words(page, expected):
    for budget, words in ((2 * expected.interval_ms[1], "so is the whole interval"),
                          (expected.latency_ms * 1.05, "Within budget, not surely"),
                          (expected.interval_ms[0] / 2, "Over budget")):  # fmt: skip
        page.open(f"#model={MODEL}&device={JETSON}&budget={budget:.3f}")
        page.answer(MODEL)
        assert words in page.text(".verdict")


def test_columns_sort_both_ways(page, expected):
    page.open(f"#model={MODEL}&device={JETSON}")
    page.answer(MODEL)
    title = "//section[h2='Layers']//th/button[.='{}']"

    def column(place):
        return page.texts(f"section:has(#profile) tbody > tr:first-child > :nth-child({place})")

    page.driver.find_element("xpath", title.format("Latency")).click()
    slowest = sorted((kernel.latency_ms for kernel in expected.kernels), reverse=True)
    assert column(3)[0].startswith(f"{milliseconds(slowest[0])} ")
    assert page.texts("section:has(#profile) th[aria-sort=descending] button") == ["Latency"]
    page.driver.find_element("xpath", title.format("Latency")).click()
    assert column(3)[-1].startswith(f"{milliseconds(slowest[0])} ")
    page.said("Sorted by Latency, ascending")
    page.driver.find_element("xpath", title.format("Kernel")).click()
    names = [text.removesuffix(" fused").rstrip("0123456789 ") for text in column(2)]
    assert names[0] == min(names)
    page.driver.find_element("xpath", title.format("#")).click()
    assert column(1) == [str(n + 1) for n in range(len(expected.kernels))]


def test_a_fused_group_opens_and_moves_with_its_row(page, expected):
    page.open(f"#model={MODEL}&device={JETSON}")
    page.answer(MODEL)
    fused = next(kernel for kernel in expected.kernels if len(kernel.ops) > 1)
    opener = page.all("#answer button.open")[0]
    assert opener.get_attribute("aria-expanded") == "false"
    opener.click()
    assert opener.get_attribute("aria-expanded") == "true"
    assert page.texts("tr.inside li") == list(fused.ops)
    page.driver.find_element("xpath", "//section[h2='Layers']//th/button[.='Latency']").click()
    assert page.js("return document.querySelector('tr.inside').previousElementSibling.textContent"
                   ).startswith(str(expected.kernels.index(fused) + 1))  # fmt: skip
    page.js("arguments[0].scrollIntoView({block: 'center'})", opener)
    opener.click()
    assert not page.all("tr.inside")


def test_the_roofline_has_a_mark_for_each_kernel_that_computes(page, expected):
    page.open(f"#model={MODEL}&device={JETSON}")
    page.answer(MODEL)
    points = [k for k in expected.kernels if k.flops + k.elementwise_flops and k.bytes]
    page.until("return document.querySelectorAll('#roofline path.dot').length === arguments[0]",
               len(points))  # fmt: skip
    words = page.texts("#roofline desc")[0]
    roof = expected.roof
    under = sum((k.flops + k.elementwise_flops) / k.bytes < roof["peak_flops"] / roof["bandwidth"]
                for k in points)  # fmt: skip
    assert f"{under} of {len(points)} kernels lie under the slope" in words
    page.click("section:has(#roofline) details summary")
    shown = page.texts("section:has(#roofline) tbody th")
    assert len(shown) == min(100, len(points))


def test_several_devices_are_compared_and_one_is_opened(page):
    devices = [JETSON, "rtx-4090", "raspberry-pi-4"]
    page.open()
    page.write("#model", MODEL)
    for name in devices:
        page.choose(name)
    page.write("#budget", "20")
    page.click("#predict")
    page.answer(f"{MODEL} on 3 devices")
    expected = sorted((predictor.predict(MODEL, device=name) for name in devices),
                      key=lambda estimate: estimate.latency_ms)  # fmt: skip
    table = "section[aria-labelledby=compare-title] tbody"
    assert page.texts(f"{table} th") == [estimate.device_title for estimate in expected]
    for shown, estimate in zip(page.texts(f"{table} td:nth-child(2)"), expected, strict=True):
        assert shown.startswith(f"{milliseconds(estimate.latency_ms)} ")
    assert len(page.all(f"{table} .bar .whisker")) == 3
    assert page.texts(f"{table} td:nth-child(5)") == [
        "met" if estimate.interval_ms[1] <= 20 else "OVER" for estimate in expected
    ]
    page.until("return document.getElementById('result-title').textContent.includes(arguments[0])",
               expected[0].device_title)  # fmt: skip
    page.click(f"{table}:last-of-type th button")
    assert expected[-1].device_title in page.text("#result-title")
    assert page.all(f"{table} button[aria-pressed=true]")[0].text == expected[-1].device_title
    page.said(f"Below: {MODEL} on {expected[-1].device_title}")


def test_two_devices_are_compared_kernel_by_kernel(page):
    from predictor.report.comparison import align

    page.open(f"#model={MODEL}&device={JETSON}&device=rtx-4090")
    page.answer(f"{MODEL} on 2 devices")
    pairs = align(*(predictor.predict(MODEL, device=name) for name in (JETSON, "rtx-4090")))
    most = max(abs(pair.difference_ms) for pair in pairs)
    page.click("#pairs summary")
    rows = page.all("#pairs tbody")
    assert len(rows) == 15
    assert milliseconds(most) in rows[0].text
    page.click("#pairs .below button")
    assert len(page.all("#pairs tbody")) == len(pairs)


def test_settings_change_the_answer(page):
    page.open()
    page.write("#model", MODEL)
    page.choose(JETSON)
    page.js("document.getElementById('target').value = 'tensorrt/fp32'")
    page.js("document.getElementById('power_mode').value = '7W'")
    page.write("#batch", "4")
    page.write("#resolution", "192")
    page.click("#predict")
    page.answer(MODEL)
    chips = page.texts("#answer .chip-line li")
    assert {"fp32", "batch 4", "power mode 7W"} <= set(chips)
    page.write("#batch", "0")
    page.click("#predict")
    assert "Batch: wants a whole number from 1." in page.shown("#settings-error")
    assert page.focused() == "batch"


def test_what_is_missing_is_said_where_it_is_missing(page):
    page.open()
    page.click("#predict")
    assert "Choose a model first" in page.shown("#model-error")
    assert page.focused() == "model"
    page.write("#model", "torchvision:resnet18")
    assert not page.one("#model-error").is_displayed()
    page.click("#predict")
    assert "Choose a device first" in page.shown("#device-error")
    assert page.focused() == "device-find"
    page.write("#model", "torchvison:resnet18")
    page.choose(JETSON)
    page.click("#predict")
    assert "torchvison" in page.shown("#model-error")
    assert page.one("#model").get_attribute("aria-invalid") == "true"


def test_a_network_of_a_thousand_kernels_is_quick(page):
    page.open("#model=decoder:llama-3-8b&device=a100&phase=decode&context=2048")
    page.answer("on NVIDIA A100")
    assert "tokens/s" in page.text(".hero")
    layers = "section:has(#profile) tbody"
    assert len(page.all(layers)) == 300
    took = page.js(
        "const more = [...document.querySelectorAll('#answer .below button')]"
        ".find(b => b.textContent.startsWith('Show all'));"
        "const began = performance.now(); more.click();"
        "document.querySelectorAll('section:has(#profile) th button')[2].click();"
        "document.body.offsetHeight; return performance.now() - began"
    )
    assert len(page.all(layers)) > 1000
    assert took < 10_000  # a second, and patience for a busy machine
