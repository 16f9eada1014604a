"""Recognisers, given one utterance after the other."""

from __future__ import annotations

import asyncio
import importlib.util
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from greenroom.agents.speech.protocols import STT, ProviderError

from .figures import say
from .sound import RATE, read_wav
from .words import word_errors, words

__all__ = ["BEFORE", "PAUSE", "SILENCE", "Heard", "Spoken", "recognisers", "recordings", "write_down"]

BEFORE, PAUSE, SILENCE = 0.4, 0.16, 0.48
"""Seconds of silence before the speech, to the pause and to the end of an utterance: the defaults of end-pointing."""


@dataclass(frozen=True)
class Spoken:
    """An utterance whose words are known."""

    pcm: bytes
    """16 kHz."""
    text: str

    @property
    def seconds(self) -> float:
        return len(self.pcm) / 2 / RATE


@dataclass(frozen=True)
class Heard:
    wrong: int
    """Words."""
    words: int
    """That were said."""
    seconds: float
    """Of speech."""
    took: float
    """Seconds."""
    text: str | None
    """None: the recogniser gave none in time."""

    @classmethod
    def of(cls, spoken: Spoken, text: str | None, took: float) -> Heard:
        said = words(spoken.text)
        return cls(word_errors(said, words(text or "")), len(said), spoken.seconds, took, text)


def recordings() -> list[Spoken]:
    """Of people: 200 telephone prompts and one old speech. Fetches them when they are not there; raises `ModelError`."""
    from tests.speech_clips import clips, jfk

    return [_read(clip.path, clip.text) for clip in (*clips(), jfk())]


def _read(path: Path, text: str) -> Spoken:
    return Spoken(read_wav(path), text)


def recognisers() -> dict[str, Callable[[], STT]]:
    """Those that are on this machine."""
    from greenroom.plugins.pocketsphinx import PocketSphinx
    from greenroom.plugins.whisper import Whisper

    found: dict[str, Callable[[], STT]] = {}
    for name in ("whisper-base", "whisper-tiny"):
        if (missing := Whisper(name).missing()) is None:
            found[name] = lambda name=name: Whisper(name)  # type: ignore[misc]
        else:
            say(missing)
    if importlib.util.find_spec("pocketsphinx") is not None:
        found["pocketsphinx"] = PocketSphinx
    return found


async def write_down(stt: STT, utterances: Sequence[Spoken]) -> AsyncGenerator[Heard, None]:
    """As fast as it can; the audio of an utterance is there at once."""
    await asyncio.to_thread(stt.load)
    async with aclosing(stt.stream()) as stream:  # type: ignore[type-var]
        for spoken in utterances:
            began = time.monotonic()
            stream.push(bytes(int(BEFORE * RATE) * 2) + spoken.pcm + bytes(int(PAUSE * RATE) * 2))
            text: str | None = None
            try:
                text = (await stream.finish()).text
            except ProviderError as error:
                say(str(error))
            yield Heard.of(spoken, text, time.monotonic() - began)
