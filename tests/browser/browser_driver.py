"""A service of its own and a headless Chromium that looks at its page, for the tests of the page."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 60
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
         "--window-size=1360,1000", "--lang=en")  # fmt: skip


HIDDEN = ("torchvision", "timm", "transformers")
"""Packages that a service of the tests does without: listing their names imports all of them."""


class Service:
    """``predict-latency serve`` on a free port of loopback."""

    def __init__(self, folder, *options, **environment):
        self.log = folder / "serve.log"
        hidden = "".join(f"sys.modules[{name!r}] = None\n" for name in HIDDEN)
        (folder / "sitecustomize.py").write_text(f"import sys\n{hidden}", encoding="utf-8")
        command = [sys.executable, "-m", "predictor.cli", "serve", "--port", "0", "--workers", "2",
                   "--light", *options]  # fmt: skip
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(
                command, stdout=stream, stderr=subprocess.STDOUT, cwd=ROOT,
                env={**os.environ, "LATENCY_PREDICTOR_HOME": str(folder / "home"),
                     "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [
                         os.environ.get("PYTHONPATH")])]), **environment},
            )  # fmt: skip
        try:
            self.url = f"http://127.0.0.1:{self._port()}/"
            self._until(self._answers)
        except BaseException:
            self.stop()
            raise

    def _port(self):
        return self._until(lambda: next(
            (event["port"] for event in self._events() if event.get("event") == "ready"), None
        ))  # fmt: skip

    def _events(self):
        for line in self.log.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue  # a line that is being written

    def _answers(self):
        try:
            with urllib.request.urlopen(f"{self.url}v1/ready", timeout=5) as answer:
                return answer.status == 200
        except OSError:  # it does not listen yet, or says that it is not ready
            return False

    def _until(self, found):
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            value = found()
            if value:
                return value
            time.sleep(0.05)  # between looks at a log that nothing announces
        raise AssertionError(f"no service:\n{self.log.read_text(encoding='utf-8')[-3000:]}")

    def stop(self):
        """SIGTERM, and whether it ended in good order."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def new_browser():
    """A headless Chromium as Debian packages it; without it, a skip."""
    pytest.importorskip("selenium", reason="tests of the page need selenium")
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("a browser: chromium and chromedriver are not installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service as Driver

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_experimental_option("perfLoggingPrefs", {"enablePage": False})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Driver(driver))


class Page:
    """What a person does with the page: opens, looks, points, types."""

    def __init__(self, driver, url):
        self.driver, self.url = driver, url

    # -- opening ------------------------------------------------------------------------------

    def open(self, fragment="", *, ready=True):
        """The page as one who comes for the first time sees it."""
        self.driver.get("about:blank")
        self.driver.get(self.url + fragment)
        if ready:
            self.until("return document.body.dataset.ready === 'true'")
        return self

    def turn(self, fragment):
        """The same page at another fragment, as by hand in the address; opened if it is not yet."""
        if not self.driver.current_url.startswith(self.url):
            self.open()
        self.js("location.hash = arguments[0]", fragment)

    def media(self, **features):
        """``prefers_color_scheme="dark"`` and the like; none sets all back."""
        values = [{"name": k.replace("_", "-"), "value": v} for k, v in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": values})

    def size(self, width=None, height=900):
        """The size of the window's inside; none sets it back."""
        if width is None:
            self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        else:
            self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
                "width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})  # fmt: skip

    # -- looking ------------------------------------------------------------------------------

    def js(self, script, *values):
        """What a script returns."""
        return self.driver.execute_script(script, *values)

    def until(self, script, *values):
        """Waits until the script returns something true, and returns that."""
        from selenium.common.exceptions import TimeoutException
        from selenium.webdriver.support.ui import WebDriverWait

        try:
            return WebDriverWait(self.driver, WAIT_S, 0.05).until(
                lambda driver: driver.execute_script(script, *values)
            )
        except TimeoutException:
            raise AssertionError(f"never: {script}\n{self.text('body')[-900:]}") from None

    def all(self, css):
        """Elements."""
        return self.driver.find_elements("css selector", css)

    def one(self, css):
        """The element; it must be there."""
        return self.driver.find_element("css selector", css)

    def text(self, css):
        """What the element shows."""
        return self.one(css).text

    def texts(self, css):
        """What all such elements hold, seen or not."""
        return self.js("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)",
                       css)  # fmt: skip

    def shown(self, css):
        """Waits until the element is seen, and returns its text."""
        self.until("const e = document.querySelector(arguments[0]);"
                   "return e && e.checkVisibility()", css)  # fmt: skip
        return self.text(css)

    def said(self, words):
        """Waits until the live region has these words."""
        return self.until("const t = document.getElementById('say').textContent;"
                          "return t.includes(arguments[0]) && t", words)  # fmt: skip

    def answer(self, title):
        """Waits for the result of this title."""
        return self.until(
            "const h = document.querySelector('#result-title, #compare-title');"
            "return document.getElementById('answer').getAttribute('aria-busy') === 'false'"
            " && h && h.textContent.includes(arguments[0]) && h.textContent", title)  # fmt: skip

    def focused(self):
        """The id of what has the focus, or its name for a screen reader, or its text."""
        return self.js("const e = document.activeElement; return e.id || e.getAttribute("
                       "'aria-label') || e.textContent || e.value")  # fmt: skip

    # -- pointing and typing ------------------------------------------------------------------

    def click(self, css):
        """A click by the mouse, with the element in sight."""
        element = self.one(css)
        self.js("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def write(self, css, text):
        """Types into a field what then is all of it."""
        field = self.one(css)
        field.clear()
        field.send_keys(text)

    def press(self, *keys):
        """Keys, wherever the focus is. Names such as ``TAB``, or text."""
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys

        chain = ActionChains(self.driver)
        for key in keys:
            chain.send_keys(getattr(Keys, key) if key.isupper() and len(key) > 1 else key)
        chain.perform()

    def tab_to(self, css, most=80):
        """Tab until the element has the focus."""
        for _ in range(most):
            if self.js("return document.activeElement.matches(arguments[0])", css):
                return
            self.press("TAB")
        raise AssertionError(f"{most} times Tab, and no {css}; at {self.focused()!r}")

    def choose(self, name, prefix="device"):
        """A device: found by typing, ticked by the mouse."""
        self.write(f"#{prefix}-find", name)
        css = f"input[type=checkbox][value='{name}']"
        root = "#devices" if prefix == "device" else "#hunt-devices"
        self.js("document.querySelector(arguments[0]).closest('label')"
                ".scrollIntoView({block: 'center'})", f"{root} {css}")  # fmt: skip
        self.one(f"{root} {css}").click()

    # -- what must never be -------------------------------------------------------------------

    def complaints(self):
        """What the console holds but for answers that a test asked for."""
        return [entry["message"] for entry in self.driver.get_log("browser")
                if entry["level"] in ("SEVERE", "WARNING")
                and "the server responded with a status of 4" not in entry["message"]]  # fmt: skip

    def requested(self):
        """URLs that were asked for since the last look."""
        found = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.append(message["params"]["request"]["url"])
        return found


def watched(browser, url):
    """A page whose console must stay empty, and which may ask nothing of any other origin."""
    page = Page(browser, url)
    page.requested()
    page.complaints()
    yield page
    page.media()
    page.size()
    assert page.complaints() == []
    allowed = (url, "data:", "blob:", "about:")
    assert [one for one in page.requested() if not one.startswith(allowed)] == []
    page.js("try { localStorage.clear(); sessionStorage.clear() } catch {}")
