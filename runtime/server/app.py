"""The routes, as an ASGI application: ``uvicorn --factory medcompress.runtime.server.app:create``."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from ..errors import MedcompressError
from .answers import Answer, Failure, Health, Info, Ready
from .bodies import MAX_BATCH, announced, drain, files_of, read_body
from .failures import CLIENT_GONE, ClientGone, ServingError, failure_of
from .gate import Gate
from .metrics import CONTENT_TYPE
from .routing import narrow
from .service import Service
from .settings import Settings, from_environment

PAGE = Path(__file__).parent / "page"

_REFERENCE = "#/components/schemas/{name}"
_BINARY = {"type": "string", "format": "binary"}
_EITHER = [{"$ref": _REFERENCE.format(name=name)} for name in ("Answer", "Failure")]
_BATCH = {"type": "array", "items": {"anyOf": _EITHER}}


def create(settings: Settings | None = None) -> Gate:
    """The application; without settings, as the environment says.

    Raises:
        InputError: the settings, a bundle or the token is not usable.
        MachineError: the audit log cannot be written.
    """
    service = Service(settings or from_environment())
    return Gate(_routes(service), service)


def _routes(service: Service) -> FastAPI:
    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.end()

    # The documentation pages take their scripts from another host, and a kiosk is never online.
    app = FastAPI(title="medcompress", version=version("medcompress"), lifespan=life, docs_url=None, redoc_url=None)
    _add_handlers(app)

    @app.get("/health", responses=_responses(_of("Health")))
    async def health() -> Response:
        """Whether the process answers at all."""
        return _json(Health())

    @app.get("/ready", responses={**_responses(_of("Ready")), 503: {"content": _content(_of("Ready"))}})
    async def ready(request: Request) -> Response:
        """Whether a model answers as it must: 503 before the self-test has ended, and with the reason after."""
        found = service.ready
        if not request.scope["state"]["trusted"]:  # the reason may name a folder
            found = Ready(
                found.ready, "" if found.ready else f"the server is not ready: {found.state}", (), found.state
            )
        return _json(found, 200 if found.ready else 503)

    @app.get("/model/info", responses=_responses(_of("Info")))
    async def info() -> Response:
        """What is served, and within which limits."""
        return _json(service.info())

    @app.get("/metrics", responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
    async def metrics() -> Response:
        """Figures in Prometheus's text format."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    @app.post("/predict", responses=_responses(_of("Answer"), *_FAILURES), openapi_extra=_asked("file"))
    async def predict(request: Request) -> Response:
        """Answer for one image: the body is the file, or a form with the field ``file``."""
        (found,) = await _predict(service, request, "file", 1)
        if isinstance(found, Answer):
            return _json(found)
        raise ServingError(found.error.kind, found.error.message, found.error.why, found.preview)

    @app.post("/predict/batch", responses=_responses(_BATCH, *_FAILURES), openapi_extra=_asked("files"))
    async def predict_batch(request: Request) -> Response:
        """Answer for several images: a form with the field ``files``, each answer or failure in its file's place."""
        answers = await _predict(service, request, "files", MAX_BATCH)
        for found in answers:
            if isinstance(found, Failure):
                service.metrics.refusal(found.error.kind)
        return _json(answers)

    app.mount("/page", _Files(directory=PAGE, check_dir=False))
    app.mount("/", _Files(directory=PAGE, html=True, check_dir=False))
    app.openapi = lambda: _openapi(app)
    return app


