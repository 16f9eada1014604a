"""Twirp (v7) over HTTP: `POST /twirp/livekit.<Service>/<Method>`, protobuf or JSON in, the same out, errors as JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from .auth import PERMISSION_DENIED, Auth, Authenticator, AuthError
from .router import Node, Router
from .rules import Refused

__all__ = ["REFUSALS", "Rpc", "Services", "TwirpError", "TwirpRouter"]

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

REFUSALS = {
    400: "invalid_argument",
    401: "unauthenticated",
    403: "permission_denied",
    404: "not_found",
    429: "resource_exhausted",
    503: "unavailable",
}
"""Status of a `Refused` to Twirp's word for it."""

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
    """One method: its request's type, what to do, and on which node. The handler checks the grants and raises TwirpError."""

    request: type[Message]
    handler: Callable[[Auth, Any], Awaitable[Message]]
    room: Callable[[Any], str] | None = None
    """The room that a request is about: it is answered where that lives. None: where it came in."""
    opens: bool = False
    """It makes the room when there is none, so one that lives nowhere gets a place."""
    gather: Callable[[Sequence[Any]], Message] | None = None
    """All nodes answer, and this makes one answer of theirs."""


class Services:
    """The services of this node: `{"RoomService": {"CreateRoom": Rpc(...)}}`."""

    def __init__(self, services: Mapping[str, Mapping[str, Rpc]]) -> None:
        self._services = services

    def find(self, service: str, method: str) -> Rpc | None:
        return self._services.get(service, {}).get(method)

    async def call(self, auth: Auth, service: str, method: str, request: Message) -> Message:
        """Answer here. Raises TwirpError, and TimeoutError for what a handler waited for in vain."""
        rpc = self.find(service, method)
        if rpc is None:
            raise TwirpError("bad_route", f"no handler for {service}/{method}")
        try:
            return await rpc.handler(auth, request)
        except (TwirpError, TimeoutError):
            raise
        except AuthError as error:
            raise TwirpError("unauthenticated", str(error)) from error
        except Exception as error:
            logger.exception("%s/%s failed", service, method)
            raise TwirpError("internal", "internal server error") from error


Observer = Callable[[str, str, str, float], None]
"""Told of every call: service, method, "ok" or the error code, seconds."""


class TwirpRouter:
    """Reads requests, has them answered by the node that they are for, and writes the answers."""

    def __init__(
        self,
        authenticator: Authenticator,
        services: Services,
        router: Router,
        admit: Callable[[str, float], None] = lambda _api_key, _now: None,
    ) -> None:
        """`services`: of this node. `router`: where the others are. `admit(api_key, now)` raises TwirpError for a key that calls too often."""
        self._authenticator = authenticator
        self._admit = admit
        self._services = services
        self._router = router
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
        if outcome != "bad_route":  # what a scanner asks for must not become a metric's label
            for observer in self._observers:
                observer(service, method, outcome, time.perf_counter() - started)
        return response

    async def _answer(self, request: web.Request, auth: Auth | None, service: str, method: str) -> web.Response:
        rpc = self._services.find(service, method)
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
        answer = await self._run(rpc, auth, service, method, message, _time_limit(request))
        if not as_json:
            return web.Response(body=answer.SerializeToString(), content_type="application/protobuf")
        text = json_format.MessageToJson(
            answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, indent=None
        )
        return web.Response(text=text, content_type="application/json")

    async def _run(self, rpc: Rpc, auth: Auth, service: str, method: str, message: Message, seconds: float) -> Message:
        try:
            async with asyncio.timeout(seconds) as limit:
                return await self._route(rpc, auth, service, method, message)
        except TimeoutError as error:
            name = f"{service}/{method}"
            if limit.expired():
                raise TwirpError("deadline_exceeded", f"{name} took longer than {seconds:g} s") from error
            raise TwirpError("deadline_exceeded", str(error) or f"{name} timed out") from error
        except Refused as refused:
            raise TwirpError(REFUSALS[refused.status], str(refused)) from refused

    async def _route(self, rpc: Rpc, auth: Auth, service: str, method: str, message: Message) -> Message:
        if rpc.gather is not None:
            nodes = await self._router.nodes()
            return rpc.gather(await _all([node.call(auth, service, method, message) for node in nodes]))
        if rpc.room is None or not (room := rpc.room(message)):
            return await self._services.call(auth, service, method, message)
        node: Node = await (self._router.place(room) if rpc.opens else self._router.locate(room))
        return await node.call(auth, service, method, message)


async def _all(calls: Sequence[Coroutine[Any, Any, Message]]) -> Sequence[Message]:
    """All answers, in order; without one of them there is none. A single call is not given to a task."""
    if len(calls) == 1:
        return [await calls[0]]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return [answer for answer in answers if not isinstance(answer, BaseException)]


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
