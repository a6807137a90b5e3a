"""The front as people see it: table, CSV and page; and what a front is."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser

import golden_files
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.front import Limit, SearchResult, State, Trial, pareto
from predictor.report import front, front_page
from predictor.report import html as estimate_page
from predictor.report.layout import Style

HOSTILE = "</script><script>alert('x')</script><!--\x1b[31m\"&\u2028=1"


def trial(number: int, state: State = State.COMPLETE, accuracy: float | None = None, *,
          ms: float = 5.0, key: str = "", on_front: bool = False, **more) -> Trial:  # fmt: skip
    figures = {"macs": 2.5e7 * ms, "flops": 5e7 * ms, "params": 3e5 + 1e4 * number,
               "model_mb": 1.5, "memory_mb": 80.0, "latency_ms jetson": ms,
               "low_ms jetson": 0.8 * ms, "high_ms jetson": 1.3 * ms,
               "latency_ms raspberry-pi-4": 14 * ms, "low_ms raspberry-pi-4": 12 * ms,
               "high_ms raspberry-pi-4": 19 * ms}  # fmt: skip
    key = key or f"width={16 + number},depth={number % 4},act=relu"
    values = {"width": 16 + number, "depth": number % 4, "act": "relu", "ratio": 0.25, "se": True}
    return Trial(number, key, values, state, accuracy, figures, on_front=on_front, **more)


def small(**more) -> SearchResult:
    over = {"latency_ms jetson": 0.25, "params": 0.02}
    trials = (
        trial(0, accuracy=71.253, ms=4.0, on_front=True),
        trial(1, accuracy=70.0, ms=6.0),
        trial(2, State.OVER_BUDGET, ms=12.5, violations=over),
        trial(3, State.FAILED, ms=3.0, error="RuntimeError: loss is nan, line 3"),
        trial(4, accuracy=74.5, ms=9.0, on_front=True),
        trial(5, State.PRUNED, ms=8.0),
        trial(6, accuracy=76.0, ms=12.0, violations={"latency_ms jetson": 0.2}),
        Trial(7, "unpriced", {"width": 3}, State.RUNNING),
    )  # fmt: skip
    given_ = {
        "space": "mine", "signal": "callable train.py:score", "sampler": "nsga2", "seed": 7,
        "devices": ("jetson", "raspberry-pi-4"),
        "limits": (Limit("latency_ms", 10, "jetson"), Limit("params", 1.5e6)),
        "objectives": ("accuracy", "latency_ms jetson"), "trials": trials, "unit": "%",
        "seconds": 83.4, "notes": ("2 trials were not told apart by the signal",),
    }  # fmt: skip
    return SearchResult(**{**given_, **more})


def large(count: int, seed: int = 1) -> SearchResult:
    """Many trials, a part over the limits, of which some are scored all the same."""
    chance = random.Random(seed)
    trials = []
    for number in range(count):
        ms = 1.5 + 12 * chance.random() ** 1.3
        accuracy = round(78 - 22 / (ms + 0.6) - abs(chance.gauss(0, 2.5)), 3)
        over = {"latency_ms jetson": ms / 10 - 1} if ms > 10 else {}
        state = State.OVER_BUDGET if over else State.COMPLETE
        if not over and chance.random() < 0.08:
            state = chance.choice((State.FAILED, State.PRUNED))
        if over and chance.random() < 0.4:
            state = State.COMPLETE
        scored = accuracy if state is State.COMPLETE else None
        trials.append(trial(number, state, scored, ms=ms, violations=over,
                            error="RuntimeError: no" if state is State.FAILED else ""))  # fmt: skip
    good = [t for t in trials if t.feasible and t.accuracy is not None]
    best = {good[i].number for i in
            pareto([(-(t.accuracy or 0), t.figures["latency_ms jetson"]) for t in good])}  # fmt: skip
    marked = [Trial(t.number, t.key, t.values, t.state, t.accuracy, t.figures, t.violations,
                    t.number in best, t.error) for t in trials]  # fmt: skip
    return small(trials=tuple(marked))


# -- what a front is --------------------------------------------------------------------------------

_points = st.integers(1, 3).flatmap(
    lambda size: st.lists(st.tuples(*[st.integers(-4, 4).map(float)] * size), max_size=40)
)


def _beats(one, other) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


@given(_points)
def test_no_point_of_a_front_is_beaten_and_all_others_are(points) -> None:
    kept = pareto(points)
    assert kept == sorted(set(kept))
    front_points = [points[i] for i in kept]
    assert len(set(front_points)) == len(front_points)
    for point in front_points:
        assert not any(_beats(other, point) for other in points)
    for index, point in enumerate(points):
        if index not in kept:
            assert any(_beats(best, point) for best in front_points) or point in front_points
            assert point not in front_points or points.index(point) in kept  # of equals the first


@given(_points, st.randoms())
def test_a_front_does_not_depend_on_the_order(points, chance) -> None:
    mixed = list(points)
    chance.shuffle(mixed)
    assert {points[i] for i in pareto(points)} == {mixed[i] for i in pareto(mixed)}


# -- table and CSV --------------------------------------------------------------------------------


def test_the_table_of_a_small_search() -> None:
    golden_files.check("front_table", front.table(small()))
    golden_files.check("front_table_narrow", front.table(small(), style=Style(width=70)))


def test_the_csv_of_a_small_search() -> None:
    golden_files.check("front_csv", front.csv_text(small()))


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_lines_fit_the_terminal(width) -> None:
    result = large(40)
    wide = [trial(90, accuracy=99.0, ms=1.0, key="x" * 300, on_front=True), *result.trials]
    text = front.table(small(trials=tuple(wide), devices=("jetson",)), style=Style(width=width))
    assert max(map(len, text.splitlines())) <= width


def test_the_table_lists_as_many_as_asked() -> None:
    result = large(400)
    count = len(result.front)
    assert count > 4
    assert f"(3 of {count})" in front.table(result, top=3)
    assert " of " not in front.table(result, top=0).partition("first")[2]
    plain = front.table(result, style=Style(unicode=False))
    assert plain.isascii()


@pytest.mark.parametrize(
    ("trials", "words"),
    [
        ((), "No trial yet."),
        ((trial(0, State.FAILED),), "no trial within all limits was scored"),
        ((trial(0, State.OVER_BUDGET, violations={"latency_ms jetson": 0.5}),
          trial(1, State.OVER_BUDGET, violations={"latency_ms jetson": 0.031, "macs": 0.02})),
         "The nearest is trial 1, latency on jetson 3.1 % over, MACs 2.0 % over"),
    ],
)  # fmt: skip
def test_without_a_front_it_is_said_why(trials, words) -> None:
    result = small(trials=trials)
    assert words in " ".join(front.table(result).split())
    page = Page(front.html(result))
    assert not page.open


def test_a_csv_is_no_place_for_formulas() -> None:
    bad = ("=cmd|' /C calc'!A0", "+1", "-2+3", "@SUM(A1)", "\t=1", " =1", "|x", "a,b\n\"c\"")  # fmt: skip
    trials = tuple(trial(i, State.FAILED, key=text, error=text) for i, text in enumerate(bad))
    rows = list(csv.DictReader(io.StringIO(front.csv_text(small(trials=trials)))))
    assert len(rows) == len(bad)
    for row in rows:
        for cell in (row["key"], row["error"]):
            assert not cell.lstrip().startswith(("=", "+", "-", "@", "\t", "\r", "|"))
    assert [row["number"] for row in rows] == [str(i) for i in range(len(bad))]


def test_the_csv_gives_numbers_back() -> None:
    result = large(50)
    rows = list(csv.DictReader(io.StringIO(front.csv_text(result))))
    for row, one in zip(rows, result.trials, strict=True):
        assert row["key"] == one.key
        assert (row["accuracy"] == "") == (one.accuracy is None)
        assert float(row["latency_ms jetson"]) == one.figures["latency_ms jetson"]
        assert (row["feasible"], row["on_front"]) == tuple(
            "yes" if flag else "no" for flag in (one.feasible, one.on_front)
        )


# -- the page -------------------------------------------------------------------------------------

_VOID = {"meta", "br", "input"}


class Page(HTMLParser):
    """Collects tags and texts, and checks that tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def data(self):
        """What the script reads."""
        return json.loads(self.scripts[0])

    def ids(self) -> list[str]:
        return [attrs["id"] or "" for _, attrs in self.tags if "id" in attrs]


