"""Messages between a worker and its job processes: a length and a JSON object over a socket pair.

Frames are small and rare (a handful per job), so the format is chosen to be read in a debugger, not for speed.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any

MAX_FRAME = 4 * 1024 * 1024
"""Bytes. A job message is at most 2 MiB on the wire; Base64 adds a third."""

Message = dict[str, Any]
_LENGTH = struct.Struct("!I")


class Channel:
    """One end of the socket pair, for asyncio."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, sock: socket.socket) -> Channel:
        """Take ownership of a connected stream socket."""
        sock.setblocking(False)
        return cls(*await asyncio.open_connection(sock=sock))

    def send(self, message: Message) -> None:
        """Queue a message. After the other side is gone it is dropped: `receive` tells."""
        if self._writer.is_closing():
            return
        body = json.dumps(message).encode()
        self._writer.write(_LENGTH.pack(len(body)) + body)

    async def drain(self) -> None:
        """Wait until what was sent is with the kernel."""
        try:
            await self._writer.drain()
        except ConnectionError:
            return

    async def receive(self) -> Message | None:
        """The next message, or None when the other side is gone."""
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            if length > MAX_FRAME:
                raise ValueError(f"a job message of {length} bytes is over the limit of {MAX_FRAME}")
            message: Message = json.loads(await self._reader.readexactly(length))
            return message
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def close(self) -> None:
        """Twice is fine."""
        self._writer.close()
