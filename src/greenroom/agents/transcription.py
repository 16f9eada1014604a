"""The transcriber under the names of the talk "Software Participants in WebRTC Calls"."""

from greenroom.agents.transcriber import (
    EVENT_TYPE_FINAL,
    EVENT_TYPE_PARTIAL,
    EVENT_TYPE_TALKING_FINISHED,
    EVENT_TYPE_TALKING_STARTED,
    EventType,
    Transcriber,
    TranscriptionEvent,
)

__all__ = [
    "EVENT_TYPE_FINAL",
    "EVENT_TYPE_PARTIAL",
    "EVENT_TYPE_TALKING_FINISHED",
    "EVENT_TYPE_TALKING_STARTED",
    "EventType",
    "Transcriber",
    "TranscriptionEvent",
]
