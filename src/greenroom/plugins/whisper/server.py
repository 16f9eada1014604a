"""The process that holds a Whisper model and decodes for all streams of a worker, one batch after the other.

It keeps nothing between requests: each carries its audio, so a stream loses nothing when this process dies between two. For
the messages see `wire`.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from greenroom.plugins import shared_process
from greenroom.plugins.whisper.decode import Model
from greenroom.plugins.whisper.features import SAMPLE_RATE, Samples, samples_of
from greenroom.plugins.whisper.recognise import recognise, together
from greenroom.plugins.whisper.wire import HEADER, MAX_AUDIO_SECONDS

__all__ = ["MAX_WAITING", "Queue", "Request", "main"]

logger = logging.getLogger("greenroom.whisper")

MAX_OPTIONS = 65_536
MAX_WAITING = 64
"""Requests that wait, of all clients together."""
MAX_BATCH = 4
PARTIAL_SHARE = 0.5
"""Of the time that partial texts may take, so that a final text seldom has to wait for one."""


@dataclass(slots=True)
class Request:
    client: socket.socket
    kind: bytes
    number: int
    options: dict[str, Any]
    samples: Samples

    @property
    def key(self) -> tuple[int, int]:
        return (id(self.client), self.number)


class Queue:
    """What waits: finals before partials, each in the order in which they came; of partials at most one a client."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._finals: OrderedDict[tuple[int, int], Request] = OrderedDict()
        self._partials: OrderedDict[int, Request] = OrderedDict()
        self._partials_from = 0.0

    def put(self, request: Request) -> tuple[Request | None, bool]:
        """The partial of the same client that this makes worthless, and whether there was room."""
        with self._changed:
            stale = self._partials.pop(id(request.client), None)
            room = len(self._finals) + len(self._partials) < MAX_WAITING
            if room and request.kind == b"F":
                self._finals[request.key] = request
            elif room:
                self._partials[id(request.client)] = request
            self._changed.notify()
            return stale, room

    def take_back(self, client: socket.socket, number: int) -> bool:
        """Whether it still waited."""
        with self._changed:
            partial = self._partials.get(id(client))
            if partial is not None and partial.number == number:
                return self._partials.pop(id(client), None) is not None
            return self._finals.pop((id(client), number), None) is not None

    def drop(self, client: socket.socket) -> None:
        """Everything of that client."""
        with self._changed:
            self._partials.pop(id(client), None)
            for key in [key for key in self._finals if key[0] == id(client)]:
                del self._finals[key]

    def rest(self, seconds: float) -> None:
        """No partials for so long."""
        with self._changed:
            self._partials_from = time.monotonic() + seconds

    def take(self) -> list[Request]:
        """The next requests to be decoded together. Waits for one."""
        with self._changed:
            while True:
                wait: float | None = None
                if self._finals:
                    return self._batch(self._finals)
                if self._partials:
                    wait = self._partials_from - time.monotonic()
                    if wait <= 0:
                        return self._batch(self._partials)
                self._changed.wait(wait)

    def _batch(self, waiting: OrderedDict[Any, Request]) -> list[Request]:
        _, first = waiting.popitem(last=False)
        batch = [first]
        for key, other in list(waiting.items()):
            if len(batch) == MAX_BATCH:
                break
            if other.options == first.options and together([first.samples, other.samples]):
                batch.append(waiting.pop(key))
        return batch


def reply(client: socket.socket, kind: bytes, number: int, body: bytes = b"") -> None:
    """A client that does not read its answers is cut off: nobody may be held up by it."""
    try:
        message = HEADER.pack(kind, number, len(body), 0) + body
        if client.send(message, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) < len(message):
            client.shutdown(socket.SHUT_RDWR)
    except OSError:
        try:
            client.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            logger.debug("a client was gone already: %s", error)


def _exactly(client: socket.socket, count: int) -> bytes:
    """Raises EOFError when the client is gone."""
    received = bytearray(count)
    view = memoryview(received)
    at = 0
    while at < count:
        got = client.recv_into(view[at:])
        if not got:
            raise EOFError
        at += got
    return bytes(received)


def serve(client: socket.socket, queue: Queue) -> None:
    """Take a client's requests until it is gone."""
    try:
        while True:
            kind, number, options_length, audio_length = HEADER.unpack(_exactly(client, HEADER.size))
            if options_length > MAX_OPTIONS or audio_length > MAX_AUDIO_SECONDS * SAMPLE_RATE * 2:
                reply(client, b"e", number, f"more than {MAX_AUDIO_SECONDS:g} s of audio at once".encode())
                return
            options = json.loads(_exactly(client, options_length) or b"{}")
            samples = samples_of(_exactly(client, audio_length))
            if kind == b"C":
                if queue.take_back(client, number):
                    reply(client, b"s", number)
                continue
            stale, room = queue.put(Request(client, kind, number, options, samples))
            if stale is not None:
                reply(client, b"s", stale.number)
            if not room:
                reply(client, b"e", number, f"{MAX_WAITING} requests wait already".encode())
    except (EOFError, OSError, ValueError) as error:
        logger.debug("a client is gone: %s", error)
    finally:
        queue.drop(client)
        client.close()


def work(model: Model, queue: Queue) -> None:
    prompts: dict[tuple[str, ...], tuple[int, ...]] = {}
    while True:
        batch = queue.take()
        began = time.monotonic()
        options = batch[0].options
        hot = tuple(options.get("hot_words", ()))
        if hot not in prompts:
            if len(prompts) > 100:
                prompts.clear()
            prompts[hot] = model.prompt(hot)
        try:
            results = recognise(
                model,
                [request.samples for request in batch],
                language=options.get("language"),
                prompt=prompts[hot],
                words=bool(options.get("words")),
                thorough=batch[0].kind == b"F",
            )
        except (RuntimeError, ValueError) as error:
            for request in batch:
                reply(request.client, b"e", request.number, str(error).encode())
            continue
        for request, result in zip(batch, results, strict=True):
            reply(request.client, b"r", request.number, json.dumps(result.as_dict()).encode())
        if batch[0].kind == b"P":
            queue.rest((time.monotonic() - began) * (1 / PARTIAL_SHARE - 1))


def _end_with(model: Model, queue: Queue) -> None:
    try:
        work(model, queue)
    except BaseException:
        # A process that takes requests and answers none would be worse than one that is started anew.
        logger.exception("the recogniser's worker failed")
        os._exit(1)


def main() -> int:
    """Run as `python -m greenroom.plugins.whisper.server CONTROL_FD`, the model as JSON on standard input."""
    control, configuration = shared_process.begin()
    model = Model(
        Path(configuration["model"]), threads=configuration["threads"], compute_type=configuration["compute_type"]
    )
    # What is set up at the first utterance is set up here.
    model.hear([np.random.default_rng(1).standard_normal(SAMPLE_RATE, np.float32) / np.float32(100)])
    if not shared_process.ready():
        return 0
    queue = Queue()
    threading.Thread(target=_end_with, args=(model, queue), name="decoding", daemon=True).start()
    for client in shared_process.accept(control):
        threading.Thread(target=serve, args=(client, queue), name="client", daemon=True).start()
    return 0


if __name__ == "__main__":
    shared_process.end(main())
