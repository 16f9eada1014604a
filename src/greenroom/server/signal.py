"""The signalling WebSocket and its validation endpoints: from the request to the node of its room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import WSCloseCode, web

from .arrival import Arrival, read_arrival
from .auth import Authenticator, AuthError
from .bounds import MAX_MESSAGE
from .gate import Gate
from .router import Node, Router, Unreachable
from .rules import Refused
from .settings import RoomSettings

__all__ = ["ROUTE_SECONDS", "SignalEndpoint", "add_routes"]

HEARTBEAT = 20.0
"""Seconds between WebSocket pings. A client that does not answer for half of it is gone."""
ROUTE_SECONDS = 15.0
"""Time to find the node of a room and be let in there; its application's rules may take 10 s of it."""


def add_routes(
    app: web.Application, router: Router, authenticator: Authenticator, gate: Gate, settings: Callable[[], RoomSettings]
) -> SignalEndpoint:
    """Register `/rtc`, `/rtc/v1` and their `/validate`. `settings`: asked for each request."""
    endpoint = SignalEndpoint(router, authenticator, gate, settings)
    app.router.add_get("/rtc", endpoint.dual)
    app.router.add_get("/rtc/v1", endpoint.single)
    app.router.add_get("/rtc/validate", endpoint.validate)
    app.router.add_get("/rtc/v1/validate", endpoint.validate_v1)
    app.on_shutdown.append(endpoint.shut_down)
    return endpoint


class SignalEndpoint:
    """Knows requests and sockets, not rooms: what may come in is for the room's node to say, and the session is there."""

    def __init__(
        self, router: Router, authenticator: Authenticator, gate: Gate, settings: Callable[[], RoomSettings]
    ) -> None:
        self._router = router
        self._authenticator = authenticator
        self._gate = gate
        self._settings = settings
        self._sockets: set[web.WebSocketResponse] = set()

    async def dual(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, single=False)

    async def single(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, single=True)

    async def validate(self, request: web.Request) -> web.Response:
        return await self._validate(request, single=False)

    async def validate_v1(self, request: web.Request) -> web.Response:
        return await self._validate(request, single=True)

    async def shut_down(self, app: web.Application) -> None:
        """Close what is still open when the HTTP server stops."""
        for socket in list(self._sockets):
            await socket.close(code=WSCloseCode.GOING_AWAY)

    def _arrival(self, request: web.Request, *, single: bool) -> Arrival:
        try:
            auth = self._authenticator.require(request)
        except AuthError as error:
            raise Refused(str(error), error.status) from error
        query = {key: request.query[key] for key in request.query if key != "access_token"}
        user_agent = request.headers.get("User-Agent", "")
        address = self._gate.address(request)
        return read_arrival(auth, query, user_agent, self._settings(), single=single, address=address)

    async def _node(self, arrival: Arrival, *, opens: bool) -> Node:
        """The node of the room. `opens`: it is chosen for a room that lives nowhere and may be made by joining it."""
        if opens and self._settings().auto_create and not arrival.join.reconnect:
            return await self._router.place(arrival.room)
        return await self._router.locate(arrival.room)

    async def _validate(self, request: web.Request, *, single: bool) -> web.Response:
        try:
            arrival = self._arrival(request, single=single)
            async with _in_time():
                await (await self._node(arrival, opens=False)).check(arrival)
        except Refused as refused:
            raise _http_error(refused) from refused
        return web.Response(text="success")

    async def _serve(self, request: web.Request, *, single: bool) -> web.StreamResponse:
        # Pings are answered where the session is, so that they count like everything else that a client sends.
        socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE, heartbeat=HEARTBEAT, compress=False, autoping=False)
        if not socket.can_prepare(request).ok:
            raise web.HTTPNotFound(text="404 page not found")
        try:
            arrival = self._arrival(request, single=single)
            self._gate.join(request, arrival.room, arrival.identity, asyncio.get_running_loop().time())
            async with _in_time():
                admitted = await (await self._node(arrival, opens=True)).admit(arrival)
        except Refused as refused:
            raise _http_error(refused) from refused
        try:
            await socket.prepare(request)
            self._sockets.add(socket)
            await admitted.serve(socket)
        finally:
            self._sockets.discard(socket)
            await admitted.aclose()
        return socket


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(ROUTE_SECONDS):
            yield
    except TimeoutError as error:
        raise Unreachable("the room's node does not answer") from error


def _http_error(refused: Refused) -> web.HTTPException:
    errors: dict[int, type[web.HTTPException]] = {
        400: web.HTTPBadRequest,
        401: web.HTTPUnauthorized,
        403: web.HTTPForbidden,
        404: web.HTTPNotFound,
        429: web.HTTPTooManyRequests,
        503: web.HTTPServiceUnavailable,
    }
    return errors.get(refused.status, web.HTTPUnauthorized)(text=str(refused))
