"""Captions on topic `lk.transcription`, in the form that the official front ends read.

A caption is a text stream whose attributes name its segment (`lk.segment_id`), the track that was heard or is spoken
(`lk.transcribed_track_id`) and whether it will change any more (`lk.transcription_final`). What a user says is sent anew,
whole, at every change, in the user's name. What the agent says is one stream to which text is added.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import Any

from greenroom.agents.speech.sentences import join
from greenroom.agents.transcriber import EventType, TranscriptionEvent

__all__ = ["FINAL", "SEGMENT", "TOPIC", "TRACK", "AgentCaption", "Captions"]

logger = logging.getLogger("greenroom.captions")

TOPIC = "lk.transcription"
SEGMENT = "lk.segment_id"
TRACK = "lk.transcribed_track_id"
FINAL = "lk.transcription_final"
MAX_WAITING = 64


class Captions:
    """Publishes captions in the background. A partial that is overtaken by a newer one of its segment is not sent."""

    def __init__(self, room: Any) -> None:
        """`room`: a connected `rtc.Room`."""
        self._room = room
        self._participant = room.local_participant
        self._waiting: OrderedDict[str, tuple[str, dict[str, str], str]] = OrderedDict()
        self._some = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def heard(self, event: TranscriptionEvent, identity: str, track_sid: str) -> None:
        """Caption a transcriber's event about a remote participant. Events without text are ignored."""
        if event.type not in (EventType.PARTIAL, EventType.FINAL) or not event.text:
            return
        final = event.type is EventType.FINAL
        attributes = {FINAL: "true" if final else "false", SEGMENT: event.segment_id, TRACK: track_sid}
        self._waiting[event.segment_id] = (event.text, attributes, identity)
        while len(self._waiting) > MAX_WAITING:
            self._waiting.popitem(last=False)
        self._some.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="captions")

    async def speak(self, segment_id: str, track_sid: str) -> AgentCaption:
        """Open the caption of what the agent says."""
        attributes = {FINAL: "false", SEGMENT: segment_id, TRACK: track_sid}
        writer = await self._participant.stream_text(topic=TOPIC, attributes=attributes)
        return AgentCaption(writer, attributes)

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._some.wait()
            if not self._waiting:
                self._some.clear()
                continue
            _, (text, attributes, identity) = self._waiting.popitem(last=False)
            try:
                writer = await self._participant.stream_text(
                    topic=TOPIC, attributes=attributes, sender_identity=identity
                )
                await writer.write(text)
                await writer.aclose()
            except Exception as error:
                self.lost(error)

    def lost(self, error: Exception) -> None:
        """A caption is not worth a conversation. Of a room that is gone there is nobody left to read it."""
        if self._room.isconnected():
            logger.warning("a caption was not sent: %s", error)


class AgentCaption:
    def __init__(self, writer: Any, attributes: dict[str, str]) -> None:
        self._writer = writer
        self._attributes = attributes
        self._written = ""

    async def add(self, sentence: str) -> None:
        added = join((self._written, sentence)) if self._written else sentence
        await self._writer.write(added[len(self._written) :])
        self._written = sentence

    async def aclose(self) -> None:
        await self._writer.aclose(attributes={**self._attributes, FINAL: "true"})
