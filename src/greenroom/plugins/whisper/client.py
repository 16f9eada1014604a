"""One stream's way to the process: requests with their audio, answers by number. Connects when first asked, and again after
the process died."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import dataclass
from typing import Any

from greenroom.agents.speech.protocols import ProviderError
from greenroom.plugins import shared_process
from greenroom.plugins.whisper.recognise import Recognition
from greenroom.plugins.whisper.wire import HEADER

__all__ = ["NAME", "Configuration", "Died", "Line", "Skipped"]

NAME = "whisper"
MODULE = "greenroom.plugins.whisper.server"
MAX_ANSWER = 1 << 22


class Died(ProviderError):
    """The process ended while it had the request."""


class Skipped(ProviderError):
    """The request was not worth its work any more."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What makes a process one of its own."""

    model: str
    threads: int
    compute_type: str

    def start(self) -> shared_process.SharedProcess:
        """Blocking, until it has loaded. Raises ProviderError."""
        return shared_process.start(NAME, MODULE, self._content())

    def connect(self) -> socket.socket:
        """Blocking. Raises ProviderError."""
        return shared_process.connect(NAME, MODULE, self._content())

    def _content(self) -> dict[str, Any]:
        return {"model": self.model, "threads": self.threads, "compute_type": self.compute_type}


class Line:
    """Requests of one stream. `ask` may be called many times at once."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._number = 0
        self._asked: dict[int, asyncio.Future[Recognition]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()
        self._closed = False

    async def ask(self, kind: bytes, options: dict[str, Any], pcm: bytes) -> Recognition:
        """Raises Died, Skipped or another ProviderError. Cancelling takes the request back if it still waits."""
        async with self._connecting:
            if self._writer is None or self._reading is None or self._reading.done():
                await self._connect()
            assert self._writer is not None
            writer = self._writer
            self._number = (self._number + 1) & 0xFFFFFFFF
            number = self._number
            answer: asyncio.Future[Recognition] = asyncio.get_running_loop().create_future()
            self._asked[number] = answer
            body = json.dumps(options).encode()
            writer.write(HEADER.pack(kind, number, len(body), len(pcm)) + body)
            writer.write(pcm)
        try:
            return await answer
        except asyncio.CancelledError:
            if not writer.is_closing():
                writer.write(HEADER.pack(b"C", number, 0, 0))
            raise
        finally:
            self._asked.pop(number, None)

    async def aclose(self) -> None:
        self._closed = True
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _connect(self) -> None:
        if self._closed:
            raise ProviderError("the stream is closed")
        connection = await asyncio.to_thread(self._configuration.connect)
        connection.setblocking(False)
        reader, self._writer = await asyncio.open_unix_connection(sock=connection)
        self._reading = asyncio.create_task(self._read(reader, self._writer), name="whisper answers")

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                kind, number, length, _ = HEADER.unpack(await reader.readexactly(HEADER.size))
                if length > MAX_ANSWER:
                    return
                body = await reader.readexactly(length)
                answer = self._asked.get(number)
                if answer is None or answer.done():
                    continue
                if kind == b"r":
                    answer.set_result(Recognition.from_dict(json.loads(body)))
                elif kind == b"s":
                    answer.set_exception(Skipped("skipped"))
                else:
                    answer.set_exception(ProviderError(f"whisper failed: {body.decode('utf-8', 'replace')}"))
        except (asyncio.IncompleteReadError, OSError):
            return
        finally:
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_exception(Died("the whisper process ended"))
            writer.close()
