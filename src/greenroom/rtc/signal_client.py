"""The signalling WebSocket: protobuf `SignalRequest` out, `SignalResponse` in."""

from __future__ import annotations

import asyncio
import base64
import gzip
import platform
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit, urlunsplit

from google.protobuf.message import DecodeError
from livekit.protocol import models, rtc as proto

from greenroom import __version__
from greenroom.tasks import Tasks

from .errors import ConnectError
from .log import logger

if TYPE_CHECKING:
    import aiohttp

PROTOCOL = 17
"""The signalling protocol that we speak (`ClientInfo.protocol`)."""
CLIENT_PROTOCOL = 2
"""What other clients may send us: 1 RPC over streams, 2 single-packet and compressed streams."""
FIRST_MESSAGE_TIMEOUT = 5.0
VALIDATE_TIMEOUT = 3.0
CLOSE_TIMEOUT = 1.0
MAX_MESSAGE_SIZE = 16 * 1024 * 1024
ROOM_MISSING = "requested room does not exist"

_CAPABILITIES = (
    models.ClientInfo.Capability.CAP_PACKET_TRAILER,
    models.ClientInfo.Capability.CAP_COMPRESSION_DEFLATE_RAW,
)


class PathNotFound(ConnectError):
    """The server has no such signalling path: an older one, which speaks only `/rtc`."""


class InvalidUrl(ConnectError):
    """No attempt can mend it."""


def client_info() -> models.ClientInfo:
    return models.ClientInfo(
        sdk=models.ClientInfo.SDK.PYTHON,
        version=__version__,
        protocol=PROTOCOL,
        os=platform.system(),
        os_version=platform.release(),
        device_model="",
        client_protocol=CLIENT_PROTOCOL,
        capabilities=_CAPABILITIES,
    )


def signal_url(url: str, path: str, query: dict[str, str]) -> str:
    """`url` (ws, wss, http or https, perhaps with a path of its own) with the signalling path. InvalidUrl if odd."""
    parts = urlsplit(url.strip())
    scheme = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}.get(parts.scheme)
    if scheme is None or not parts.netloc:
        raise InvalidUrl(f"not a room server's URL: {url!r}; it should look like ws://localhost:7880")
    base = parts.path.rstrip("/").removesuffix("/rtc")
    return urlunsplit((scheme, parts.netloc, base + path, urlencode(query), ""))


def join_query(request: proto.JoinRequest) -> dict[str, str]:
    """The query of `/rtc/v1`: a gzipped `JoinRequest` in a `WrappedJoinRequest`, base64url."""
    data = request.SerializeToString()
    wrapped = proto.WrappedJoinRequest(
        compression=proto.WrappedJoinRequest.Compression.GZIP, join_request=gzip.compress(data, 6, mtime=0)
    )
    return {"join_request": base64.urlsafe_b64encode(wrapped.SerializeToString()).decode()}


def dual_query(settings: proto.ConnectionSettings, *, participant_sid: str = "", reason: int = 0) -> dict[str, str]:
    """The query of `/rtc`."""
    info = client_info()
    query = {
        "sdk": "python",
        "version": info.version,
        "protocol": str(info.protocol),
        "client_protocol": str(info.client_protocol),
        "os": info.os,
        "os_version": info.os_version,
        "auto_subscribe": "1" if settings.auto_subscribe else "0",
        "adaptive_stream": "0",
        "capabilities": ",".join(models.ClientInfo.Capability.Name(c) for c in info.capabilities),
    }
    if participant_sid:
        query |= {"reconnect": "1", "sid": participant_sid, "reconnect_reason": str(reason)}
    return query


