"""What audio and video streams share: an async iterator over a native sink."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from .engine import Engine, get_engine

if TYPE_CHECKING:
    from .participant import Participant
    from .track import RemoteTrack, Track

Item = TypeVar("Item")


class MediaStream(Generic[Item]):
    """Frames of a track, or of whatever track a participant has with a given source.

    Decoded frames wait in the native sink. When it announces some and somebody waits, they are taken in one batch;
    when nobody waits, they stay there until the next read, so that a slow program costs nothing.
    """

    def __init__(
        self,
        track: Track | None,
        loop: asyncio.AbstractEventLoop | None,
        participant: Participant | None,
        track_source: int | None,
    ) -> None:
        self._engine: Engine = get_engine(loop)
        self._loop = self._engine.loop
        self._track: RemoteTrack | None = None
        self._sink: Any = None
        self._announced = False
        self._frames: deque[Item] = deque()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._over = False
        self._participant = participant
        self._track_source = track_source
        if participant is not None:
            participant._follow(self)
        else:
            self._attach(track)

    # Subclasses say how a sink is opened, and what a native frame becomes.

    def _accepts(self, track: Any) -> bool:
        raise NotImplementedError

    def _open(self, track: Any) -> Any:
        raise NotImplementedError

    def _wrap(self, native_frame: Any) -> Item:
        raise NotImplementedError

    def _attach(self, track: Any) -> None:
        if not self._accepts(track):
            raise ValueError(f"{type(self).__name__} cannot read {track!r}; it reads a subscribed remote track")
        if track._ended or track._transport is None:
            if self._participant is None:
                self._finish()
            return
        self._track = track
        self._sink = self._open(track)
        # Weak, so that a stream which the program dropped without closing stops being decoded.
        reference = weakref.ref(self)

        def listener(event: tuple[Any, ...]) -> None:
            stream = reference()
            if stream is not None:
                stream._on_event(event)

        self._engine.sinks[self._sink.id] = listener
        track._add_stream(self)

    def __del__(self) -> None:
        sink = getattr(self, "_sink", None)
        if sink is not None:
            self._engine.sinks.pop(sink.id, None)
            sink.close()

    def _on_event(self, event: tuple[Any, ...]) -> None:
        if event[0] == "end":
            self._detach()
            if self._participant is None:
                self._finish()
            return
        self._announced = True
        if self._waiters:
            self._fill()
            self._wake()

    def _fill(self) -> None:
        self._announced = False
        if self._sink is not None:
            self._frames.extend(map(self._wrap, self._sink.read()))

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                break

    def _track_ended(self, track: RemoteTrack) -> None:
        if track is not self._track:
            return
        self._detach()
        if self._participant is None:
            self._finish()

    def _detach(self) -> None:
        """Let go of the sink, keeping what it still holds."""
        if self._sink is None:
            return
        self._fill()
        self._engine.sinks.pop(self._sink.id, None)
        self._sink.close()
        self._sink = None
        if self._track is not None:
            self._track._remove_stream(self)
            self._track = None
        if self._frames:
            self._wake()

    def _finish(self) -> None:
        """No more frames will come; waiting iterators end once what is there was read."""
        self._over = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def aclose(self) -> None:
        """Stop. Waiting iterators end. Twice is fine."""
        self._detach()
        self._frames.clear()
        if self._participant is not None:
            self._participant._unfollow(self)
        self._finish()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        while True:
            if self._frames:
                item = self._frames.popleft()
                if self._frames and self._waiters:
                    self._wake()
                return item
            if self._announced:
                self._fill()
                continue
            if self._over:
                raise StopAsyncIteration
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                elif self._frames:
                    self._wake()
                raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
