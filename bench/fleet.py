"""Many load clients in rooms of one server."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from greenroom._native import LoadEngine

from .signalling import LoadClient, SignallingError
from .target import Target

__all__ = ["Fleet", "fleet", "until"]

JOINS_AT_ONCE = 8
WAIT_SECONDS = 40.0


class Fleet:
    """Clients on one load engine. Made by `fleet`."""

    def __init__(self, server: Target, http: aiohttp.ClientSession, engine: LoadEngine) -> None:
        self.server, self.engine = server, engine
        self._http = http
        self._numbers = itertools.count(1)
        self._gate = asyncio.Semaphore(JOINS_AT_ONCE)
        self.clients: list[LoadClient] = []

    async def join(self, room: str, *, publish: bool = False, subscribe: bool = True) -> LoadClient:
        identity = f"load-{next(self._numbers)}"
        token = self.server.token(identity, room, can_publish=publish, can_subscribe=True)
        client = LoadClient(self._http, self.engine, self.server.url, token, subscribe=subscribe)
        async with self._gate:
            await client.join()
        self.clients.append(client)
        return client

    async def join_many(self, count: int, room: str, **how: bool) -> list[LoadClient]:
        return list(await asyncio.gather(*(self.join(room, **how) for _ in range(count))))

    def peer_stats(self) -> dict[int, dict[str, Any]]:
        return self.engine.stats()["peers"]

    async def wait_connected(self) -> None:
        """Until every native peer has keys."""

        def connected() -> bool:
            stats = self.peer_stats()
            if failed := [peer["failure"] for peer in stats.values() if peer["failure"]]:
                raise SignallingError(f"a peer failed to connect: {failed[0]}")
            return all(peer["connected_ms"] is not None for peer in stats.values())

        await until(connected, "every peer connected")

    async def wait_streams(self, clients: list[LoadClient], streams: int) -> None:
        """Until each of `clients` receives `streams` streams."""

        def flowing() -> bool:
            stats = self.peer_stats()
            for client in clients:
                if client.left:
                    raise SignallingError(f"the server ended a session: {client.left}")
                peer = stats.get(client.subscriber_peer or 0)
                if peer is None or sum(s["packets"] > 0 for s in peer["received"].values()) < streams:
                    return False
            return True

        await until(flowing, f"{len(clients)} subscribers receive {streams} streams each")

    async def leave(self, clients: list[LoadClient]) -> None:
        await asyncio.gather(*(client.close() for client in clients))
        self.clients = [client for client in self.clients if client not in clients]


@asynccontextmanager
async def fleet(server: Target, *, coalesce: bool = True) -> AsyncIterator[Fleet]:
    """A fleet that leaves at the end."""
    engine = LoadEngine(coalesce=coalesce)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        made = Fleet(server, http, engine)
        try:
            yield made
        finally:
            await made.leave(made.clients)
            engine.close()


async def until(condition: Callable[[], bool | Awaitable[bool]], what: str, seconds: float = WAIT_SECONDS) -> None:
    """Poll until it holds. SignallingError after `seconds`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return
        if loop.time() > deadline:
            raise SignallingError(f"not within {seconds:g} s: {what}")
        await asyncio.sleep(0.05)
