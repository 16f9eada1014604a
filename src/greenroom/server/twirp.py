"""Twirp (v7) over HTTP: `POST /twirp/livekit.<Service>/<Method>`, protobuf or JSON in, the same out, errors as JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from .auth import PERMISSION_DENIED, Auth, Authenticator, AuthError

__all__ = ["Rpc", "TwirpError", "TwirpRouter"]

logger = logging.getLogger("greenroom.server")

STATUS = {
    "canceled": 408,
    "unknown": 500,
    "invalid_argument": 400,
    "malformed": 400,
    "deadline_exceeded": 408,
    "not_found": 404,
    "bad_route": 404,
    "already_exists": 409,
    "permission_denied": 403,
    "unauthenticated": 401,
    "resource_exhausted": 429,
    "failed_precondition": 412,
    "aborted": 409,
    "out_of_range": 400,
    "unimplemented": 501,
    "internal": 500,
    "unavailable": 503,
    "dataloss": 500,
}
"""Error code to HTTP status (Twirp specification, "Error Codes")."""

MAX_SECONDS = 60.0
"""No call takes longer, whatever `X-Twirp-Timeout-Ms` asks for."""


class TwirpError(Exception):
    """A call's failure, as the caller will see it."""

    def __init__(
        self, code: str, msg: str, meta: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.meta = dict(meta or {})
        self.headers = dict(headers or {})

    def response(self) -> web.Response:
        body: dict[str, Any] = {"code": self.code, "msg": self.msg}
        if self.meta:
            body["meta"] = self.meta
        status = STATUS.get(self.code, 500)
        return web.Response(status=status, body=json.dumps(body), content_type="application/json", headers=self.headers)


@dataclass(frozen=True, slots=True)
class Rpc:
    """One method: its request's type, and what to do. The handler checks the grants and raises TwirpError."""

    request: type[Message]
    handler: Callable[[Auth, Any], Awaitable[Message]]


Observer = Callable[[str, str, str, float], None]
"""Told of every call: service, method, "ok" or the error code, seconds."""


class TwirpRouter:
    """Holds the services (`{"RoomService": {"CreateRoom": Rpc(...)}}`) and answers their requests."""

    def __init__(
        self,
        authenticator: Authenticator,
        services: Mapping[str, Mapping[str, Rpc]],
        admit: Callable[[str, float], None] = lambda _api_key, _now: None,
    ) -> None:
        """`admit(api_key, now)` raises TwirpError for a key that calls too often."""
        self._authenticator = authenticator
        self._admit = admit
        self._services = services
        self._observers: list[Observer] = []

    def observe(self, observer: Observer) -> None:
        self._observers.append(observer)

    async def handle(self, request: web.Request) -> web.Response:
        try:
            auth = self._authenticator.authenticate(request)
        except AuthError as error:
            return web.Response(status=error.status, text=str(error))
        service = request.match_info["service"].removeprefix("livekit.")
        method = request.match_info["method"]
        started = time.perf_counter()
        outcome = "ok"
        try:
            response = await self._answer(request, auth, service, method)
        except TwirpError as error:
            outcome = error.code
            response = error.response()
        except AuthError as error:
            outcome = "unauthenticated"
            response = TwirpError("unauthenticated", str(error)).response()
        if outcome != "bad_route":  # what a scanner asks for must not become a metric's label
            for observer in self._observers:
                observer(service, method, outcome, time.perf_counter() - started)
        return response

    async def _answer(self, request: web.Request, auth: Auth | None, service: str, method: str) -> web.Response:
        rpc = self._services.get(service, {}).get(method)
        if rpc is None:
            raise TwirpError("bad_route", f"no handler for path {request.path}")
        if request.method != "POST":
            raise TwirpError("bad_route", f"unsupported method {request.method} (only POST is allowed)")
        if request.content_type not in ("application/json", "application/protobuf"):
            raise TwirpError("bad_route", f"unexpected Content-Type: {request.headers.get('Content-Type', '')!r}")
        if auth is None:  # before the body is read: strangers do not get 10 MiB parsed
            raise TwirpError("unauthenticated", PERMISSION_DENIED)
        self._admit(auth.api_key, asyncio.get_running_loop().time())
        as_json = request.content_type == "application/json"
        message = _parse(rpc.request, await request.read(), as_json)
        answer = await self._run(rpc, auth, message, _time_limit(request), f"{service}/{method}")
        if not as_json:
            return web.Response(body=answer.SerializeToString(), content_type="application/protobuf")
        text = json_format.MessageToJson(
            answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, indent=None
        )
        return web.Response(text=text, content_type="application/json")

    async def _run(self, rpc: Rpc, auth: Auth, message: Message, seconds: float, name: str) -> Message:
        try:
            async with asyncio.timeout(seconds) as limit:
                return await rpc.handler(auth, message)
        except TimeoutError as error:
            if limit.expired():
                raise TwirpError("deadline_exceeded", f"{name} took longer than {seconds:g} s") from error
            raise TwirpError("deadline_exceeded", str(error) or f"{name} timed out") from error
        except (TwirpError, AuthError):
            raise
        except Exception as error:
            logger.exception("%s failed", name)
            raise TwirpError("internal", "internal server error") from error


def _parse(kind: type[Message], body: bytes, as_json: bool) -> Message:
    message = kind()
    try:
        if as_json:
            json_format.Parse(body or b"{}", message, ignore_unknown_fields=True)
        else:
            message.ParseFromString(body)
    # RecursionError: JSON nested deeper than the parser follows
    except (json_format.ParseError, DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TwirpError("malformed", f"the request could not be decoded as {kind.DESCRIPTOR.full_name}") from error
    return message


def _time_limit(request: web.Request) -> float:
    raw = request.headers.get("X-Twirp-Timeout-Ms", "")
    asked = int(raw) / 1000 if raw.isascii() and raw.isdecimal() and len(raw) < 10 else MAX_SECONDS
    return min(max(asked, 0.001), MAX_SECONDS)
