"""What TensorFlow Lite's ``benchmark_model`` says: its log, and the CSV of its operator profile.

The log states microseconds (``Inference timings in us``), the operator tables milliseconds a call
(``avg ms``) and calls an inference. Older versions have a column ``[start]`` more, the CSV has
commas where the log has tabs, and names with commas in both, so rows are read around the numbers.
Only the table of regular runs in run order counts; those of delegates repeat parts of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from predictor.errors import ConfigError
from predictor.profiling.importers import (
    SLIP,
    Latency,
    Layer,
    Reading,
    fail,
    milliseconds,
    text_of,
)

AGAIN = "run benchmark_model again and let it end"
_NUMBER = r"[-+]?(?:\d[\d.]{0,40}(?:[eE][-+]?\d{1,4})?|nan|inf)"
_SUMMARY = re.compile(
    rf"Inference timings in (\w+): Init: {_NUMBER}, First inference: ({_NUMBER}), "
    rf"Warmup \(avg\): (?:{_NUMBER}|no stats), Inference \(avg\): ({_NUMBER})"
)
_OLD_SUMMARY = re.compile(
    rf"Average inference timings in (\w+): Warmup: ({_NUMBER}), Init: {_NUMBER}, "
    rf"(?:no stats|Inference: ({_NUMBER}))"
)
_COUNT = re.compile(rf"\bcount=(\d{{1,12}})\b(?: first={_NUMBER})? curr={_NUMBER}(.{{0,400}})")
_PAIR = re.compile(rf"\b(\w+)=({_NUMBER})")
RULE = "=" * 10
"""What headings begin and end with, at least."""
_TIMES = (
    rf"(?P<first>{_NUMBER})[\s,]+(?P<average>{_NUMBER})[\s,]+(?P<share>{_NUMBER})%[\s,]+"
    rf"{_NUMBER}%[\s,]+{_NUMBER}[\s,]+(?P<called>\d{{1,12}})[\s,]+(?P<name>\S.*)$"
)
_ROW = re.compile(rf"^(?P<type>\S.{{0,400}}?)[\s,]+{_TIMES}")
_ROW_WITH_START = re.compile(rf"^(?P<type>\S.{{0,400}}?)[\s,]+{_NUMBER}[\s,]+{_TIMES}")
_PREFIX = re.compile(
    r"^(?:\d\d-\d\d \d\d:\d\d:\d\d\.\d+ +\d+ +\d+ )?"
    r"(?:INFO: ?|[VDIWE][ /]tflite\w* *(?:\( *\d+\))?: ?)"
)
DELEGATE = "run by a delegate, which does not name the network's operators"


def is_ours(text: str) -> bool:
    """True where a line of the log, or the heading of an operator table, stands in the text."""
    lines = (_PREFIX.sub("", line) for line in text.splitlines())
    return "nference timings in" in text or any(_heading(line) == "Run Order" for line in lines)


def _heading(line: str) -> str:
    """The words between two rows of ``=``; empty for another line."""
    line = line.strip()
    words = line.strip("=").strip() if line.startswith(RULE) and line.endswith(RULE) else ""
    return words if len(words) <= 80 else ""


def read(data: bytes, file: str) -> Reading:
    """A log or a CSV profile.

    Raises:
        ConfigError: cut, of several runs, or with times that cannot be.
    """
    text = text_of(data, file)
    if not text.strip():
        fail(file, f"the file is empty; {AGAIN}")
    lines = [_PREFIX.sub("", line) for line in text.splitlines()]
    latency = _latency(lines, text.endswith("\n"), file)
    remarks = []
    table = _table(lines, file)
    if latency is None and table is None:
        fail(file, "neither a line 'Inference timings in us' nor a table 'Run Order' of regular "
             f"runs: this is no output of benchmark_model, or it was cut; {AGAIN}")  # fmt: skip
    layers: tuple[Layer, ...] = ()
    if table is not None:
        repeats = _repeats(lines, table, file)
        layers = tuple(_layer(row, repeats) for row in table.rows)
        if latency is not None:
            _check_total(table, latency, file)
            remarks.append("the latency was taken while operators were profiled, which costs time")
    return Reading(file, "tflite", runtime="tflite", latency=latency, layers=layers,
                   remarks=tuple(remarks))  # fmt: skip


# --- the log -------------------------------------------------------------------------------------


def _latency(lines: list[str], ended: bool, file: str) -> Latency | None:
    found = [(number, match) for number, line in enumerate(lines, start=1)
             if (match := _SUMMARY.search(line) or _OLD_SUMMARY.search(line))]  # fmt: skip
    if not found:
        for number, line in enumerate(lines, start=1):
            if "nference timings in" in line:
                fail(file, "this line is not whole, or of a version that is not known; it should "
                     "end with 'Inference (avg): MICROSECONDS'", number)  # fmt: skip
        return None
    if len(found) > 1:
        fail(file, f"a second run (the first is in line {found[0][0]}): give each run its own file",
             found[1][0])  # fmt: skip
    number, match = found[0]
    if number == len(lines) and not ended:
        fail(file, "the last line has no end: the file was cut. If it was not, end it with a new "
             "line", number)  # fmt: skip
    if match[1] != "us":
        fail(file, f"timings in '{match[1]}': only microseconds (us) are known", number)
    if match[3] is None:
        fail(file, f"no inference was timed; {AGAIN}", number)
    first = _ms(match[2], "the first inference", file, number)
    average = _ms(match[3], "Inference (avg)", file, number)
    n, middle = _statistics(lines[: number - 1], average, file)
    return Latency(middle or average, n, middle, first_run_ms=first)


def _ms(text: str, what: str, file: str, line: int) -> float:
    return milliseconds(_number(text, file, line), "us", what, file, line=line)


def _number(text: str, file: str, line: int) -> float:
    try:
        return float(text)
    except ValueError:
        fail(file, f"'{text[:40]}' is no number: the file is damaged; {AGAIN}", line)


def _statistics(lines: list[str], average: float, file: str) -> tuple[int, float | None]:
    """Number of regular runs and their median (newer versions), from the last line of counts."""
    for number in range(len(lines), 0, -1):
        match = _COUNT.search(lines[number - 1])
        if match is None:
            continue
        pairs = dict(_PAIR.findall(match[2]))
        if "avg" in pairs:
            mean = _ms(pairs["avg"], "avg", file, number)
            if not average / 1.05 <= mean <= 1.05 * average:
                fail(file, f"avg={pairs['avg']} us here, and Inference (avg) is {1e3 * average:g} "
                     "us: of different runs, or altered", number)  # fmt: skip
        middle = _ms(pairs["median"], "median", file, number) if "median" in pairs else None
        return int(match[1]), middle
    return 0, None


# --- the operator table --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the table: milliseconds a call, share of the time in percent."""

    line: int
    type: str
    name: str
    average_ms: float
    called: int
    share: float

    @property
    def delegated(self) -> bool:
        """A delegate told of it."""
        return self.name.startswith("Delegate/") or "delegate" in self.type.lower()


