"""Chunks answered by the workers of a Dask scheduler, on this machine or on others."""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType
from typing import Any

from predictor.batching.jobs import Answered, Chunk, Job, answer_chunk, fail_chunk
from predictor.batching.spreading import PATIENCE_S, Promise
from predictor.errors import ConfigError, MeasurementError, MissingExtra, PredictorError

CONNECT_S = 10.0
"""Seconds that a scheduler has to answer."""
WORKERS_S = 60.0
"""Seconds that the first worker may take to come."""
COUNTED_S = 5.0
"""Seconds between two counts of the workers."""


def version() -> str:
    """The version of this package where the function runs."""
    import predictor

    return predictor.__version__


class Machines:
    """The workers of the scheduler at ``address``, such as ``tcp://10.0.0.5:8786``.

    Raises:
        MissingExtra: ``distributed`` is not installed.
        ConfigError: the text is no address.
        MeasurementError: nobody answers there, no worker comes, or workers lack this package.
    """

    def __init__(self, job: Job, address: str) -> None:
        try:
            import distributed
        except ImportError:
            raise MissingExtra("--scheduler needs Dask: pip install 'latency-predictor[dask]'"
                               ) from None  # fmt: skip
        self.job, self.address = job, address
        self._log = logging.getLogger("distributed")
        self._level = self._log.level
        self._log.setLevel(logging.CRITICAL)  # what it would say is said here, once
        try:
            client: Any = distributed.Client
            self._client = client(address, timeout=CONNECT_S, set_as_default=False)
        except Exception as error:
            self._log.setLevel(self._level)
            raise _unmet(address, error) from None
        self._threads = 0
        self._counted = 0.0
        try:
            self._meet()
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> Machines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._close()

    def _close(self) -> None:
        try:
            self._client.close(timeout=2)
        except Exception as error:  # it goes away anyway, whatever is wrong with it
            self._log.debug("closing: %s", error)
        self._log.setLevel(self._level)

    def _meet(self) -> None:
        """Wait for a worker, and see that all have this package in this version."""
        try:
            self._client.wait_for_workers(1, timeout=WORKERS_S)
            found = self._client.run(version)
            self._count()
        except TimeoutError:
            raise MeasurementError(
                f"{self.address}: no worker came within {WORKERS_S:.0f} s. Start some with: "
                f"dask worker {self.address}"
            ) from None
        except Exception as error:
            raise self._told(error) from None
        for worker, theirs in sorted(found.items()):
            if theirs != version():
                raise MeasurementError(
                    f"{self.address}: the worker {worker} has latency-predictor {theirs}, and this "
                    f"is {version()}; install the same version everywhere"
                )

    @property
    def width(self) -> int:
        """One chunk for each thread of the workers, and one that waits for it."""
        return max(2, 2 * self._threads)

    def submit(self, chunk: Chunk, wake: threading.Event) -> Promise:
        """Have a chunk answered by whichever worker is free."""
        try:
            future = self._client.submit(answer_chunk, self.job, chunk, PATIENCE_S, pure=False)
        except Exception as error:
            raise self._told(error) from None
        future.add_done_callback(lambda _: wake.set())
        return _Promise(self, chunk, future)

    def look(self) -> None:
        """Count the workers now and then.

        Raises:
            MeasurementError: the scheduler is gone.
        """
        if self._client.status != "running":
            raise self.gone()
        if time.monotonic() - self._counted > COUNTED_S:
            try:
                self._count()
            except Exception as error:
                raise self._told(error) from None

    def _count(self) -> None:
        self._threads = sum(self._client.nthreads().values())
        self._counted = time.monotonic()

    def gone(self) -> MeasurementError:
        """What to say of a scheduler that went away."""
        return MeasurementError(
            f"{self.address}: the Dask scheduler is gone. What was answered is written; start the "
            "scheduler and its workers, and go on with --resume"
        )

    def _told(self, error: Exception) -> PredictorError:
        from distributed.comm.core import CommClosedError

        if isinstance(error, PredictorError):
            return error
        if isinstance(error, ModuleNotFoundError):
            return MeasurementError(
                f"{self.address}: a worker lacks the package '{error.name or error}'; install "
                "latency-predictor in the same version on every worker"
            )
        if isinstance(error, CommClosedError | OSError) or self._client.status != "running":
            return self.gone()
        return MeasurementError(f"{self.address}: {_cause(error)}")

    def answered(self, chunk: Chunk, future: Any) -> Answered:
        """What came of a chunk. Raises MeasurementError where the crew is lost."""
        from concurrent.futures import CancelledError

        from distributed import KilledWorker

        try:
            found: Answered = future.result()
        except KilledWorker:
            return fail_chunk(self.job, chunk, "every worker that predicted this part of the table "
                              "was lost; a process that is killed has often taken too much memory",
                              MeasurementError.exit_code)  # fmt: skip
        except CancelledError:
            raise self.gone() from None
        except Exception as error:
            raise self._told(error) from None
        return found


class _Promise:
    """A chunk at a worker."""

    def __init__(self, crew: Machines, chunk: Chunk, future: Any) -> None:
        self._crew, self._chunk, self._future = crew, chunk, future

    def done(self) -> bool:
        """Whether the answer is there."""
        return bool(self._future.done())

    def result(self) -> Answered:
        """The answer."""
        return self._crew.answered(self._chunk, self._future)


def _unmet(address: str, error: Exception) -> PredictorError:
    """What to say where a client could not be made for a scheduler."""
    if isinstance(error, OSError | TimeoutError):
        return MeasurementError(
            f"{address}: no Dask scheduler answers there ({_cause(error)}). Start one with: "
            "dask scheduler"
        )
    if isinstance(error, ValueError):
        return ConfigError(f"--scheduler {address}: {_cause(error)}; use tcp://HOST:PORT")
    # Such as an assertion of Dask's, where its thread has not begun within 10 s.
    return MeasurementError(
        f"{address}: the Dask client did not start ({_cause(error)}). This machine may be too "
        "busy for now; the same command starts anew"
    )


def _cause(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
