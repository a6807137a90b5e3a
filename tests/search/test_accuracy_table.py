"""Accuracies out of a table: found by key, and damage named by its line."""

import gzip
import time

import pytest
from accuracy_nets import tiny

from predictor.errors import ConfigError
from predictor.search.accuracy import find, makers
from predictor.search.candidate import Candidate, SignalError
from predictor.search.spaces.nasbench201 import NasBench201

KEY = "width=4,depth=1,act=relu"


def written(path, text):
    path.write_text(text)
    return f"table:{path}"


def quoted(key, *cells):
    return ",".join([f'"{key}"', *map(str, cells)]) + "\n"


@pytest.mark.parametrize("column", ["key", "model", "arch"])
def test_a_key_is_found(tmp_path, column):
    spec = written(tmp_path / "t.csv", f'other,{column},accuracy\n1,"{KEY}",91.5\n')
    signal = find(spec)
    assert signal.score(tiny()) == 91.5
    assert signal.name == "table:t.csv"
    with pytest.raises(SignalError, match=r"width=8.*not among the 1 architectures of .*t\.csv"):
        signal.score(tiny(width=8))


def test_gzip_and_another_column(tmp_path):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(f'key,top1,top5\n"{KEY}",70,90\n'.encode()))
    assert find(f"table:{path}", column="top5").score(tiny()) == 90
    with pytest.raises(ConfigError, match="one column accuracy is needed"):
        find(f"table:{path}")


def test_keys_are_compared_as_the_space_writes_them(tmp_path):
    space = NasBench201()
    cell = "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
    spec = written(tmp_path / "t.csv", f"arch,accuracy\n {cell},80\n")
    signal = find(spec, canonical=lambda key: space.key(space.values(key)))
    assert signal.score(Candidate(space, space.values(cell))) == 80
    bad = written(tmp_path / "bad.csv", f"arch,accuracy\n{cell},80\n|nought~0|,1\n")
    with pytest.raises(ConfigError, match=r"bad\.csv:3: "):
        find(bad, canonical=lambda key: space.key(space.values(key)))


@pytest.mark.parametrize(
    ("rows", "line", "said"),
    [
        ("a,90\nb\n", 3, "1 cells where the header has 2"),
        ("a,90\nb,high\n", 3, "'high' is no finite number"),
        ("a,nan\n", 2, "'nan' is no finite number"),
        ("a,90\nb,91\na,92\n", 4, "'a' has 92 here and 90 in line 2"),
        ('a,90\n"b"x,91\n', 3, "no CSV row"),
    ],
)
def test_a_damaged_row_is_named(tmp_path, rows, line, said):
    with pytest.raises(ConfigError, match=rf"t\.csv:{line}: .*{said}"):
        find(written(tmp_path / "t.csv", "key,accuracy\n" + rows))


def test_missing_files_empty_tables_and_bad_gzip(tmp_path):
    with pytest.raises(ConfigError, match="no rows"):
        find(written(tmp_path / "table.csv", "key,accuracy\n"))
    with pytest.raises(ConfigError, match=r"no file .*tabel\.csv\. Did you mean"):
        find(f"table:{tmp_path / 'tabel.csv'}")
    (tmp_path / "t.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(ConfigError, match="cannot be read"):
        find(f"table:{tmp_path / 't.csv.gz'}")


def test_a_long_table_is_read_in_seconds(tmp_path):
    rows = "".join(f"k{i},{i % 100}\n" for i in range(200_000))
    spec = written(tmp_path / "t.csv", "key,accuracy\n" + rows)
    start = time.process_time()
    assert len(find(spec)) == 200_000
    assert time.process_time() - start < 4


def test_unknown_signals_name_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'naswot'"):
        find("naswott")
    with pytest.raises(ConfigError, match=r"Did you mean 'table:acc\.csv'"):
        find("acc.csv")
    with pytest.raises(ConfigError, match=r"Did you mean 'train\.py:evaluate'"):
        find("train.py")
    with pytest.raises(ConfigError, match="--evaluation-time"):
        find("params", seconds=0)


def test_every_signal_has_a_name_a_unit_and_a_text():
    for name in set(makers()) - {"table:", "python:"}:
        signal = find(name)
        assert signal.name in (name, "ensemble")
        assert signal.unit == ("%" if name == "digits" else "")
        assert type(signal).__doc__
