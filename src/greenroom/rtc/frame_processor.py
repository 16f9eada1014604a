"""A filter that runs on every frame of an `AudioStream`, for example noise cancellation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from .log import logger

T = TypeVar("T")


class FrameProcessor(ABC, Generic[T]):
    """Subclass and pass an instance as `noise_cancellation`. The hooks tell it whose stream it works on."""

    @property
    @abstractmethod
    def enabled(self) -> bool:
        """False lets frames pass untouched."""

    @enabled.setter
    @abstractmethod
    def enabled(self, value: bool) -> None: ...

    @abstractmethod
    def _process(self, frame: T) -> T:
        """Return the frame to deliver. When this raises, the original frame is delivered and the error is logged."""

    @abstractmethod
    def _close(self) -> None:
        """The stream is closed."""

    def _on_stream_info_updated(self, *, room_name: str, participant_identity: str, publication_sid: str) -> None:
        """Called when the track is in a room, and again when its publication changes."""

    def _on_stream_info_cleared(self) -> None:
        """Called when the track has left the room."""

    def _on_credentials_updated(self, *, token: str, url: str) -> None:
        """Called with the room's token, and with each refreshed one."""

    def _on_credentials_cleared(self) -> None:
        """Called when the track has left the room."""


@dataclass
class NoiseCancellationOptions:
    """Names a native filter module of the `livekit` package. Greenroom has none: audio passes unfiltered."""

    module_id: str
    options: dict[str, Any]


@dataclass
class StreamPlace:
    """Whose sound it is, and what the room was joined with: what a processor is told."""

    room_name: str
    participant_identity: str
    publication_sid: str
    token: str | None
    url: str | None


def tell_place(processor: FrameProcessor[Any], place: StreamPlace | None) -> None:
    """`place` None: the track is in no room. A processor that raises disturbs nobody else."""
    try:
        if place is None:
            processor._on_stream_info_cleared()
            processor._on_credentials_cleared()
            return
        processor._on_stream_info_updated(
            room_name=place.room_name,
            participant_identity=place.participant_identity,
            publication_sid=place.publication_sid,
        )
        if place.token is not None and place.url is not None:
            processor._on_credentials_updated(token=place.token, url=place.url)
    except Exception:
        logger.exception("the frame processor %r failed", processor)


def filter_frame(processor: FrameProcessor[T], frame: T) -> T:
    """The frame to deliver: what the processor makes of it, or the frame itself when it cannot."""
    if not processor.enabled:
        return frame
    try:
        return processor._process(frame)
    except Exception:
        logger.warning("the frame processor failed; the frame passes unfiltered", exc_info=True)
        return frame


def close_processor(processor: FrameProcessor[Any]) -> None:
    processor._close()
