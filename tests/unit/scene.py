"""A conversation on fake providers and a fake room, for tests of what it does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from greenroom.agents.conversation import Conversation, ConversationOptions, Turn
from greenroom.agents.speech import EndpointingOptions
from tests.conftest import until
from tests.unit.speech_fakes import (
    FakeLLM,
    FakeReader,
    FakeRemote,
    FakeRoom,
    FakeSink,
    FakeSTT,
    FakeTrack,
    FakeTTS,
    FakeVAD,
)

QUICK = EndpointingOptions(pause=0.064, silence=0.128, unfinished_silence=0.128)


@dataclass
class Scene:
    room: FakeRoom = field(default_factory=FakeRoom)
    sink: FakeSink = field(default_factory=FakeSink)
    stt: Any = field(default_factory=FakeSTT)
    tts: Any = field(default_factory=FakeTTS)
    llm: Any = field(default_factory=FakeLLM)
    track: FakeTrack = field(default_factory=FakeTrack)
    turns: list[Turn] = field(default_factory=list)
    endpointing: EndpointingOptions = QUICK
    options: ConversationOptions = field(default_factory=lambda: ConversationOptions(interrupt_after=0.05))
    conversation: Conversation = None  # type: ignore[assignment]

    async def open(self) -> Scene:
        self.conversation = Conversation(
            self.room,
            stt=self.stt,
            vad=FakeVAD(),
            tts=self.tts,
            llm=self.llm,
            options=self.options,
            endpointing=self.endpointing,
            on_turn=self.turns.append,
        )
        self.conversation.use_sink(self.sink, lambda pcm, rate: pcm, "TR_voice")
        await self.conversation.start()
        self.conversation.listen(self.track, FakeRemote())
        return self

    async def say(self, seconds: float = 0.2) -> None:
        await self.track.talk(seconds)
        await self.track.hush(0.2)

    def type(self, text: str, identity: str = "alice") -> None:
        self.room.handlers["lk.chat"](FakeReader(text), identity)

    async def turn(self, number: int = 1) -> Turn:
        await until(lambda: len(self.turns) >= number, f"turn {number} is over")
        return self.turns[number - 1]

    def captions(self, sender: str) -> list[dict]:
        return [stream for stream in self.room.local_participant.streams if stream["sender"] == sender]
