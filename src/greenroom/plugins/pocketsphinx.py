"""Streaming English recognition by pocketsphinx, whose model travels inside its package. Offline, about a quarter of a
core while somebody speaks. `phrases` that the program expects help it a great deal; see `pocketsphinx_server`."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import socket
from collections import deque
from collections.abc import Iterable

from greenroom.agents.speech.protocols import MissingProvider, PartialCallback, ProviderError, Transcript
from greenroom.extras import install_command
from greenroom.plugins import shared_process
from greenroom.plugins.pocketsphinx_server import HEADER

__all__ = ["PocketSphinx"]

logger = logging.getLogger("greenroom.pocketsphinx")

NAME = "pocketsphinx"
MODULE = "greenroom.plugins.pocketsphinx_server"
FINISH_TIMEOUT = 15.0
"""Seconds to wait for a final text, the first load of the models included. What was pushed faster than it can have been
said, as out of a recording, gets the time it takes to say it besides."""
BYTES_PER_SECOND = 16_000 * 2
MAX_UNSENT = 60 * BYTES_PER_SECOND


def _connect(phrases: tuple[str, ...]) -> socket.socket:
    """A decoder for one track."""
    return shared_process.connect(NAME, MODULE, phrases)


class PocketSphinx:
    """`STT` provider. `phrases`: sentences like those to be expected; without any, free dictation only."""

    def __init__(self, phrases: Iterable[str] = ()) -> None:
        self._phrases = tuple(phrases)

    def load(self) -> None:
        _require()
        shared_process.start(NAME, MODULE, self._phrases)

    def stream(self, on_partial: PartialCallback | None = None) -> _Stream:
        _require()
        return _Stream(self._phrases, on_partial)


def _require() -> None:
    if importlib.util.find_spec("pocketsphinx") is None:
        raise MissingProvider("speech recognition (pocketsphinx)", install_command("speech"))


class _Stream:
    def __init__(self, phrases: tuple[str, ...], on_partial: PartialCallback | None) -> None:
        self._phrases = phrases
        self._on_partial = on_partial
        self._partials_wanted = False
        self._finals: deque[asyncio.Future[Transcript]] = deque()
        self._writer: asyncio.StreamWriter | None = None
        self._unsent = bytearray()
        self._said = 0.0
        """On the loop's clock: when all that was pushed could have been said."""
        self._closed = False
        self._task = asyncio.create_task(self._run(), name="pocketsphinx")

    def push(self, pcm: bytes) -> None:
        self._partials_wanted = True
        self._said = max(self._said, asyncio.get_running_loop().time()) + len(pcm) / BYTES_PER_SECOND
        self._send(b"A", pcm)

    def pause(self) -> None:
        self._send(b"P")

    def resume(self) -> None:
        self._send(b"R")

    def discard(self) -> None:
        self._partials_wanted = False
        self._send(b"D")

    async def finish(self) -> Transcript:
        self._partials_wanted = False
        if self._task.done():
            self._task = asyncio.create_task(self._run(), name="pocketsphinx")
        loop = asyncio.get_running_loop()
        timeout = FINISH_TIMEOUT + max(0.0, self._said - loop.time())
        final = loop.create_future()
        self._finals.append(final)
        self._send(b"F")
        try:
            return await asyncio.wait_for(final, timeout)
        except TimeoutError:
            self._task.cancel()
            raise ProviderError(f"pocketsphinx gave no text within {timeout:.0f} s") from None

    async def aclose(self) -> None:
        self._closed = True
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _send(self, kind: bytes, payload: bytes = b"") -> None:
        message = HEADER.pack(kind, len(payload)) + payload
        if self._writer is None:
            if len(self._unsent) < MAX_UNSENT:
                self._unsent += message
        elif kind != b"A" or self._writer.transport.get_write_buffer_size() < MAX_UNSENT:
            self._writer.write(message)

    async def _run(self) -> None:
        """Own the connection: deliver texts until it ends."""
        writer: asyncio.StreamWriter | None = None
        try:
            connection = await asyncio.to_thread(_connect, self._phrases)
            connection.setblocking(False)
            reader, writer = await asyncio.open_unix_connection(sock=connection)
            writer.write(bytes(self._unsent))
            self._unsent.clear()
            self._writer = writer
            while True:
                kind, length = HEADER.unpack(await reader.readexactly(HEADER.size))
                body = await reader.readexactly(length)
                if kind == b"f" and self._finals:
                    final, result = self._finals.popleft(), json.loads(body)
                    if not final.done():
                        final.set_result(Transcript(result["text"], None, tuple(result["alternatives"])))
                elif kind == b"p" and self._partials_wanted and self._on_partial is not None:
                    self._on_partial(body.decode())
        except (asyncio.IncompleteReadError, OSError, ProviderError) as error:
            if not self._closed:
                logger.warning("pocketsphinx stopped: %s", error)
        finally:
            for final in self._finals:
                if not final.done():
                    final.set_exception(ProviderError("the pocketsphinx process ended"))
            self._finals.clear()
            self._writer = None
            self._unsent.clear()
            if writer is not None:
                writer.close()
