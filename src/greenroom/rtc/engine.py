"""One native engine per event loop, and one reader that hands its events out.

The native side announces events in batches through an eventfd; `_drain` takes a whole batch and calls the owners
directly, so there is no task and no queue per frame or stream.
"""

from __future__ import annotations

import asyncio
import atexit
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .log import logger

if TYPE_CHECKING:
    from greenroom._native import PeerEngine

Listener = Callable[[tuple[Any, ...]], None]

_engines: dict[asyncio.AbstractEventLoop, Engine] = {}
_owner_pid = os.getpid()
_inherited: list[dict[asyncio.AbstractEventLoop, Engine]] = []
"""Engines of a parent process, kept so that nobody drops them: their threads are not here to be joined."""

_PEER_EVENTS = ("connected", "disconnected", "failed", "channel", "channel_closed", "data", "drained", "media")
_SINK_EVENTS = ("audio", "video", "encoded", "end")
_SOURCE_EVENTS = ("room", "silent", "keyframe_request")


class Engine:
    """The native engine of one event loop. Get it with `get_engine`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        from greenroom import _native

        self.loop = loop
        self.native: PeerEngine = _native.PeerEngine(codec_threads=max(1, min(4, (os.cpu_count() or 2) - 1)))
        self.peers: dict[int, Listener] = {}
        self.sinks: dict[int, Listener] = {}
        self.sources: dict[int, Listener] = {}
        self._tables = {
            **dict.fromkeys(_PEER_EVENTS, self.peers),
            **dict.fromkeys(_SINK_EVENTS, self.sinks),
            **dict.fromkeys(_SOURCE_EVENTS, self.sources),
        }
        self._fd = self.native.event_fd
        loop.add_reader(self._fd, self._drain)

    def _drain(self) -> None:
        for event in self.native.poll_events():
            table = self._tables.get(event[0])
            listener = table.get(event[1]) if table is not None else None
            if listener is None:
                continue
            try:
                listener(event)
            except Exception:
                logger.exception("an event of kind %r could not be handled", event[0])

    def close(self) -> None:
        """Stop the threads. Twice is fine."""
        if not self.loop.is_closed():
            self.loop.remove_reader(self._fd)
        self.native.close()


def get_engine(loop: asyncio.AbstractEventLoop | None = None) -> Engine:
    """The engine of `loop` (default: the running one), made at first use.

    Engines of closed loops are closed here. After a fork the child starts afresh: threads do not survive a fork, so
    what the parent had is left alone.
    """
    global _engines, _owner_pid
    if _owner_pid != os.getpid():
        _inherited.append(_engines)
        _engines = {}
        _owner_pid = os.getpid()
    loop = loop or asyncio.get_running_loop()
    engine = _engines.get(loop)
    if engine is None:
        for old in [other for other in _engines if other.is_closed()]:
            _engines.pop(old).close()
        engine = _engines[loop] = Engine(loop)
    return engine


@atexit.register
def _close_all() -> None:
    if _owner_pid == os.getpid():
        for engine in _engines.values():
            engine.native.close()
