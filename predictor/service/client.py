"""A client of the service, typed: the same nouns as ``import predictor`` gives.

    from predictor.service.client import Client

    with Client("http://localhost:8000") as client:
        estimate = client.predict("torchvision:resnet50", device="jetson")
        print(estimate.latency_ms, estimate.interval_ms)

Models are names, configs as mappings (``{"layers": [...]}``), or paths of ``.onnx``, ``.pt2`` and
``.yaml`` files, which are sent. Needs httpx: ``pip install 'latency-predictor[service]'``.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from predictor.errors import ConfigError, PredictorError
from predictor.estimate import Estimate
from predictor.front import SearchResult

Model = str | os.PathLike[str] | Mapping[str, Any]
"""A name, a path, or what a config holds under ``model``."""
_FILES = (".onnx", ".pt2", ".yaml", ".yml")
T = TypeVar("T")
ENDED = frozenset({"done", "failed", "cancelled"})


class ServiceError(PredictorError):
    """The service answered with an error, or not at all.

    ``code`` is the service's word for it (``unknown_device``, ``conflict``, ``busy``, ...),
    ``status`` the HTTP status (0: no answer), ``retry_after_s`` when the same request may do.
    """

    exit_code = 5

    def __init__(self, message: str, *, code: str = "unreachable", status: int = 0,
                 request_id: str = "", retry_after_s: float | None = None) -> None:  # fmt: skip
        self.code, self.status, self.request_id = code, status, request_id
        self.retry_after_s = retry_after_s
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a batch on one device; ``error`` says why there is no latency."""

    row: int
    device: str | None
    latency_ms: float | None
    low_ms: float | None
    high_ms: float | None
    error: str


@dataclass(frozen=True, slots=True)
class Job:
    """A search: ``state`` is queued, running, done, failed or cancelled."""

    id: str
    state: str
    space: str
    done: int
    trials: int
    message: str
    code: str
    began: float
    has_front: bool