def test_the_page_is_well_formed_and_complete() -> None:
    page = Page(front.html(small()))
    assert not page.open
    text = " ".join(page.words)
    for word in ("Search in mine", "74.50 %", "9.00 ms", "limit: latency on jetson 10.0 ms",
                 "sampler nsga2", "seed 7", "2 trials were not told apart"):  # fmt: skip
        assert word in text
    assert len(page.ids()) == len(set(page.ids()))
    data = page.data
    assert len(data["trials"]) == 8
    assert data["parameters"] == ["width", "depth", "act", "ratio", "se"]
    first = data["trials"][0]
    assert first[:6] == [0, "width=16,depth=0,act=relu", "complete", 1, 1, 71.253]
    assert first[7] == [16, 0, "relu", 0.25, True]
    assert data["trials"][2][8] == "latency on jetson 25 % over, parameters 2.0 % over"
    assert data["trials"][7][6] == [None] * len(data["figures"])


def test_the_script_finds_all_that_it_asks_for() -> None:
    page = Page(front.html(small()))
    asked = set(re.findall(r'\$\("([a-z-]+)"\)', page.scripts[1])) | {"data"}
    assert asked <= set(page.ids())
    classes = set(re.findall(r'class: "([a-z -]+)"', page.scripts[1]))
    style = front.html(small()).partition("</style>")[0]
    for word in {word for text in classes for word in text.split()}:
        assert f".{word}" in style, word


