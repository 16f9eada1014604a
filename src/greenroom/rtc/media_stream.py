"""What audio and video streams share: an async iterator over a native sink."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from .engine import Engine, get_engine
from .enums import TrackKind
from .participant import core_of
from .track import RemoteTrackCore, remote_core

if TYPE_CHECKING:
    from .frame_processor import StreamPlace
    from .participant import Participant
    from .track import Track

Item = TypeVar("Item")


class FrameReader(Generic[Item]):
    """What works behind a stream: it takes the frames of one track at a time out of a native sink.

    Decoded frames wait in the sink. When it announces some and somebody waits, they are taken in one batch; when nobody
    waits, they stay there until the next read, so that a slow program costs nothing. Tracks and participants hold a reader
    weakly, its stream alone holds it: a stream that the program dropped without closing stops being decoded.
    """

    kinds: ClassVar[frozenset[TrackKind]]
    """Of the tracks that it reads."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._engine: Engine = get_engine(loop)
        self._loop = self._engine.loop
        self._track: RemoteTrackCore | None = None
        self._sink: Any = None
        self._announced = False
        self._frames: deque[Item] = deque()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._over = False
        self.follows = False
        """It reads whatever track a participant has with `track_source`, one after the other."""
        self.track_source: int | None = None

    # Subclasses say how a sink is opened, and what a native frame becomes.

    def open(self, track: RemoteTrackCore) -> Any:
        raise NotImplementedError

    def wrap(self, native_frame: Any) -> Item:
        raise NotImplementedError

    def inform(self, place: StreamPlace | None) -> None:
        """Where the track is has changed."""

    @property
    def attached(self) -> bool:
        return self._sink is not None

    def attach(self, track: RemoteTrackCore) -> None:
        """Read this track, which is of one of our kinds."""
        if track.ended or track.transport is None:
            if not self.follows:
                self.finish()
            return
        self._track = track
        self._sink = self.open(track)
        reference = weakref.ref(self)

        def listener(event: tuple[Any, ...]) -> None:
            reader = reference()
            if reader is not None:
                reader._on_event(event)

        self._engine.sinks[self._sink.id] = listener
        track.readers.add(self)

    def __del__(self) -> None:
        sink = getattr(self, "_sink", None)
        if sink is not None:
            self._engine.sinks.pop(sink.id, None)
            sink.close()

    def _on_event(self, event: tuple[Any, ...]) -> None:
        if event[0] == "end":
            self._detach()
            if not self.follows:
                self.finish()
            return
        self._announced = True
        if self._waiters:
            self._fill()
            self._wake()

    def _fill(self) -> None:
        self._announced = False
        if self._sink is not None:
            self._frames.extend(map(self.wrap, self._sink.read()))

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                break

    def track_ended(self, track: RemoteTrackCore) -> None:
        if track is not self._track:
            return
        self._detach()
        if not self.follows:
            self.finish()

    def _detach(self) -> None:
        """Let go of the sink, keeping what it still holds."""
        if self._sink is None:
            return
        self._fill()
        self._engine.sinks.pop(self._sink.id, None)
        self._sink.close()
        self._sink = None
        if self._track is not None:
            self._track.readers.discard(self)
            self._track = None
        if self._frames:
            self._wake()

    def finish(self) -> None:
        """No more frames will come; waiting iterators end once what is there was read."""
        self._over = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    def close(self) -> None:
        """Waiting iterators end. Twice is fine."""
        self._detach()
        self._frames.clear()
        self.finish()

    async def next(self) -> Item:
        """StopAsyncIteration when no more frames will come."""
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


class MediaStream(Generic[Item]):
    """Frames of a track, or of whatever track a participant has with a given source."""

    def __init__(
        self, reader: FrameReader[Item], track: Track | None, participant: Participant | None, track_source: int | None
    ) -> None:
        self._reader = reader
        self._participant = participant
        if participant is not None:
            reader.follows, reader.track_source = True, track_source
            core_of(participant).follow(reader)
            return
        core = remote_core(track)
        if core is None or core.kind not in reader.kinds:
            raise ValueError(f"{type(self).__name__} cannot read {track!r}; it reads a subscribed remote track")
        reader.attach(core)

    async def aclose(self) -> None:
        """Stop. Waiting iterators end. Twice is fine."""
        if self._participant is not None:
            core_of(self._participant).unfollow(self._reader)
        self._reader.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        return await self._reader.next()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