class SignalClient:
    """One WebSocket. `on_message` gets every message after the first, `on_closed` is called once when it is lost."""

    def __init__(
        self, on_message: Callable[[proto.SignalResponse], None], on_closed: Callable[[SignalClient], None]
    ) -> None:
        self._on_message = on_message
        self._on_closed = on_closed
        self._http: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._outgoing: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._tasks = Tasks(logger)
        self._rtt_ms = 0
        self._heard = 0.0
        self._closed = False
        self._closing: asyncio.Task[None] | None = None
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the socket is closed, by whomever."""

    @property
    def closed(self) -> bool:
        return self._closed

    async def connect(
        self, url: str, path: str, query: dict[str, str], token: str, timeout: float
    ) -> proto.SignalResponse:
        """Open the socket and return the first message. ConnectError says what is wrong."""
        import aiohttp
        from yarl import URL

        full = signal_url(url, path, query)
        headers = {"Authorization": f"Bearer {token}"}
        self._http = aiohttp.ClientSession()
        try:
            async with asyncio.timeout(timeout):
                self._socket = await self._http.ws_connect(
                    URL(full, encoded=True),
                    headers=headers,
                    max_msg_size=MAX_MESSAGE_SIZE,
                    heartbeat=None,
                )
            async with asyncio.timeout(FIRST_MESSAGE_TIMEOUT):
                return await self._first_message(url)
        except aiohttp.WSServerHandshakeError as error:
            refusal = await self._refusal(full, headers, error.status, url)
            await self.close()
            raise refusal from None
        except TimeoutError:
            await self.close()
            raise ConnectError(f"{url} did not answer within {timeout:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            await self.close()
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ConnectError(f"cannot reach {url}: {why}") from None
        except BaseException:
            await self.close()
            raise

    async def _first_message(self, url: str) -> proto.SignalResponse:
        import aiohttp

        assert self._socket is not None
        while True:
            message = await self._socket.receive()
            if message.type is aiohttp.WSMsgType.BINARY:
                try:
                    return proto.SignalResponse.FromString(message.data)
                except DecodeError:
                    raise ConnectError(f"{url} sent something that is not a signalling message") from None
            if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR):
                raise ConnectError(f"{url} closed the connection before joining (code {self._socket.close_code})")

    async def _refusal(self, full: str, headers: dict[str, str], status: int, url: str) -> ConnectError:
        """Ask the validate endpoint for the words that a failed upgrade cannot carry."""
        import aiohttp
        from yarl import URL

        assert self._http is not None
        parts = urlsplit(full)
        scheme = "https" if parts.scheme == "wss" else "http"
        validate = urlunsplit((scheme, parts.netloc, parts.path + "/validate", parts.query, ""))
        text = ""
        try:
            timeout = aiohttp.ClientTimeout(total=VALIDATE_TIMEOUT)
            async with self._http.get(URL(validate, encoded=True), headers=headers, timeout=timeout) as answer:
                if answer.status == status:
                    text = (await answer.text())[:300].strip()
        except (aiohttp.ClientError, TimeoutError, OSError, UnicodeDecodeError) as error:
            logger.debug("no reason from %s: %s", parts.path, error)
        if status == 404 and ROOM_MISSING not in text:
            return PathNotFound(f"{url} has no LiveKit signalling endpoint (404)", status=404)
        why = f": {text}" if text else ""
        if status in (401, 403):
            return ConnectError(f"{url} refused the token ({status}){why}", status=status)
        return ConnectError(f"{url} refused the connection ({status}){why}", status=status)

    def start(self, ping_interval: float, ping_timeout: float) -> None:
        """Deliver messages from now on, and keep the connection alive. Seconds; 0 turns pings off."""
        self._heard = asyncio.get_running_loop().time()
        self._tasks.start(self._read(), "signal reader")
        self._tasks.start(self._write(), "signal writer")
        if ping_interval > 0:
            self._tasks.start(self._ping(ping_interval, ping_timeout), "signal ping")

    def send(self, request: proto.SignalRequest) -> bool:
        """Queue a request; order is kept. False when the socket is closed."""
        if self._closed:
            return False
        self._outgoing.put_nowait(request.SerializeToString())
        return True

    async def _write(self) -> None:
        assert self._socket is not None
        while (data := await self._outgoing.get()) is not None:
            try:
                await self._socket.send_bytes(data)
            except (ConnectionError, RuntimeError):
                self._lost()
                return

    async def _read(self) -> None:
        import aiohttp

        assert self._socket is not None
        loop = asyncio.get_running_loop()
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.BINARY:
                continue
            self._heard = loop.time()
            try:
                response = proto.SignalResponse.FromString(message.data)
            except DecodeError:
                logger.warning("dropped a signalling message of %d bytes that cannot be parsed", len(message.data))
                continue
            if response.WhichOneof("message") == "pong_resp":
                self._rtt_ms = max(0, int(time.time() * 1000) - response.pong_resp.last_ping_timestamp)
                continue
            try:
                self._on_message(response)
            except Exception:
                logger.exception("signalling message %r could not be handled", response.WhichOneof("message"))
        self._lost()

    async def _ping(self, interval: float, timeout: float) -> None:
        loop = asyncio.get_running_loop()
        while True:
            ping = proto.Ping(timestamp=int(time.time() * 1000), rtt=self._rtt_ms)
            self.send(proto.SignalRequest(ping_req=ping))
            await asyncio.sleep(interval)
            if timeout > 0 and loop.time() - self._heard > timeout:
                logger.warning("nothing heard from the server for %.0f s", loop.time() - self._heard)
                self._lost()
                return

    def _lost(self) -> None:
        if not self._closed:
            self._mark_closed()
            self._on_closed(self)

    def _mark_closed(self) -> None:
        self._closed = True
        if not self.lost.done():
            self.lost.set_result(None)

    async def close(self, last: proto.SignalRequest | None = None) -> None:
        """Send `last` and what is queued, close the socket. Bounded; twice is fine."""
        self._mark_closed()
        if self._closing is None:
            # A task of its own: who waits for it may be cancelled, the socket is closed all the same.
            self._closing = asyncio.get_running_loop().create_task(self._close(last), name="close signalling")
        await asyncio.shield(self._closing)

    async def _close(self, last: proto.SignalRequest | None) -> None:
        socket, self._socket = self._socket, None
        http, self._http = self._http, None
        self._tasks.cancel()
        if socket is not None and not socket.closed:
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    while not self._outgoing.empty():
                        if (data := self._outgoing.get_nowait()) is not None:
                            await socket.send_bytes(data)
                    if last is not None:
                        await socket.send_bytes(last.SerializeToString())
                    await socket.close()
            except (TimeoutError, ConnectionError, RuntimeError) as error:
                logger.debug("the socket did not close in order: %s", error)
        await self._tasks.aclose()
        if http is not None:
            await http.close()
