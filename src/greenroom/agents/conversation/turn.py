"""One turn: the user says something, the agent answers. An explicit object with a state machine and a waterfall."""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Stage", "Turn", "TurnState", "WrongTransition"]


class TurnState(enum.StrEnum):
    LISTENING = "listening"
    """The user speaks, or what was said is being made out."""
    THINKING = "thinking"
    """The answer is being generated; nothing of it is heard yet."""
    SPEAKING = "speaking"
    DONE = "done"
    INTERRUPTED = "interrupted"
    """The user spoke up before the answer was over."""
    FAILED = "failed"


_NEXT: dict[TurnState, frozenset[TurnState]] = {
    TurnState.LISTENING: frozenset({TurnState.THINKING, TurnState.FAILED}),
    TurnState.THINKING: frozenset({TurnState.SPEAKING, TurnState.DONE, TurnState.INTERRUPTED, TurnState.FAILED}),
    TurnState.SPEAKING: frozenset({TurnState.DONE, TurnState.INTERRUPTED, TurnState.FAILED}),
    TurnState.DONE: frozenset(),
    TurnState.INTERRUPTED: frozenset(),
    TurnState.FAILED: frozenset(),
}


class WrongTransition(RuntimeError):
    """A turn was moved to a state that does not follow its present one."""


class Stage(enum.StrEnum):
    """What a turn's waterfall is made of, in order. Times are `time.monotonic()`, of the agent's machine."""

    SPEECH_ENDED = "speech_ended"
    """The last voiced audio arrived."""
    ENDPOINT = "endpoint"
    """The silence was judged to be the end of the utterance."""
    TRANSCRIBED = "transcribed"
    LLM_FIRST_TOKEN = "llm_first_token"
    FIRST_SENTENCE = "first_sentence"
    TTS_FIRST_AUDIO = "tts_first_audio"
    PLAYING = "playing"
    """The first audio of the answer went to the room."""
    LLM_ENDED = "llm_ended"
    TTS_ENDED = "tts_ended"
    ENDED = "ended"


_DURATIONS = {
    "endpointing": (Stage.SPEECH_ENDED, Stage.ENDPOINT),
    "transcription": (Stage.ENDPOINT, Stage.TRANSCRIBED),
    "llm_first_token": (Stage.TRANSCRIBED, Stage.LLM_FIRST_TOKEN),
    "tts_first_audio": (Stage.LLM_FIRST_TOKEN, Stage.TTS_FIRST_AUDIO),
    "playout": (Stage.TTS_FIRST_AUDIO, Stage.PLAYING),
    "total": (Stage.SPEECH_ENDED, Stage.PLAYING),
}


@dataclass(slots=True)
class Turn:
    number: int
    identity: str = ""
    """Who spoke; empty when the agent speaks on its own."""
    user_text: str = ""
    agent_text: str = ""
    """The answer as generated so far."""
    heard_text: str = ""
    """What of it was played: all of `agent_text` unless the turn was interrupted."""
    state: TurnState = TurnState.LISTENING
    error: str = ""
    times: dict[Stage, float] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        return not _NEXT[self.state]

    @property
    def interrupted(self) -> bool:
        return self.state is TurnState.INTERRUPTED

    def move(self, state: TurnState) -> None:
        """Raises WrongTransition when `state` cannot follow."""
        if state not in _NEXT[self.state]:
            raise WrongTransition(f"turn {self.number} is {self.state} and cannot become {state}")
        self.state = state
        if self.over:
            self.mark(Stage.ENDED)

    def mark(self, stage: Stage, at: float | None = None) -> None:
        """Note when a stage was reached. The first time counts."""
        self.times.setdefault(stage, time.monotonic() if at is None else at)

    def not_before(self, at: float) -> None:
        """Count what was prepared earlier as done at `at`: nobody waited for it."""
        for stage in self.times:
            self.times[stage] = max(self.times[stage], at)

    def milliseconds(self) -> dict[str, int]:
        """The waterfall as durations. Stages that were not reached are missing; a typed turn has no speech, so its total
        counts from the text."""
        out = {}
        for name, (begin, end) in _DURATIONS.items():
            if begin is Stage.SPEECH_ENDED and begin not in self.times:
                begin = Stage.TRANSCRIBED
            if begin in self.times and end in self.times and begin is not end:
                out[name] = max(0, round((self.times[end] - self.times[begin]) * 1000))
        return out

    def report(self) -> dict[str, Any]:
        """The body of the message on topic `greenroom.turn`."""
        return {
            "turn": self.number,
            "identity": self.identity,
            "user": self.user_text,
            "agent": self.heard_text,
            "ms": self.milliseconds(),
            "interrupted": self.interrupted,
            **({"error": self.error} if self.error else {}),
        }