@dataclass(frozen=True, slots=True)
class _Table:
    rows: list[_Row]
    end: int
    """Line after the table."""

    @property
    def total_ms(self) -> float:
        """Milliseconds of one inference."""
        return sum(row.average_ms * row.called for row in self.rows)


def _table(lines: list[str], file: str) -> _Table | None:
    """The run-order table of regular runs: not that of the initialisation, nor of delegates."""
    regular = initial = False
    for number, line in enumerate(lines, start=1):
        if "Profiling Info for Benchmark Initialization" in line:
            initial, regular = True, False
        elif "Operator-wise Profiling Info" in line:
            initial, regular = False, True
        if _heading(line) == "Run Order" and (regular or not initial):
            return _rows(lines, number, file)
    if initial and not regular:
        fail(file, f"it ends after the initialisation: no inference was profiled; {AGAIN}")
    return None


def _rows(lines: list[str], heading: int, file: str) -> _Table:
    header = lines[heading].lower() if heading < len(lines) else ""
    if "node type" not in header or "name" not in header:
        fail(file, f"the columns of the table are missing: the file was cut; {AGAIN}", heading + 1)
    if not re.search(r"avg[_ ]ms", header):
        fail(file, "the table has no column 'avg ms': the unit of its times is not known",
             heading + 1)  # fmt: skip
    rows = []
    at = heading + 1
    while at < len(lines) and lines[at].strip():
        rows.append(_row(lines[at], at + 1, "start" in header, file))
        at += 1
    if not rows or at >= len(lines):
        fail(file, f"the table is not whole: the file was cut; {AGAIN}", at)
    table = _Table(_own(rows, at, file), at)
    _check_shares(table, file)
    return table


