"""What a synthetic caller says: texts to be synthesised, or recordings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np

from greenroom.agents.speech.numbers import parse_number, say_number
from greenroom.agents.speech.protocols import TTS
from greenroom.agents.speech.wav import WavError, WavReader

__all__ = ["Line", "UnreadableRecording", "Utterance", "agreement", "load_wav", "speak"]

AUDIBLE = 300
"""Peak amplitude of audible speech."""
MAX_WAV_SECONDS = 600


class UnreadableRecording(ValueError):
    """A file that cannot be played. The text names it and says why."""


@dataclass(frozen=True, slots=True)
class Line:
    """One thing to say: a text, or a WAV file."""

    text: str = ""
    wav: Path | None = None

    def __str__(self) -> str:
        return self.text or f"[{self.wav.name if self.wav else 'nothing'}]"


@dataclass(frozen=True, slots=True)
class Utterance:
    line: Line
    pcm: bytes
    """Mono int16."""
    sample_rate: int
    speech_end: float
    """Seconds from the beginning to the last audible sample."""

    @property
    def duration(self) -> float:
        return len(self.pcm) / 2 / self.sample_rate


def _utterance(line: Line, samples: np.ndarray, rate: int) -> Utterance:
    audible = np.flatnonzero(np.abs(samples.astype(np.int32)) > AUDIBLE)
    end = (int(audible[-1]) + 1) / rate if len(audible) else len(samples) / rate
    return Utterance(line, samples.astype(np.int16).tobytes(), rate, end)


async def speak(line: Line, tts: TTS) -> Utterance:
    """The line as audio. Raises ProviderError, or UnreadableRecording for a file that `WavReader` does not read."""
    if line.wav is not None:
        return load_wav(line.wav)
    pcm = b"".join([chunk async for chunk in tts.synthesize(line.text)])
    return _utterance(line, np.frombuffer(pcm, np.int16), tts.sample_rate)


def load_wav(path: Path) -> Utterance:
    """Raises UnreadableRecording with what is wrong with the file."""
    try:
        with WavReader(path) as file:
            samples = file.read(MAX_WAV_SECONDS * file.rate + 1)
    except OSError as error:
        raise UnreadableRecording(f"{path}: not a readable WAV file ({error.strerror or error})") from None
    except WavError as error:
        raise UnreadableRecording(f"{path}: not a readable WAV file ({error})") from None
    if len(samples) > MAX_WAV_SECONDS * file.rate:
        raise UnreadableRecording(f"{path}: longer than {MAX_WAV_SECONDS} s")
    if not len(samples):
        raise UnreadableRecording(f"{path}: there is no audio in it")
    return _utterance(Line(wav=path), samples, file.rate)


def _words(text: str) -> list[str]:
    tokens = re.findall(r"[a-z]+(?:'[a-z]+)?|\d+(?:\.\d+)?", re.sub(r"(?<=[a-z])-(?=[a-z])", " ", text.lower()))
    words, at = [], 0
    while at < len(tokens):
        number = parse_number(tokens, at) if tokens[at] not in ("a", "an") else None
        if number is not None:
            words.append(say_number(number[0]))
            at = number[1]
        else:
            words.append(tokens[at])
            at += 1
    return words


def agreement(said: str, understood: str) -> float:
    """0..1: how much of what was said was understood, word by word; numbers count the same in words and digits."""
    left, right = _words(said), _words(understood)
    if not left:
        return 1.0
    matched = sum(block.size for block in SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks())
    return matched / max(len(left), len(right))
