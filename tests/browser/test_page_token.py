"""A service that wants a token: the page asks for it, keeps it in its tab and out of every link."""

import pytest
from browser_driver import Page, Service, watched

TOKEN = "a-token-for-tests-0123456789-abcdefghij"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, service):
    started = Service(tmp_path_factory.mktemp("guarded"), LATENCY_PREDICTOR_TOKEN=TOKEN)
    yield started
    started.stop()


@pytest.fixture
def page(browser, guarded):
    yield from watched(browser, guarded.url)


def test_the_page_asks_for_a_token_and_goes_on(page: Page):
    page.open("#model=ofa:ks%3D3%2Ce%3D3%2Cd%3D2&device=jetson", ready=False)
    assert "have a token" in page.shown("#token-form")
    assert page.focused() == "token"
    page.press("a-wrong-one", "ENTER")
    page.until("return document.getElementById('token-why').textContent.includes('not take')")
    assert page.one("#token").get_attribute("aria-invalid") == "true"
    assert page.focused() == "token"
    page.press(TOKEN, "ENTER")
    page.answer("on NVIDIA Jetson Orin Nano 8GB")
    assert not page.one("#token-form").is_displayed()
    assert TOKEN not in page.js("return location.href")
    assert page.js("return Object.values(sessionStorage)") == [TOKEN]
    assert page.js("return Object.values(localStorage)") == []
    assert page.one("#token").get_attribute("value") == ""
    # Kept in this tab: asked once.
    page.driver.refresh()
    page.answer("on NVIDIA Jetson Orin Nano 8GB")
    assert not page.one("#token-form").is_displayed()


def test_a_search_sends_the_token_too(page: Page):
    page.open("#view=search&space=ofa&signal=params&device=jetson&trials=5", ready=False)
    page.shown("#token-form")
    page.press(TOKEN, "ENTER")
    page.until("return document.body.dataset.ready === 'true'")
    page.click("#start")
    page.shown("#front-title")
