"""The HTTP service: routes over workers that predict.

GET  /                        the page
POST /v1/predict              an estimate
POST /v1/count                MACs, parameters, bytes
POST /v1/compare              several estimates side by side
POST /v1/batch                rows, or a CSV table as a stream
GET  /v1/devices[/NAME]       devices with their accuracy cards
GET  /v1/models, /v1/spaces   what can be named
GET, POST /v1/searches        searches; start one
GET, DELETE /v1/searches/ID   also /events, /front, and POST to /cancel
GET  /v1/health, /v1/ready, /v1/metrics, /v1/openapi.json
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from predictor.errors import PredictorError
from predictor.service import openapi, schemas
from predictor.service.bodies import JSON, read_json, read_query, table_query
from predictor.service.files import page_files, send, send_file
from predictor.service.intake import CSV, media_type
from predictor.service.known import answered
from predictor.service.problems import INTERNAL, UNREAD, Refusal, refusal_of
from predictor.service.searches import ENDED, Job, refuse_search
from predictor.service.state import State
from predictor.service.table import Table, spooled
from predictor.service.wire import Reply

BEAT_S = 15.0
"""Seconds of silence until a stream of events says that it lives."""
_CODES = {404: "not_found", 405: "method_not_allowed"}


def make_app(state: State) -> FastAPI:
    """The application over a service's state, without its gate."""
    app = FastAPI(title=openapi.TITLE, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.service = state
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Refusal, _refusal)
    app.add_exception_handler(Exception, _internal)  # told here, and logged by the gate
    _predictions(app, state)
    _names(app, state)
    _searches(app, state)
    _operations(app, state)
    _page(app)
    return app


async def _refused(request: Request, error: Exception) -> Response:
    """What the framework refuses, in our shape."""
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "bad_request")
    said = "no such path; see GET /v1/openapi.json" if code == "not_found" else str(error.detail)
    answer = _failed(request, Reply(error.status_code, code=code, message=said))
    if error.status_code == 405:
        answer.headers["Allow"] = ", ".join(_methods(request))
    return answer


def _methods(request: Request) -> list[str]:
    """Methods of all routes of this path; each route knows only its own."""
    found = set[str]()
    for route in request.app.routes:
        if route.matches({**request.scope, "method": "OPTIONS"})[0] != Match.NONE:
            found |= route.methods or set()
    return sorted(found)


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _failed(request, Reply(error.status, code=error.code, message=error.message,
                                  retry_after_s=error.retry_after_s))  # fmt: skip


async def _internal(request: Request, error: Exception) -> Response:
    return _failed(request, Reply(500, code="internal", message=INTERNAL))


def _failed(request: Request, reply: Reply) -> Response:
    from predictor.service import logs
    from predictor.service.problems import error_body

    request_id = request.scope["state"]["request_id"]
    if reply.trace:
        logs.emit("error", reply.code, request_id=request_id, trace=reply.trace)
    headers = {"Cache-Control": "no-store"}
    if reply.code in UNREAD:
        headers["Connection"] = "close"
    if reply.retry_after_s is not None:
        headers["Retry-After"] = str(reply.retry_after_s)
    return Response(error_body(reply.code, reply.message, request_id), reply.status, headers, JSON)


def _answered(request: Request, reply: Reply, status: int = 200) -> Response:
    return (
        Response(reply.body, status, None, JSON) if reply.status == 200 else _failed(request, reply)
    )


def _get(app: FastAPI, path: str) -> Callable[..., Any]:
    """A route that answers HEAD as well; the server leaves the body out."""
    return app.api_route(path, methods=["GET", "HEAD"])


# -- predictions ----------------------------------------------------------------------------------


def _predictions(app: FastAPI, state: State) -> None:
    async def known(kind: str, request: Request) -> Response:
        reply = await answered(state, kind, request.scope, await request.body())
        return _answered(request, reply)

    @app.post("/v1/predict")
    async def predict(request: Request) -> Response:
        return await known("predict", request)

    @app.post("/v1/count")
    async def count(request: Request) -> Response:
        return await known("count", request)

    @app.post("/v1/compare")
    async def compare(request: Request) -> Response:
        return await known("compare", request)

    @app.post("/v1/batch")
    async def batch(request: Request) -> Response:
        if media_type(request.scope["state"]["headers"]) != CSV:
            return await known("batch", request)
        query = request.scope["query_string"].decode("latin-1")
        table = None
        try:
            table_query(query)  # before the body is read
            table = Table(state.pool, await spooled(request.stream()), query)
            await table.start()
        except (PredictorError, Refusal) as error:
            if table is not None:
                table.file.close()
            raise refusal_of(error) from None
        return StreamingResponse(table.lines(), 200, None, "text/csv; charset=utf-8")


def _names(app: FastAPI, state: State) -> None:
    async def listed(kind: str, request: Request, **said: str) -> Response:
        read_query(request.scope["query_string"].decode("latin-1"), known=())
        reply = await state.named(kind, **said)
        if reply.status != 200:
            return _failed(request, reply)
        return send(request, reply.body, JSON)

    @_get(app, "/v1/devices")
    async def devices(request: Request) -> Response:
        return await listed("devices", request)

    @_get(app, "/v1/devices/{name}")
    async def device(name: str, request: Request) -> Response:
        return await listed("devices", request, name=name)

    @_get(app, "/v1/models")
    async def models(request: Request) -> Response:
        return await listed("models", request)

    @_get(app, "/v1/spaces")
    async def spaces(request: Request) -> Response:
        return await listed("spaces", request)