def test_every_latency_can_be_on_the_axis() -> None:
    data = Page(front.html(small())).data
    names = [data["figures"][i]["name"] for i in data["axes"]["x"]]
    assert names[:2] == ["latency_ms jetson", "latency_ms raspberry-pi-4"]
    assert {"macs", "params"} < set(names)
    assert data["axes"]["y"] == -1
    upper = small(limits=(Limit("latency_ms", 10, "jetson", upper=True),))
    data = Page(front.html(upper)).data
    assert "high_ms jetson" in [data["figures"][i]["name"] for i in data["axes"]["x"]]


def test_a_search_without_accuracy_draws_its_second_objective() -> None:
    result = small(objectives=("latency_ms jetson", "params"),
                   trials=tuple(trial(i, ms=3.0 + i, on_front=i == 0) for i in range(4)))  # fmt: skip
    data = Page(front.html(result)).data
    assert data["figures"][data["axes"]["x"][0]]["name"] == "latency_ms jetson"
    assert data["figures"][data["axes"]["y"]]["name"] == "params"


def test_nothing_is_fetched() -> None:
    text = front.html(large(30))
    assert front_page.POLICY == estimate_page._POLICY
    assert f'http-equiv="Content-Security-Policy" content="{front_page.POLICY}"' in text
    harmless = text.replace("http://www.w3.org/2000/svg", "")  # a name, not an address
    assert not re.search(r"https?:|src\s*=|@import|url\(|<link|<img|<iframe|fetch\(", harmless)
    assert not re.search(r"innerHTML|insertAdjacent|document\.write|eval\(", text)


def test_untrusted_texts_are_escaped() -> None:
    bad = Trial(0, HOSTILE, {HOSTILE: HOSTILE}, State.FAILED, 1.0, {f"latency_ms {HOSTILE}": 1.0},
                {f"latency_ms {HOSTILE}": 0.5}, True, HOSTILE)  # fmt: skip
    result = small(
        space=HOSTILE, signal=HOSTILE, sampler=HOSTILE, devices=(HOSTILE,), unit=HOSTILE,
        limits=(Limit("latency_ms", 1.0, HOSTILE),), objectives=("accuracy", f"latency_ms {HOSTILE}"),
        trials=(bad,), notes=(HOSTILE,),
    )  # fmt: skip
    text = front.html(result)
    page = Page(text)
    assert not page.open
    assert sum(tag == "script" for tag, _ in page.tags) == 2
    assert "<script>alert" not in text
    assert "\x1b" not in text + front.table(result)
    assert "\u2028" not in text
    assert page.data["trials"][0][1].startswith("</script>")
    assert front.table(result).isprintable() or "\n" in front.table(result)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e300, 5e-324])