async def _predict(service: Service, request: Request, field: str, most: int) -> list[Answer | Failure]:
    asked = request.query_params
    models = narrow(service.models, asked.get("model"), asked.get("task"))
    explain, preview = _is_true(asked, "explain"), _is_true(asked, "preview")
    settings = service.settings
    most_bytes = settings.max_body_mib << 20
    try:
        service.check_ready(models)
        # What is refused for its size alone is told so, and needs no room.
        size = announced(request.headers)
        ticket = service.admission.enter(size if size <= most_bytes else 0)
    except ServingError:
        await drain(request.receive, request.headers, most_bytes)
        raise
    try:
        body = await read_body(request.receive, request.headers, ticket, most_bytes, settings.body_s)
        files = files_of(body, request.headers.get("content-type", ""), field, most)
        del body
    except BaseException:
        ticket.close()
        raise
    return await service.answer(
        files,
        models,
        explain=explain,
        preview=preview,
        request=request.scope["state"]["request"],
        ticket=ticket,
        deadline=time.monotonic() + settings.answer_s,
        receive=request.receive,
    )


class _Files(StaticFiles):
    """The page. What it does not have is no route, however it is asked for."""

    async def get_response(self, path: str, scope: Any) -> Response:
        if scope["method"] not in {"GET", "HEAD"}:
            raise HTTPException(404)
        return await super().get_response(path, scope)


def _add_handlers(app: FastAPI) -> None:
    """Every way to have no answer leads to one kind of response."""

    async def failed(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            failure = ServingError("no_route", "there is no such route, or not by this method; see /openapi.json")
        else:
            failure = failure_of(error)
        state = request.scope["state"]
        state["kind"] = failure.kind
        return _json(Failure(failure.error, state["request"], failure.preview), failure.status, failure.headers)

    async def gone(request: Request, _: Exception) -> Response:
        request.scope["state"]["kind"] = "gone"
        return Response(status_code=CLIENT_GONE)  # nobody reads it

    for kind in (HTTPException, ServingError, MedcompressError, Exception):
        app.add_exception_handler(kind, failed)
    app.add_exception_handler(ClientGone, gone)


def _json(record: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(record), status, headers, "application/json")


# Statuses of a prediction that has none.
_FAILURES = (400, 401, 403, 404, 408, 413, 421, 422, 500, 503, 504)


def _responses(schema: dict[str, Any], *failures: int) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: what a route answers with, and with which statuses it fails."""
    described = {200: schema, **dict.fromkeys(failures, _of("Failure"))}
    return {
        status: {"description": "The answer" if status == 200 else "Why there is none", "content": _content(each)}
        for status, each in described.items()
    }


def _of(name: str) -> dict[str, Any]:
    return {"$ref": _REFERENCE.format(name=name)}


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _is_true(asked: Mapping[str, str], name: str) -> bool:
    value = asked.get(name, "false").lower()
    if value not in {"true", "false", "1", "0"}:
        raise ServingError("usage", f"{name}: is true or false; see /openapi.json")
    return value in {"true", "1"}


def _asked(field: str) -> dict[str, Any]:
    """For OpenAPI: the parameters, and a form with ``field``, or the file alone where one is asked for.

    FastAPI's own reading of parameters takes as long as a small network.
    """
    one = field == "file"
    words = {"model": "Its name.", "task": "Its task, in place of its name."}
    switches = {"explain": "With a heat map.", "preview": "With the image as the bundle renders it."}
    parameters = [_parameter(name, {"type": "string"}, text) for name, text in words.items()]
    parameters += [_parameter(name, {"type": "boolean", "default": False}, text) for name, text in switches.items()]
    schema = {"type": "object", "required": [field], "properties": {}}
    schema["properties"][field] = _BINARY if one else {"type": "array", "items": _BINARY, "maxItems": MAX_BATCH}
    content: dict[str, Any] = {"multipart/form-data": {"schema": schema}}
    if one:
        content["application/octet-stream"] = {"schema": _BINARY}
    return {"parameters": parameters, "requestBody": {"required": True, "content": content}}


def _parameter(name: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": text}


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        _, components = msgspec.json.schema_components([Answer, Failure, Health, Info, Ready], ref_template=_REFERENCE)
        document.setdefault("components", {}).setdefault("schemas", {}).update(components)
        app.openapi_schema = document
    return app.openapi_schema
