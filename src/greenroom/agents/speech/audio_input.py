"""16 kHz mono PCM from whatever a program has: a room's track, or frames of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from greenroom.agents.speech.protocols import VAD_SAMPLE_RATE

__all__ = ["pcm_16k"]

FRAME_MS = 20


async def pcm_16k(audio: Any) -> AsyncIterator[bytes]:
    """Mono int16 chunks at 16 kHz. `audio`: a subscribed audio track, or an async iterable of such chunks.

    Ends when the track or the iterable ends.
    """
    if hasattr(audio, "__aiter__"):
        async for chunk in audio:
            yield bytes(chunk)
        return
    from greenroom import rtc

    stream = rtc.AudioStream(audio, sample_rate=VAD_SAMPLE_RATE, num_channels=1, frame_size_ms=FRAME_MS)
    try:
        async for event in stream:
            yield bytes(event.frame.data.cast("B"))
    finally:
        await stream.aclose()