def test_odd_numbers_do_not_break_the_page(value) -> None:
    result = small(
        trials=(trial(0, accuracy=value, ms=value, on_front=True), trial(1, accuracy=1.0))
    )
    assert not Page(front.html(result)).open
    front.table(result)
    front.csv_text(result)


def test_thousands_of_trials_stay_light() -> None:
    text = front.html(large(5000))
    assert len(text) < 2_500_000
    page = Page(text)
    assert len(page.data["trials"]) == 5000
    assert sum(tag == "tr" for tag, _ in page.tags) <= 201


@settings(max_examples=40)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=4))
def test_any_text_survives(texts) -> None:
    trials = tuple(trial(i, accuracy=float(i), key=text or "k", on_front=True, error=text)
                   for i, text in enumerate(texts))  # fmt: skip
    result = small(trials=trials, notes=tuple(texts))
    text = front.html(result)
    text.encode("utf-8")
    assert len(Page(text).data["trials"]) == len(texts)
    front.table(result).encode("utf-8")
    assert len(list(csv.reader(io.StringIO(front.csv_text(result))))) == len(texts) + 1


DRIVE = """<script>
const get = (id) => document.getElementById(id), out = [];
const note = (name, value) => out.push([name, value]);
const key = (word) => get("plot").dispatchEvent(new KeyboardEvent("keydown", {key: word, bubbles: true, cancelable: true}));
const rows = () => [...document.querySelectorAll("#trials tbody tr")];
note("start", [rows().length, document.querySelector("#view h3").textContent, get("say").textContent]);
get("plot").focus();
key("Home"); note("home", get("say").textContent);
key("ArrowUp"); note("up", get("say").textContent);
get("axis").selectedIndex = 1; get("axis").dispatchEvent(new Event("change"));
note("axis", [get("plot").getAttribute("aria-label"), document.querySelectorAll("#plot .limit").length]);
document.querySelectorAll("#trials th button")[2].click();
note("sorted", [rows()[0].cells[0].textContent, document.querySelectorAll("#trials th")[2].getAttribute("aria-sort")]);
get("show").value = "no"; get("show").dispatchEvent(new Event("change"));
note("over", [rows().length, get("found").textContent]);
rows()[0].click(); note("picked", [document.querySelector("#view .missed").textContent, document.querySelectorAll(".chosen").length]);
get("show").value = "all"; get("find").value = "WIDTH=19,"; get("find").dispatchEvent(new Event("input"));
note("found", rows().map((row) => row.cells[0].textContent));
document.body.dataset.out = JSON.stringify(out);
</script></body>"""


@pytest.mark.skipif(
    not shutil.which("chromium"), reason="the page is driven in a browser: chromium"
)
def test_the_page_in_a_browser(tmp_path) -> None:
    path = tmp_path / "front.html"
    path.write_text(front.html(small()).replace("</body>", DRIVE), encoding="utf-8")
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
         f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r'data-out="([^"]*)"', done.stdout)
    assert found, done.stderr[-500:]
    out = dict(json.loads(unescape(found[1])))
    assert out["start"] == [8, "Trial 4", ""]
    assert out["home"] == "Trial 3, failed: accuracy –, latency on jetson 3.00 ms"
    assert out["up"].startswith("Trial 0, complete, on the front: accuracy 71.25 %")
    assert out["axis"] == ["accuracy, % over latency on raspberry-pi-4", 0]
    assert out["sorted"] == ["3", "ascending"]
    assert out["over"] == [2, "2 of 8"]
    assert out["picked"][0].startswith("latency on jetson 20 % over")
    assert out["picked"][1] == 1
    assert out["found"] == ["3"]