def _own(rows: list[_Row], line: int, file: str) -> list[_Row]:
    """Rows whose times add up to the whole: versions differ in whether those of a delegate's
    operators stand beside the row of the delegate, which holds them, or instead of it."""
    without = [row for row in rows if not row.name.startswith("Delegate/")]
    whole = [own for own in (rows, without) if abs(sum(row.share for row in own) - 100) <= 1]
    if whole:
        return whole[0]
    total = sum(row.share for row in rows)
    raise ConfigError(f"the operators make up {total:.1f} % of the time: rows are missing or were "
                      f"altered; {AGAIN}", file=file, line=line)  # fmt: skip


def _row(line: str, number: int, has_start: bool, file: str) -> _Row:
    match = (_ROW_WITH_START if has_start else _ROW).match(line.strip())
    if match is None:
        fail(file, "not a row of the table (node type, times, name): the file is cut or damaged; "
             f"{AGAIN}", number)  # fmt: skip
    times = {}
    for key in ("first", "average", "share"):
        value = _number(match[key], file, number)
        times[key] = milliseconds(value, "ms", f"'{key}'", file, line=number, zero=True)
    return _Row(number, match["type"].strip(), match["name"].strip().replace("\t", ","),
                times["average"], int(match["called"]), times["share"])  # fmt: skip


def _check_shares(table: _Table, file: str) -> None:
    total = table.total_ms
    if not total > 0:
        fail(file, f"no operator took any time: nothing was measured; {AGAIN}", table.rows[0].line)
    for row in table.rows:
        own = 100 * row.average_ms * row.called / total
        if max(own, row.share) >= 1 and max(own, row.share) > 2 * min(own, row.share) + 0.5:
            fail(file, f"'{row.name[:80]}' took {own:.2g} % of the time, the table says "
                 f"{row.share:.2g} %: different units, or the file was altered",
                 row.line)  # fmt: skip


def _check_total(table: _Table, latency: Latency, file: str) -> None:
    small, large = sorted((table.total_ms, latency.latency_ms))
    if large > SLIP * small:
        _mixed(table.total_ms, latency.latency_ms, file)


def _mixed(operators_ms: float, whole_ms: float, file: str) -> NoReturn:
    fail(file, f"the operators take {operators_ms:g} ms together, the inference {whole_ms:g} ms: "
         "different units, or of different runs")  # fmt: skip


def _repeats(lines: list[str], table: _Table, file: str) -> int:
    """Inferences behind the table, from the summary line after it."""
    for number in range(table.end, len(lines)):
        if lines[number].startswith("Timings (microseconds)"):
            match = _COUNT.search(lines[number])
            if match is None or not int(match[1]):
                fail(file, "this line should tell the number of inferences, count=N: the file was "
                     f"cut or altered; {AGAIN}", number + 1)  # fmt: skip
            return int(match[1])
    raise ConfigError("no line 'Timings (microseconds): count=N' after the table of operators: the "
                      f"file was cut; {AGAIN}", file=file, line=len(lines))  # fmt: skip


def _layer(row: _Row, repeats: int) -> Layer:
    names = re.sub(r":\d+\Z", "", row.name).strip("[]")
    parts = tuple(part.strip() for part in re.split(r"[;,]", names) if part.strip())
    return Layer(row.name, row.type, row.average_ms * row.called, repeats, None, parts,
                 DELEGATE if row.delegated else "")  # fmt: skip
