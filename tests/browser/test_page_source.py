"""The page's files by themselves, without a browser: what its policy and its reader need of them."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "predictor" / "service" / "page"
FILES = sorted(path for path in PAGE.iterdir() if path.is_file())
INDEX = (PAGE / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_is_read_as_html_and_nothing_comes_from_elsewhere(path):
    text = path.read_text(encoding="utf-8")
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(",
                 "new Function", "new EventSource", "@import"):  # fmt: skip
        assert word not in text
    places = set(re.findall(r"https?://[^\s'\"`)]+", text))
    assert places <= {"http://www.w3.org/2000/svg"}
    assert text.count("\n") <= 400


def test_the_document_has_nothing_inline():
    """The policy would stop it, and the page would be broken."""
    assert not re.search(r"\sstyle=|\son[a-z]+=|<style|javascript:", INDEX)
    assert all(src.startswith("page/") for src in re.findall(r'<script[^>]*\ssrc="([^"]*)"', INDEX))
    assert len(re.findall("<script", INDEX)) == len(re.findall(r"<script[^>]*></script>", INDEX))


def test_modules_are_fetched_side_by_side():
    """Else each would wait for the one that imports it."""
    ahead = set(re.findall('<link rel="modulepreload" href="page/([^"]+)">', INDEX))
    assert ahead == {path.name for path in FILES if path.suffix == ".js"} - {"app.js", "theme.js"}


def test_every_file_is_used():
    named = set(re.findall(r'(?:src|rel="stylesheet" href)="page/([^"]+)"', INDEX))
    for path in FILES:
        named |= set(re.findall(r'from "\./([^"]+)"', path.read_text(encoding="utf-8")))
    assert named == {path.name for path in FILES} - {"index.html"}
