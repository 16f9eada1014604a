"""One signalling WebSocket: what goes out, in order and bounded, as binary protobuf or as JSON."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Protocol

from aiohttp import WSCloseCode, WSMessage
from google.protobuf.json_format import MessageToJson
from livekit.protocol import rtc

__all__ = ["Frame", "SignalConnection", "SignalSocket"]

logger = logging.getLogger(__name__)

MAX_QUEUED = 4 * 1024 * 1024
"""Bytes that may wait for a client that does not read; then it is cut off."""
CLOSE_TIMEOUT = 5.0
FLOOD_CLOSE_TIMEOUT = 1.0
"""Whoever was sent away for sending too much is not listened to for long: it may well go on."""


class Frame:
    """A message that is encoded once, whoever it goes to."""

    __slots__ = ("_binary", "_text", "message")

    def __init__(self, message: rtc.SignalResponse) -> None:
        self.message = message
        self._binary: bytes | None = None
        self._text: str | None = None

    @property
    def binary(self) -> bytes:
        if self._binary is None:
            self._binary = self.message.SerializeToString()
        return self._binary

    @property
    def text(self) -> str:
        if self._text is None:
            self._text = MessageToJson(self.message, indent=None)
        return self._text


class SignalSocket(Protocol):
    """A WebSocket as far as signalling needs one: aiohttp's own, or this node's end of a relay."""

    @property
    def closed(self) -> bool: ...

    def __aiter__(self) -> AsyncIterator[WSMessage]:
        """What comes, pings and pongs included, until it is closed."""

    async def send_bytes(self, data: bytes) -> None:
        """Raises ConnectionError. Waits while the other end does not read."""

    async def send_str(self, data: str) -> None: ...

    async def pong(self, message: bytes) -> None: ...

    async def close(self, *, code: int, message: bytes) -> object: ...


class SignalConnection:
    """Queues messages for a WebSocket; `run` writes them. A closed connection swallows what is sent."""

    def __init__(self, socket: SignalSocket) -> None:
        self._socket = socket
        self._queue: asyncio.Queue[tuple[Frame, int] | None] = asyncio.Queue()
        """Messages, and the bytes that count as waiting."""
        self._queued = 0
        self._closing = False
        self._close_code: int = WSCloseCode.OK
        self._close_text = ""
        self.json = False
        """Set once the client sends a text frame: JSON in both directions from then on."""

    @property
    def closing(self) -> bool:
        return self._closing

    def send(self, frame: Frame) -> None:
        if self._closing:
            return
        size = len(frame.binary)
        if size > MAX_QUEUED // 4 and frame.message.HasField("join"):
            size = 0  # as long as its room is large, and the client has had no time to read it
        self._queued += size
        if self._queued > MAX_QUEUED:
            logger.warning("a client does not read its signalling, %d bytes wait: closing", self._queued)
            self.abort(WSCloseCode.TRY_AGAIN_LATER)
            return
        self._queue.put_nowait((frame, size))

    def close(self, code: int = WSCloseCode.OK, text: str = "") -> None:
        """Close after what was queued. `text`: the reason in words, up to 123 bytes."""
        if not self._closing:
            self._closing = True
            self._close_code = code
            self._close_text = text
            self._queue.put_nowait(None)

    def abort(self, code: int = WSCloseCode.GOING_AWAY) -> None:
        """Close without sending what waits."""
        while not self._queue.empty():
            self._queue.get_nowait()
        self._closing = False
        self.close(code)

    async def run(self) -> None:
        """Write until closed. Ends the WebSocket, which ends the reader."""
        try:
            while (waiting := await self._queue.get()) is not None:
                frame, size = waiting
                self._queued -= size
                if self.json:
                    await self._socket.send_str(frame.text)
                else:
                    await self._socket.send_bytes(frame.binary)
            flood = self._close_code == WSCloseCode.POLICY_VIOLATION
            async with asyncio.timeout(FLOOD_CLOSE_TIMEOUT if flood else CLOSE_TIMEOUT):
                await self._socket.close(code=self._close_code, message=self._close_text.encode()[:123])
        except (ConnectionError, RuntimeError, TimeoutError) as error:
            logger.debug("signalling socket ended: %s", error)
        finally:
            self._closing = True
