"""The process that holds a voice and speaks for all jobs of a worker: `python -m greenroom.plugins.voices.server CONTROL_FD`.

A connection is one request. The client sends a length (four bytes, little-endian) and JSON {"text": ...}; it gets messages of
one byte of kind, four bytes of length, and a body: `a` int16 audio, `e` an error in words, `z` the end. Who closes the
connection wants no more: the work stops after the step that runs, which is a fraction of a second of speech.

The network is run step by step. Whose step is next is decided by when the sound that a request has got so far will have been
played: a new request comes before the continuation of a long one, and nobody waits for ever, because that time does not move.
"""

from __future__ import annotations

import heapq
import importlib
import itertools
import json
import logging
import os
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from greenroom.agents.speech.protocols import ProviderError
from greenroom.plugins import shared_process
from greenroom.plugins.voices.shape import PAUSES, Samples, Shaper

__all__ = ["HEADER", "LENGTH", "MAX_REQUESTS", "MAX_TEXT", "Piece", "Turns", "VoiceModel", "main", "serve"]

logger = logging.getLogger("greenroom.voices")

LENGTH = struct.Struct("<I")
HEADER = struct.Struct("<cI")
MAX_REQUESTS = 64
"""Requests at once. Many more than a machine could speak in time."""
MAX_TEXT = 4_000
MAX_REQUEST_BYTES = 1 << 16
SEND_TIMEOUT = 300.0
"""Seconds that a client may take to read on: an agent whose sound waits to be played does not read."""
READ_TIMEOUT = 10.0
FINAL_PAUSE = 0.2
"""Seconds of silence after the last sound of a sentence: the next one begins behind it."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What is rendered in one go."""

    ids: Sequence[int]
    mark: str
    """The punctuation that ends it."""


class VoiceModel(Protocol):
    """A voice in memory. Called from several threads, `render` from as many at once as there are turns."""

    @property
    def sample_rate(self) -> int: ...

    @property
    def gain(self) -> float:
        """What the sound is multiplied with, so that voices are about equally loud."""

    def plan(self, text: str, options: dict[str, Any]) -> list[Piece]:
        """Raises ProviderError."""

    def render(self, piece: Piece, options: dict[str, Any]) -> Iterator[Samples]:
        """Sound step by step; each step is a turn."""


class Turns:
    """Lets so many work at once, those first whose sound is needed first."""

    def __init__(self, parallel: int) -> None:
        self._free = parallel
        self._waiting: list[tuple[float, int, threading.Event]] = []
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        with self._lock:
            return len(self._waiting)

    @contextmanager
    def turn(self, needed_at: float) -> Iterator[None]:
        with self._lock:
            if self._free:
                self._free -= 1
                mine = None
            else:
                mine = threading.Event()
                heapq.heappush(self._waiting, (needed_at, next(self._numbers), mine))
        if mine is not None:
            # Each step ends, and then somebody's turn comes; who waits has the earliest need sooner or later.
            mine.wait()
        try:
            yield
        finally:
            with self._lock:
                if self._waiting:
                    heapq.heappop(self._waiting)[2].set()
                else:
                    self._free += 1


def serve(connection: socket.socket, model: VoiceModel, turns: Turns) -> None:
    """Answer one request."""
    try:
        connection.settimeout(READ_TIMEOUT)
        request = _request(connection)
        if request is None:
            return
        connection.settimeout(SEND_TIMEOUT)
        try:
            for pcm in _speech(connection, model, turns, request):
                _send(connection, b"a", pcm)
        except _Gone:
            return
        except ProviderError as error:
            _send(connection, b"e", str(error).encode())
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:
            # The network refused this text; the next one may be fine.
            logger.exception("a sentence could not be spoken")
            _send(connection, b"e", f"the voice failed: {type(error).__name__}: {error}".encode())
        else:
            _send(connection, b"z", b"")
    except (ConnectionError, TimeoutError):
        return
    finally:
        connection.close()


class _Gone(Exception):
    """Nobody listens any more."""


def _speech(connection: socket.socket, model: VoiceModel, turns: Turns, request: dict[str, Any]) -> Iterator[bytes]:
    options = dict(request.get("options") or {})
    needed_at = time.monotonic()
    pieces = model.plan(str(request["text"])[:MAX_TEXT], options)
    shaper = Shaper(model.sample_rate, gain=model.gain)
    for index, piece in enumerate(pieces):
        steps = iter(model.render(piece, options))
        while True:
            if _closed(connection):
                raise _Gone
            with turns.turn(needed_at):
                # It may have been a while.
                if _closed(connection):
                    raise _Gone
                sound = next(steps, None)
            if sound is None:
                break
            needed_at += len(sound) / model.sample_rate
            if pcm := shaper.feed(sound):
                yield pcm
        if pcm := shaper.end(FINAL_PAUSE if index == len(pieces) - 1 else PAUSES.get(piece.mark, 0.0)):
            yield pcm


def _request(connection: socket.socket) -> dict[str, Any] | None:
    (length,) = LENGTH.unpack(_exactly(connection, LENGTH.size))
    if length > MAX_REQUEST_BYTES:
        return None
    try:
        request = json.loads(_exactly(connection, length))
    except ValueError:
        return None
    return request if isinstance(request, dict) and "text" in request else None


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data


def _closed(connection: socket.socket) -> bool:
    # A client says nothing after its request, so what can be read is the end.
    return bool(select.select([connection], [], [], 0)[0])


def _send(connection: socket.socket, kind: bytes, body: bytes) -> None:
    connection.sendall(HEADER.pack(kind, len(body)) + body)


def _refuse(connection: socket.socket) -> None:
    with connection:
        connection.settimeout(0.1)
        try:
            _send(connection, b"e", b"too many sentences are being spoken at once")
        except OSError:
            logger.debug("who was refused is gone already")


def main() -> int:
    """Configuration: {"model": "package.module", "parallel": n, ...}; the module's `load(configuration)` gives the model."""
    control, configuration = shared_process.begin()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    try:
        model: VoiceModel = importlib.import_module(configuration["model"]).load(configuration)
    except ProviderError as error:
        logger.error("%s", error)
        return 1
    if not shared_process.ready():
        return 0
    turns = Turns(int(configuration.get("parallel") or max(1, (os.cpu_count() or 1) // 2)))
    room = threading.BoundedSemaphore(MAX_REQUESTS)

    def answer(connection: socket.socket) -> None:
        try:
            serve(connection, model, turns)
        finally:
            room.release()

    for connection in shared_process.accept(control):
        if room.acquire(blocking=False):
            threading.Thread(target=answer, args=(connection,), daemon=True).start()
        else:
            _refuse(connection)
    return 0


if __name__ == "__main__":
    shared_process.end(main())
