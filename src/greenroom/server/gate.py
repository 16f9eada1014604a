"""The door: how many requests, sessions and connections one address, identity or API key may have.

Everything here happens before a body is read, and everything but the count of connections before a token is verified.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from .budgets import JOIN_BURST_SECONDS, Bucket, BucketTable, Rates
from .rules import Referee, Refused, Visitor
from .twirp import REFUSALS, TwirpError

__all__ = ["Gate", "GuardedSite", "add_admission", "add_gate"]

logger = logging.getLogger("greenroom.server")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

REFUSED_CONNECTION = (
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 40\r\n\r\ntoo many connections from this address\r\n"
)


class Gate:
    """Budgets by client address (a /64 for IPv6), by identity and by API key."""

    def __init__(
        self, rates: Rates, trusted_proxies: Sequence[str], limited: Counter[str], *, loopback_is_free: bool
    ) -> None:
        """`trusted_proxies`: networks whose `X-Forwarded-For` is believed. `limited`: where refusals are counted.
        `loopback_is_free`: no budget for addresses of this machine, for development."""
        self._limited = limited
        self._trusted = [ipaddress.ip_network(network) for network in trusted_proxies]
        self._loopback_is_free = loopback_is_free
        self._most_connections = rates.address_connections
        self._connections: Counter[str] = Counter()
        self._crowded: set[str] = set()
        """Addresses that were refused one, until all of theirs are closed: each is worth one line in the log."""
        self._accepts = BucketTable(rates.address_requests)
        self._requests = BucketTable(rates.address_requests)
        self._joins = BucketTable(rates.address_joins)
        self._identity_joins = BucketTable(rates.identity_joins, burst=rates.identity_joins * JOIN_BURST_SECONDS)
        self._keys = BucketTable(rates.key_requests)

    # --- addresses -----------------------------------------------------------------------------------------------

    def address(self, request: web.BaseRequest) -> str:
        """Whose budget a request uses; empty for one that needs none.

        The peer of the connection, or behind trusted proxies the last address in `X-Forwarded-For` that is not one of
        them: what stands further left is anybody's word."""
        peer = _parse(request.remote or "")
        if peer is None:
            return request.remote or "unknown"
        if self._is_trusted(peer):
            for text in reversed(",".join(request.headers.getall("X-Forwarded-For", [])).split(",")):
                named = _parse(text)
                if named is None:
                    break
                peer = named
                if not self._is_trusted(peer):
                    break
        return self._key(peer)

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)

    def _key(self, address: Address) -> str:
        if self._loopback_is_free and address.is_loopback:
            return ""
        if address.version == 6:
            # A /64 is one network's: whoever has one address has them all (RFC 6177).
            return str(ipaddress.IPv6Address(int(address) >> 64 << 64))
        return str(address)

    # --- what may come in ----------------------------------------------------------------------------------------

    def request(self, request: web.BaseRequest, now: float) -> float:
        """One HTTP request. Returns 0, or the seconds after which it may come again."""
        address = self.address(request)
        return self._take(self._requests.bucket(address), now, "http_requests", address) if address else 0.0

    def join(self, request: web.BaseRequest, room: str, identity: str, now: float) -> None:
        """A session begins or is resumed. Raises the 429 that the client sees."""
        address = self.address(request)
        if not address:
            return
        # The identity first: one participant must not use up what others behind its address have.
        who = f"{identity} in {room}"
        wait = self._take(self._identity_joins.bucket((room, identity)), now, "identity_joins", who)
        wait = wait or self._take(self._joins.bucket(address), now, "joins", address)
        if wait:
            raise web.HTTPTooManyRequests(text="too many sessions begun, try again later", headers=_retry(wait))

    def api_call(self, api_key: str, now: float) -> None:
        """Raises TwirpError (resource_exhausted)."""
        if wait := self._take(self._keys.bucket(api_key), now, "key_requests", f"API key {api_key}"):
            raise TwirpError("resource_exhausted", "too many requests with this API key", headers=_retry(wait))

    def _take(self, bucket: Bucket, now: float, reason: str, who: str) -> float:
        wait = bucket.take(now)
        if wait:
            self._limited[reason] += 1
            if bucket.dry_since == now:
                logger.warning("%s: more %s than its budget: refused for now", who, reason.replace("_", " "))
        return wait

    # --- connections ---------------------------------------------------------------------------------------------

    def open(self, peer: str, now: float) -> str | None:
        """A TCP connection was accepted. Returns what `closed` is to be given, or None when it is one too many.

        A trusted proxy carries everybody's connections and has to count them itself."""
        address = _parse(peer)
        if address is None or self._is_trusted(address):
            return ""
        key = self._key(address)
        if not key:
            return ""
        if self._take(self._accepts.bucket(key), now, "connections", key):
            return None
        if self._most_connections and self._connections[key] >= self._most_connections:
            self._limited["connections"] += 1
            if key not in self._crowded:
                self._crowded.add(key)
                logger.warning("%s: %d connections at a time, more are refused", key, self._most_connections)
            return None
        self._connections[key] += 1
        return key

    def closed(self, key: str) -> None:
        if key:
            self._connections[key] -= 1
            if self._connections[key] <= 0:
                del self._connections[key]
                self._crowded.discard(key)