# -- searches -------------------------------------------------------------------------------------


def _searches(app: FastAPI, state: State) -> None:
    def job_of(name: str, request: Request) -> Job:
        return state.searches.find(name, _owner(request))

    @app.post("/v1/searches")
    async def start(request: Request) -> Response:
        job = state.searches.start(await asked_search(request, state), _owner(request))
        place = {"Location": f"/v1/searches/{job.id}"}
        return Response(_json(job.to_dict()), 202, place, JSON)

    @_get(app, "/v1/searches")
    async def every(request: Request) -> Response:
        jobs = [job.to_dict() for job in state.searches.of(_owner(request))]
        return Response(_json({"searches": jobs}), 200, None, JSON)

    @_get(app, "/v1/searches/{name}")
    async def one(name: str, request: Request) -> Response:
        return Response(_json(job_of(name, request).to_dict()), 200, None, JSON)

    @app.post("/v1/searches/{name}/cancel")
    async def cancel(name: str, request: Request) -> Response:
        job = job_of(name, request)
        await state.searches.cancel(job)
        return Response(_json(job.to_dict()), 200, None, JSON)

    @app.delete("/v1/searches/{name}")
    async def forget(name: str, request: Request) -> Response:
        job = job_of(name, request)
        await state.searches.forget(job)
        return Response(_json(job.to_dict()), 200, None, JSON)

    @_get(app, "/v1/searches/{name}/events")
    async def events(name: str, request: Request) -> Response:
        job, head = job_of(name, request), request.method == "HEAD"
        follow = _events(job, state) if not head else _nothing()
        return StreamingResponse(follow, 200, {"Cache-Control": "no-store"}, "text/event-stream")

    @_get(app, "/v1/searches/{name}/front")
    async def front(name: str, request: Request) -> Response:
        job = job_of(name, request)
        if job.front is None:
            raise Refusal("conflict", "nothing has been found yet" if job.state not in ENDED
                          else f"this search found nothing: {job.message}")  # fmt: skip
        return Response(job.front, 200, None, JSON)


async def asked_search(request: Request, state: State) -> dict[str, Any]:
    """A search that can be started, from a request's JSON.

    Raises:
        Refusal: it is no search, or of something that is not offered.
    """
    if media_type(request.scope["state"]["headers"]) != JSON:
        raise Refusal("unsupported_media_type", f"a search is sent as {JSON}")
    body = await request.body()
    if len(body) > 100_000:
        raise Refusal("body_too_large", "a search is described in less than 100 kB")
    data = read_json(body)
    schemas.check("Search", data)
    try:
        return refuse_search(data, state.settings.limits)
    except PredictorError as error:
        raise refusal_of(error) from None


async def _events(job: Job, state: State) -> AsyncIterator[bytes]:
    """Server-sent events: the job's state whenever it changes, until it has ended."""
    seen = -1
    while True:
        ended = job.state in ENDED or state.stopping.is_set()
        if job.version != seen or ended:
            seen = job.version
            yield b"event: progress\ndata: " + _json(job.to_dict()) + b"\n\n"
        if ended:
            yield b"event: end\ndata: {}\n\n"
            return
        try:
            async with asyncio.timeout(BEAT_S), job.changed:
                await job.changed.wait_for(functools.partial(_news, job, seen, state))
        except TimeoutError:
            yield b": alive\n\n"


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def _news(job: Job, seen: int, state: State) -> bool:
    return job.version != seen or state.stopping.is_set()


def _owner(request: Request) -> str | None:
    token = request.scope["state"].get("token")
    return token.name if token is not None else None


def _json(data: Any) -> bytes:
    import orjson

    return orjson.dumps(data)


# -- operations -----------------------------------------------------------------------------------


def _operations(app: FastAPI, state: State) -> None:
    async def health(request: Request) -> Response:
        return Response(_json({"status": "ok"}), 200, {"Cache-Control": "no-store"}, JSON)

    async def ready(request: Request) -> Response:
        if not state.ready:
            raise Refusal("busy" if not state.stopping.is_set() else "stopping",
                          "the service is not ready", retry_after_s=2)  # fmt: skip
        data = {"status": "ready", "workers": len(state.pool.workers),
                "damaged_profiles": sorted(state.profiles.damaged)}  # fmt: skip
        return Response(_json(data), 200, {"Cache-Control": "no-store"}, JSON)

    async def document(request: Request) -> Response:
        return send(request, state.document, JSON)

    async def metrics(request: Request) -> Response:
        return Response(state.metrics.text(), 200, None, "text/plain; version=0.0.4; charset=utf-8")

    _get(app, "/v1/health")(health)
    _get(app, "/v1/ready")(ready)
    _get(app, "/v1/metrics")(metrics)
    _get(app, "/v1/openapi.json")(document)
    _get(app, "/openapi.json")(document)


def _page(app: FastAPI) -> None:
    files = page_files()

    def sent(name: str, request: Request) -> Response:
        file = files.get(name)
        if file is None:
            raise Refusal("not_found", "no such page")
        return send_file(request, file)

    @_get(app, "/")
    async def index(request: Request) -> Response:
        return sent("index.html", request)

    @_get(app, "/page/{name}")
    async def asset(name: str, request: Request) -> Response:
        return sent(name, request)
