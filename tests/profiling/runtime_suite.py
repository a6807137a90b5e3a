"""What every runtime must do: subclass :class:`RuntimeSuite` and say how to load a small network."""

import math
import re
import time
from typing import ClassVar

import pytest

from predictor.profiling import protocol
from predictor.profiling.runtimes import Program, ProgramError, Runtime, RuntimeUnavailable, find


class RuntimeSuite:
    """Set ``name``; give ``program()``: (file name, bytes) of a small network of at least two
    operators, ``settings`` and, where operators are not told, ``tells = False``."""

    name = ""
    settings: ClassVar = {"precision": "fp32", "threads": 1, "device": "cpu",
                          "weights_bytes": 1 << 20}  # fmt: skip
    tells = True
    outside = False

    def program(self):
        raise NotImplementedError

    @pytest.fixture
    def runtime(self, tmp_path):
        try:
            made = find(self.name)(dict(self.settings, folder=str(tmp_path)))
        except RuntimeUnavailable as error:
            pytest.skip(str(error))
        assert isinstance(made, Runtime)
        assert made.name == self.name
        return made

    @pytest.fixture
    def loaded(self, runtime):
        name, data = self.program()
        program = runtime.load(name, data)
        assert isinstance(program, Program)
        assert program.outside is self.outside
        yield program
        program.close()

    def test_versions_are_words_with_digits(self, runtime):
        versions = runtime.versions()
        assert versions
        assert all(re.search(r"\d", value) for value in versions.values())

    def test_an_unknown_precision_is_refused_with_what_there_is(self, tmp_path):
        settings = dict(self.settings, precision="int3", folder=str(tmp_path))
        with pytest.raises(RuntimeUnavailable):
            find(self.name)(settings)

    @pytest.mark.parametrize("data", [b"", b"{", b"\x00" * 64, b'{"calls": 3}'])
    def test_a_damaged_program_is_named(self, runtime, data):
        name, _ = self.program()
        with pytest.raises(ProgramError, match=re.escape(name)):
            runtime.load(name, data).run()

    def test_it_runs_and_can_run_again(self, loaded):
        for _ in range(3):
            loaded.run()
        loaded.renew()
        loaded.run()
        assert loaded.ran

    def test_operators_are_named_once_and_timed_in_seconds(self, loaded):
        loaded.run()
        begin = time.perf_counter()
        for _ in range(4):
            loaded.detail_run()
        spent = time.perf_counter() - begin
        names, rows = loaded.details()
        if not self.tells:
            assert names == []
            return
        assert len(names) >= 2
        assert len(rows) == 4
        for row in rows:
            assert len(row) == len(names)
            assert all(math.isfinite(value) and value >= 0 for value in row)
        # A slip of a thousand in the unit would put the sum above the wall clock, or far below it.
        assert 1e-3 * spent < sum(map(sum, rows)) <= spent

    def test_the_protocol_takes_it(self, runtime, loaded):
        limits = {"least_blocks": 6, "most_blocks": 6, "network_s": 5, "details": 2,
                  "moved": 1e9, "preempted": 1.0, "half_width": 1e9}  # fmt: skip
        name, data = self.program()
        bench = protocol.Bench(runtime.load(name, data), limits, True, runtime.evict)
        row = bench.network(loaded, self.tells, lambda: None)
        assert len(row["steady_us"]) == len(row["reference_us"]) == len(row["single_us"]) == 6
        # The reference is the same network, so the ratio is one but for noise.
        assert 0.3 < row["steady_ratio"] < 3
        assert row["first_run_us"] > 0
        assert row["throughput_fps"] > 0
        if self.tells:
            assert len(row["detail_us"]) == len(row["detail_reference_us"]) >= 2
        kernel = bench.kernel(loaded, lambda: None)
        assert len(kernel["hot_us"]) == len(kernel["flushed_us"]) == len(kernel["reference_us"])