def _parse(text: str) -> Address | None:
    """An address with or without a port. IPv4 inside IPv6 is IPv4."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def _retry(wait: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, math.ceil(wait)))}


def add_gate(app: web.Application, gate: Gate) -> None:
    """Answer what is over an address's budget with 429: Twirp's error to API calls, plain text to all else."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        wait = gate.request(request, asyncio.get_running_loop().time())
        if not wait:
            return await handler(request)
        text = "too many requests from this address"
        if request.path.lstrip("/").startswith("twirp/"):
            return TwirpError("resource_exhausted", text, headers=_retry(wait)).response()
        raise web.HTTPTooManyRequests(text=text, headers=_retry(wait))

    app.middlewares.append(guard)


def add_admission(app: web.Application, gate: Gate, referee: Referee) -> None:
    """Ask the application's rules about every request."""

    @web.middleware
    async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
        visitor = Visitor(gate.address(request), request.method, request.path, request.headers)
        try:
            referee.admit(visitor)
        except Refused as refused:
            if request.path.lstrip("/").startswith("twirp/"):
                return TwirpError(REFUSALS[refused.status], str(refused)).response()
            return web.Response(status=refused.status, text=str(refused))
        return await handler(request)

    app.middlewares.append(admit)


class _Doorman(asyncio.Protocol):
    """Counts a connection, then hands everything to aiohttp's protocol; or refuses it in one line and hangs up."""

    def __init__(self, server: web.Server, gate: Gate) -> None:
        self._server = server
        self._gate = gate
        self._inner: asyncio.Protocol | None = None
        self._key = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        key = self._gate.open(str(peer[0]) if peer else "", asyncio.get_running_loop().time())
        if key is None:
            assert isinstance(transport, asyncio.Transport)
            transport.write(REFUSED_CONNECTION)
            transport.close()
            return
        self._key = key
        self._inner = self._server()
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._inner:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._inner else None

    def pause_writing(self) -> None:
        if self._inner:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        inner, self._inner = self._inner, None
        if inner:
            self._gate.closed(self._key)
            inner.connection_lost(exc)


class GuardedSite(web.BaseSite):
    """`web.TCPSite` with a gate at the socket."""

    __slots__ = ("_gate", "_host", "_port")

    def __init__(self, runner: web.BaseRunner, host: str, port: int, gate: Gate) -> None:
        super().__init__(runner)
        self._host, self._port, self._gate = host, port, gate

    @property
    def name(self) -> str:
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        """OSError when the port is taken."""
        await super().start()
        server = self._runner.server
        assert server is not None
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Doorman(server, self._gate), self._host, self._port, backlog=self._backlog
        )
