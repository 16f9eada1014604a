"""The agent's voice as a published track."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["VOICE_TRACK", "Voice", "publish_voice"]

VOICE_TRACK = "agent-voice"
VOICE_QUEUE_MS = 200


@dataclass(frozen=True, slots=True)
class Voice:
    room: Any
    source: Any
    track: Any
    publication: Any

    @property
    def sid(self) -> str:
        return str(self.publication.sid)

    @staticmethod
    def make_frame(pcm: bytes, rate: int) -> Any:
        from greenroom import rtc

        return rtc.AudioFrame(pcm, rate, 1, len(pcm) // 2)

    async def aclose(self) -> None:
        """Take the track out of the room, and give its queue back."""
        from greenroom import rtc

        # A full reconnect gives the publication another sid.
        if self.sid in self.room.local_participant.track_publications:
            try:
                await self.room.local_participant.unpublish_track(self.sid)
            except rtc.UnpublishTrackError:
                # Somebody else was faster; it is gone.
                return
            finally:
                await self.source.aclose()
        else:
            await self.source.aclose()


async def publish_voice(room: Any, sample_rate: int) -> Voice:
    """Raises what `publish_track` raises; then nothing stays."""
    from greenroom import rtc

    source = rtc.AudioSource(sample_rate, 1, queue_size_ms=VOICE_QUEUE_MS)
    track = rtc.LocalAudioTrack.create_audio_track(VOICE_TRACK, source)
    options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
    try:
        publication = await room.local_participant.publish_track(track, options)
    except BaseException:
        await source.aclose()
        raise
    return Voice(room, source, track, publication)