class Client:
    """A connection to a service.

    Args:
        url: where it listens, such as ``http://localhost:8000``.
        token: the bearer token; None takes ``LATENCY_PREDICTOR_TOKEN`` from the environment.
        timeout_s: longest wait for an answer.
        retries: how often a request is sent again that the service was too busy for.

    Raises:
        ServiceError: from every method, where the service refuses or does not answer.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = 120.0,
                 retries: int = 3) -> None:  # fmt: skip
        try:
            import httpx
        except ImportError:
            from predictor.errors import MissingExtra

            raise MissingExtra("the client needs httpx. Run: pip install "
                               "'latency-predictor[service]'") from None  # fmt: skip
        said = token if token is not None else os.environ.get("LATENCY_PREDICTOR_TOKEN")
        headers = {b"Authorization": f"Bearer {said}".encode()} if said else {}
        self.retries = retries
        self._lost = (httpx.HTTPError, httpx.InvalidURL)
        try:
            self._http = httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=timeout_s)
        except self._lost as error:
            raise ServiceError(f"{url}: {error}") from None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    # -- predictions ----------------------------------------------------------------------------

    def predict(self, model: Model, *, device: str, **settings: Any) -> Estimate:
        """The estimate; ``settings`` are those of a config: runtime, precision, batch, budget..."""
        found = self._models("predict", [model], {"device": device, **settings})
        return _read(Estimate.from_dict, found)

    def count(self, model: Model, *, by: str = "layer", depth: int | None = None,
              **settings: Any) -> dict[str, Any]:  # fmt: skip
        """MACs, FLOPs, parameters and bytes, as ``predict-latency count --json`` prints them."""
        query = {"by": by, **({"depth": str(depth)} if depth is not None else {})}
        return self._models("count", [model], settings, query)

    def compare(self, models: Sequence[Model], *, devices: Sequence[str], **settings: Any
                ) -> list[Estimate]:  # fmt: skip
        """One estimate for each model, device, batch and resolution (``batches``,
        ``resolutions``), in this order."""
        found = self._models("compare", models, {"devices": list(devices), **settings})
        return _read(lambda: [
            Estimate.from_dict({k: v for k, v in one.items() if k != "resolution"})
            for one in found["estimates"]
        ])  # fmt: skip

    def batch(self, rows: Iterable[Mapping[str, Any] | str], *, devices: Sequence[str] = (),
              **settings: Any) -> list[Row]:  # fmt: skip
        """Latencies of rows: names, or mappings with ``model`` and what else they say."""
        plain = [{"model": row} if isinstance(row, str) else dict(row) for row in rows]
        said = {"rows": plain, **({"devices": list(devices)} if devices else {}), **settings}
        found = self._json("POST", "/v1/batch", said)
        return _read(lambda: [Row(**row) for row in found["rows"]])

    # -- what there is --------------------------------------------------------------------------

    def devices(self) -> list[dict[str, Any]]:
        """Every device with its targets and their accuracy cards."""
        found = self._json("GET", "/v1/devices")
        return _read(lambda: list(found["devices"]))

    def models(self) -> dict[str, Any]:
        """Names of models."""
        return self._json("GET", "/v1/models")

    def spaces(self) -> dict[str, Any]:
        """Search spaces, signals and samplers."""
        return self._json("GET", "/v1/spaces")

    def ready(self) -> bool:
        """Whether the service can predict."""
        try:
            self._json("GET", "/v1/ready", retries=0)
        except ServiceError:
            return False
        return True

    # -- searches -------------------------------------------------------------------------------

    def start_search(self, space: str, *, devices: Sequence[str], **settings: Any) -> Job:
        """Start a search; ``settings``: budget, accuracy, trials, sampler, seed, aim, ..."""
        said = {"space": space, "devices": list(devices), **settings}
        return _job(self._json("POST", "/v1/searches", said))

    def search(self, name: str) -> Job:
        """How far the search of that id is."""
        return _job(self._json("GET", f"/v1/searches/{name}"))

    def follow(self, name: str) -> Iterator[Job]:
        """The search whenever something has happened, until it has ended."""
        try:
            with self._http.stream("GET", f"/v1/searches/{name}/events") as answer:
                if answer.status_code != 200:
                    answer.read()
                    raise _error(answer)
                for line in answer.iter_lines():
                    if line.startswith('data: {"id"'):
                        yield _read(lambda data: _job(json.loads(data)),
                                    line.removeprefix("data: "))  # fmt: skip
        except self._lost as error:
            raise ServiceError(f"{self._http.base_url}: {error}") from None

    def front(self, name: str) -> SearchResult:
        """What the search has found so far."""
        return _read(SearchResult.from_dict, self._json("GET", f"/v1/searches/{name}/front"))

    def cancel_search(self, name: str) -> Job:
        """End the search; what it has found stays."""
        return _job(self._json("POST", f"/v1/searches/{name}/cancel"))

    def delete_search(self, name: str) -> Job:
        """End the search and forget what it has found."""
        return _job(self._json("DELETE", f"/v1/searches/{name}"))

    # -- one request ----------------------------------------------------------------------------

    def _models(self, kind: str, models: Sequence[Model], settings: Mapping[str, Any],
                query: Mapping[str, str] | None = None) -> dict[str, Any]:  # fmt: skip
        files = [path for model in models if (path := _file(model)) is not None]
        if files and len(files) < len(models):
            raise ConfigError("files and names cannot be compared in one request; send them apart")
        if not files:
            several = kind == "compare"
            said = {"models": list(models)} if several else {"model": models[0]}
            return self._json("POST", f"/v1/{kind}", {**said, **settings}, query)
        parts: list[tuple[str, tuple[str, bytes]]] = []
        for path in files:
            try:
                parts.append(("file", (path.name, path.read_bytes())))
            except OSError as error:
                raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
        return self._send("POST", f"/v1/{kind}", params=query, files=parts,
                          data={"settings": json.dumps(settings)})  # fmt: skip

    def _json(self, method: str, path: str, data: Mapping[str, Any] | None = None,
              query: Mapping[str, str] | None = None, retries: int | None = None
              ) -> dict[str, Any]:  # fmt: skip
        said = {} if data is None else {"json": data}
        return self._send(method, path, retries, params=query, **said)

    def _send(self, method: str, path: str, retries: int | None = None, **said: Any
              ) -> dict[str, Any]:  # fmt: skip
        left = self.retries if retries is None else retries
        while True:
            try:
                answer = self._http.request(method, path, **said)
            except self._lost as error:
                reason = str(error) or type(error).__name__
                raise ServiceError(f"{self._http.base_url}: {reason}. Is the service running "
                                   "there?") from None  # fmt: skip
            if answer.is_success:
                return _read(_object, answer)
            refused = _error(answer)
            if left <= 0 or refused.code not in ("busy", "worker_lost", "too_many_requests"):
                raise refused
            left -= 1
            time.sleep(min(refused.retry_after_s or 1.0, 30.0))


def _file(model: Model) -> Path | None:
    """The file that a model is, if it is one."""
    if isinstance(model, Mapping):
        return None
    text = os.fspath(model)
    is_path = not isinstance(model, str) or text.lower().endswith(_FILES)
    return Path(text) if is_path else None


def _read(maker: Callable[..., T], *data: Any) -> T:
    """What ``maker`` makes of an answer; raises ServiceError where it is of something else."""
    try:
        return maker(*data)
    except ServiceError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, PredictorError) as error:
        raise ServiceError("this is no answer of the service, or one of another version of it: "
                           f"{type(error).__name__}: {error}") from None  # fmt: skip


def _object(answer: Any) -> dict[str, Any]:
    return dict(answer.json().items())


def _job(data: Mapping[str, Any]) -> Job:
    return _read(lambda: Job(**data))


def _error(answer: Any) -> ServiceError:
    """The error that an answer holds; one of a proxy has another shape."""
    try:
        said = answer.json()["error"]
        code, message, request_id = said["code"], said["message"], said["request_id"]
    except (ValueError, KeyError, TypeError):
        code, message, request_id = "unreachable", f"HTTP {answer.status_code}", ""
    retry = answer.headers.get("retry-after", "")
    return ServiceError(message, code=code, status=answer.status_code, request_id=request_id,
                        retry_after_s=float(retry) if retry.isdigit() else None)  # fmt: skip
