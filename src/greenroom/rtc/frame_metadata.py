"""What is said about a picture, between programs' records and the native core."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .log import logger
from .messages import FrameMetadata

if TYPE_CHECKING:
    from greenroom._native import FrameWords

ROOM = 250
"""Bytes for all fields: a trailer has 255, five of which mark it as one."""
TIMESTAMP_SIZE, ID_SIZE, DATA_OVERHEAD = 10, 6, 2


def to_native(metadata: FrameMetadata | None) -> FrameWords | None:
    """None when nothing is set. User data that does not fit beside the other fields is left out, with a warning, as the
    official package does: a picture is worth more than what is said about it.

    Raises:
        ValueError: `user_timestamp` needs more than 64 bits or `frame_id` more than 32, or one is negative.
    """
    if metadata is None:
        return None
    timestamp = _number(metadata, "user_timestamp", 64)
    frame_id = _number(metadata, "frame_id", 32)
    data = bytes(metadata.user_data)
    room = ROOM - DATA_OVERHEAD - TIMESTAMP_SIZE * (timestamp is not None) - ID_SIZE * (frame_id is not None)
    if len(data) > room:
        logger.warning("%d bytes of user data are not sent with a picture: there is room for %d", len(data), room)
        data = b""
    return (timestamp, frame_id, data) if timestamp is not None or frame_id is not None or data else None


def _number(metadata: FrameMetadata, name: str, bits: int) -> int | None:
    if not metadata.HasField(name):
        return None
    value = int(getattr(metadata, name))
    if not 0 <= value < 1 << bits:
        raise ValueError(f"{name} of a frame is between 0 and 2**{bits} - 1, not {value}")
    return value


def from_native(words: FrameWords | None) -> FrameMetadata | None:
    """A record in which exactly the fields that came are set."""
    if words is None:
        return None
    timestamp, frame_id, data = words
    return FrameMetadata(user_timestamp=timestamp, frame_id=frame_id, user_data=data or None)
