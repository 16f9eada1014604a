"""The agent as others in the room have it: its voice, its state, the captions, and a report of every turn."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from greenroom.agents.captions import AgentCaption, Captions
from greenroom.agents.conversation.options import AgentState
from greenroom.agents.conversation.playout import AudioSink, Playout
from greenroom.agents.conversation.turn import Turn
from greenroom.agents.conversation.voice import Voice, publish_voice
from greenroom.agents.speech.protocols import reason
from greenroom.agents.transcriber import TranscriptionEvent
from greenroom.tasks import Tasks

__all__ = ["STATE_ATTRIBUTE", "TURN_TOPIC", "Presence"]

logger = logging.getLogger("greenroom.conversation")

STATE_ATTRIBUTE = "lk.agent.state"
TURN_TOPIC = "greenroom.turn"


class Presence:
    """Decides nothing: it is told what to show. What the room does not take is logged, and costs no conversation."""

    def __init__(self, room: Any, tasks: Tasks) -> None:
        self._room = room
        self._tasks = tasks
        self._captions = Captions(room)
        self._sink: AudioSink | None = None
        self._make_frame: Callable[[bytes, int], Any] | None = None
        self._voice: Voice | None = None
        self._voice_sid = ""
        self._state = AgentState.INITIALIZING
        self._state_changed = asyncio.Event()
        self._started = False

    @property
    def has_voice(self) -> bool:
        """Whether there is something to speak into."""
        return self._sink is not None

    @property
    def state(self) -> AgentState:
        return self._state

    def use_sink(self, sink: AudioSink, make_frame: Callable[[bytes, int], Any], track_sid: str = "") -> None:
        """Speak into `sink` instead of a track of the room's. Before `start`. It stays its owner's: it is not closed."""
        self._sink, self._make_frame, self._voice_sid = sink, make_frame, track_sid

    async def start(self, sample_rate: int) -> None:
        """Publish the voice, if there is none yet, and the state. Raises what publishing raises; then nothing stays."""
        if self._sink is None:
            self._voice = await publish_voice(self._room, sample_rate)
            self.use_sink(self._voice.source, self._voice.make_frame, self._voice.sid)
        self._started = True
        self._tasks.start(self._publish_state(), "agent state")
        self._state_changed.set()

    def show(self, state: AgentState) -> None:
        if state is not self._state:
            self._state = state
            self._state_changed.set()

    def heard(self, event: TranscriptionEvent, identity: str, track_sid: str) -> None:
        """Caption what a participant says."""
        self._captions.heard(event, identity, track_sid)

    def playout(self, sample_rate: int) -> Playout:
        """For one answer."""
        assert self._sink is not None and self._make_frame is not None, "start() was not called"
        return Playout(self._sink, sample_rate, self._make_frame)

    def answer_caption(self) -> Callable[[str | None], Awaitable[None]]:
        """For one answer: awaited with each sentence when it begins to be heard, with None after the last."""
        caption: AgentCaption | None = None
        lock = asyncio.Lock()
        segment = f"SG_{uuid.uuid4().hex[:12]}"

        async def on_sentence(sentence: str | None) -> None:
            nonlocal caption
            async with lock:
                try:
                    if sentence is None:
                        if caption is not None:
                            await caption.aclose()
                    else:
                        if caption is None:
                            caption = await self._captions.speak(segment, self._voice_sid)
                        await caption.add(sentence)
                except Exception as error:
                    self._captions.lost(error)

        return on_sentence

    async def report(self, turn: Turn) -> None:
        sent = self._room.local_participant.send_text(json.dumps(turn.report()), topic=TURN_TOPIC)
        await self.tell(sent, "a turn's report")

    async def tell(self, work: Awaitable[Any], what: str) -> None:
        """Tell the room something. Of a room that is gone there is nobody left to tell."""
        try:
            await work
        except Exception as error:
            if self._room.isconnected():
                logger.warning("%s was not sent: %s", what, reason(error))

    async def aclose(self) -> None:
        """Take the voice and the state out of the room. A sink that was given stays as it is."""
        await self._captions.aclose()
        if self._voice is not None:
            await self._voice.aclose()
        if self._started:
            # An empty value takes the attribute away.
            await self._set_state("")

    async def _publish_state(self) -> None:
        published = None
        while True:
            await self._state_changed.wait()
            self._state_changed.clear()
            if self._state is not published:
                published = self._state
                # Should it fail, front ends show an old state until the next change; the conversation itself goes on.
                await self._set_state(str(published))

    async def _set_state(self, value: str) -> None:
        changed = self._room.local_participant.set_attributes({STATE_ATTRIBUTE: value})
        await self.tell(changed, "the agent's state")
