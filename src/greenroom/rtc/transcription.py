"""What somebody said, as text with times."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class TranscriptionSegment:
    """A stretch of speech. A later segment with the same `id` replaces it until `final`. Times in milliseconds."""

    id: str
    text: str
    start_time: int
    end_time: int
    language: str
    final: bool


@dataclass
class Transcription:
    """Segments of what `participant_identity` said on `track_sid`."""

    participant_identity: str
    track_sid: str
    segments: list[TranscriptionSegment]
