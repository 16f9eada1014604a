"""What a speech or language provider must offer.

The protocols are structural: a provider need not import anything from here. All audio is mono int16 PCM in machine byte
order. No method blocks the event loop: heavy work belongs in a thread or another process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

__all__ = [
    "LLM",
    "STT",
    "TTS",
    "VAD",
    "VAD_FRAME_SAMPLES",
    "VAD_SAMPLE_RATE",
    "ChatMessage",
    "MissingProvider",
    "PartialCallback",
    "ProviderError",
    "Role",
    "STTStream",
    "Transcript",
    "VADStream",
    "reason",
]

VAD_SAMPLE_RATE = 16_000
"""Hz. Voice activity is judged on, and recognisers are fed with, 16 kHz audio."""

VAD_FRAME_SAMPLES = 512
"""Samples per voice-activity decision (32 ms)."""

Role = Literal["system", "user", "assistant"]
PartialCallback = Callable[[str], None]


class ProviderError(RuntimeError):
    """A provider failed: its process ended, its service refused, its answer made no sense."""


def reason(error: BaseException) -> str:
    """What went wrong, in words for a report. A provider says so itself; of anything else the kind is named too."""
    text = str(error)
    if isinstance(error, ProviderError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class MissingProvider(ProviderError):
    """A provider is not installed. The text says what adds it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what} is not available: {remedy}")
        self.what = what
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class ChatMessage:
    role: Role
    content: str
    interrupted: bool = False
    """The listener spoke up before all of it was heard; `content` is what was heard."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a recogniser understood in one utterance."""

    text: str
    """Lower or mixed case, possibly empty when nothing was understood."""
    confidence: float | None = None
    """0..1 where the provider knows, else None."""
    alternatives: tuple[str, ...] = field(default=())


class VADStream(Protocol):
    """Voice activity of one audio track."""

    def probability(self, frame: bytes) -> float:
        """Probability of speech (0..1) in the next `VAD_FRAME_SAMPLES` samples (1,024 bytes)."""

    def reset(self) -> None: ...


@runtime_checkable
class VAD(Protocol):
    def load(self) -> None:
        """Bring the model into memory. Blocking; meant for a worker's warm image. Raises MissingProvider."""

    def stream(self) -> VADStream: ...


class STTStream(Protocol):
    """Recognition of one track, utterance after utterance. All methods are called from one event loop."""

    def push(self, pcm: bytes) -> None:
        """More 16 kHz audio of the current utterance. Never blocks."""

    def pause(self) -> None:
        """The speaker fell silent and may be done: a good moment to prepare the final text."""

    def resume(self) -> None:
        """The speaker went on after `pause`: what was prepared is void."""

    async def finish(self) -> Transcript:
        """End the utterance and return its final text. Raises ProviderError. What is pushed while it is awaited belongs
        to the next utterance: what there is must be set aside before the first `await` of its own."""

    def discard(self) -> None:
        """Forget the current utterance."""

    async def aclose(self) -> None: ...


@runtime_checkable
class STT(Protocol):
    def load(self) -> None:
        """Bring the model into memory. Blocking. Raises MissingProvider."""

    def stream(self, on_partial: PartialCallback | None = None) -> STTStream:
        """`on_partial(text)` is called in the event loop with the whole utterance understood so far."""


@runtime_checkable
class TTS(Protocol):
    @property
    def sample_rate(self) -> int: ...

    def load(self) -> None:
        """Check that the synthesiser is there. Raises MissingProvider."""

    def synthesize(self, text: str) -> AsyncIterator[bytes]:
        """Speech for one sentence as PCM chunks of any size, first chunk as soon as possible. Closing the iterator early
        stops the work. Raises ProviderError."""


@runtime_checkable
class LLM(Protocol):
    def chat(self, messages: Sequence[ChatMessage]) -> AsyncIterator[str]:
        """The assistant's next message as text deltas. Closing the iterator early stops the work. Raises ProviderError."""
