"""`greenroom transcribe`: the text of recordings with its times, by the recogniser that listens in calls."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from greenroom.agents.speech.endpointing import Endpointer, EndpointingOptions, SpeechEdge
from greenroom.agents.speech.protocols import STT, VAD, VAD_FRAME_SAMPLES, VAD_SAMPLE_RATE, ProviderError, STTStream
from greenroom.agents.speech.providers import default_stt, default_vad
from greenroom.agents.speech.wav import WavReader
from greenroom.logs import configure_logging
from greenroom.plugins.whisper import Whisper, WhisperStream

__all__ = ["Piece", "pieces", "transcribe"]

FRAME_BYTES = VAD_FRAME_SAMPLES * 2
BLOCK_SECONDS = 10
STANDARD_INPUT = Path("-")
WHOLE = EndpointingOptions(max_utterance=100.0)
"""Whisper cuts what is longer than it can take itself, between two words that it knows."""
FAILED, NO_SPEECH = 1, 6
"""Exit codes: a file could not be read; a provider is missing or failed, as with `greenroom call`."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One utterance of a recording."""

    start: float
    """Seconds from the recording's beginning to that of `pcm`."""
    pcm: bytes
    """Mono int16 at 16 kHz."""

    @property
    def end(self) -> float:
        return self.start + len(self.pcm) / 2 / VAD_SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Heard:
    """What a recogniser makes of a piece. Times in seconds from the recording's beginning."""

    start: float
    end: float
    text: str
    language: str | None = None
    confidence: float | None = None
    words: tuple[dict[str, Any], ...] = ()
    """Only Whisper tells the language and the words."""


def transcribe(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="WAV files of any rate, PCM or floating point; - is standard input."),
    ],
    json_lines: Annotated[bool, typer.Option("--json", help="One JSON object per utterance, with word times.")] = False,
    model: Annotated[str, typer.Option(metavar="NAME", help="A model's name, or its folder.")] = "",
    language: Annotated[str, typer.Option(help="A code such as en, or auto to let the model judge.")] = "en",
    hot_word: Annotated[list[str] | None, typer.Option(help="A name or term that is said. Repeatable.")] = None,
) -> None:
    """Write down what is said in recordings, with times, the way an agent would understand it in a call.

    The recogniser is that of calls; with a model, a language other than en, or hot words it is Whisper.
    Exit codes: 0 all were read; 1 one could not be; 2 wrong usage; 6 the recogniser is missing or failed.
    """
    configure_logging("warning")
    try:
        stt = _recogniser(model, language, hot_word or [])
    except ValueError as error:
        _complain(str(error))
        raise typer.Exit(2) from None
    try:
        unread = asyncio.run(_all(files, stt, json_lines))
    except ProviderError as error:
        _complain(str(error))
        raise typer.Exit(NO_SPEECH) from None
    raise typer.Exit(FAILED if unread else 0)


def _complain(what: str, style: str = "red") -> None:
    Console(stderr=True, highlight=False).print(
        f"greenroom transcribe: {what}", style=style, markup=False, soft_wrap=True
    )


def _recogniser(model: str, language: str, hot_words: list[str]) -> STT:
    """That of calls, unless something is asked for that only Whisper knows. ValueError for wrong usage."""
    stt = default_stt() if not model else None
    if stt is not None and not isinstance(stt, Whisper) and language == "en" and not hot_words:
        return stt
    chosen = stt.model if isinstance(stt, Whisper) else model
    return Whisper(chosen or None, language=None if language == "auto" else language, hot_words=hot_words)


async def _all(files: list[Path], stt: STT, json_lines: bool) -> int:
    """How many could not be read. Raises ProviderError."""
    vad = default_vad()
    await asyncio.to_thread(vad.load)
    await asyncio.to_thread(stt.load)
    unread = 0
    async with aclosing(stt.stream()) as stream:
        for path in files:
            try:
                said = await _one(path, vad, stream, json_lines, len(files) > 1)
            except (OSError, ValueError) as error:
                unread += 1
                why = error.strerror if isinstance(error, OSError) else str(error)
                _complain(f"{path}: {why}")
            else:
                if not said:
                    _complain(f"{path}: no words were heard in it", style="yellow")
    return unread


async def _one(path: Path, vad: VAD, stream: STTStream, json_lines: bool, named: bool) -> int:
    """How many utterances were written down."""
    said = 0
    with WavReader(sys.stdin.buffer if path == STANDARD_INPUT else path) as file:
        if named and not json_lines:
            print(f"{path}:")
        for piece in pieces(file, vad, WHOLE if isinstance(stream, WhisperStream) else None):
            heard = await _heard(stream, piece)
            if heard.text:
                said += 1
                print(json.dumps({"file": str(path), **asdict(heard)}) if json_lines else _line(heard))
                sys.stdout.flush()
    return said


async def _heard(stream: STTStream, piece: Piece) -> Heard:
    if not isinstance(stream, WhisperStream):
        stream.push(piece.pcm)
        transcript = await stream.finish()
        return Heard(round(piece.start, 2), round(piece.end, 2), transcript.text, confidence=transcript.confidence)
    result = await stream.recognise(piece.pcm, words=True)
    times = result.words or result.segments
    return Heard(
        round(piece.start + (times[0].start if times else 0), 2),
        round(piece.start + (times[-1].end if times else 0), 2),
        result.text,
        result.language,
        round(math.exp(result.log_probability), 3),
        tuple(
            {
                "text": word.text,
                "start": round(piece.start + word.start, 2),
                "end": round(piece.start + word.end, 2),
                "probability": round(word.probability, 3),
            }
            for word in result.words
        ),
    )


def pieces(file: WavReader, vad: VAD, options: EndpointingOptions | None = None) -> Iterator[Piece]:
    """The utterances of a recording, found as in a call."""
    endpointer, activity = Endpointer(options), vad.stream()
    pre_roll: deque[bytes] = deque(maxlen=math.ceil(endpointer.options.pre_roll * VAD_SAMPLE_RATE / VAD_FRAME_SAMPLES))
    spoken = bytearray()
    count, start = 0, 0
    rest = b""
    for block in (*_mono_16k(file), bytes(FRAME_BYTES)):
        rest += block
        for at in range(0, len(rest) - FRAME_BYTES + 1, FRAME_BYTES):
            frame = rest[at : at + FRAME_BYTES]
            count += 1
            was = endpointer.speaking
            edges = endpointer.update(activity.probability(frame))
            if SpeechEdge.STARTED in edges:
                spoken = bytearray(b"".join((*pre_roll, frame)))
                start = count * FRAME_BYTES - len(spoken)
                pre_roll.clear()
            elif was:
                spoken += frame
            else:
                pre_roll.append(frame)
            if SpeechEdge.ENDED in edges:
                yield Piece(start / 2 / VAD_SAMPLE_RATE, bytes(spoken))
        rest = rest[len(rest) - len(rest) % FRAME_BYTES :]
    if endpointer.speaking:
        yield Piece(start / 2 / VAD_SAMPLE_RATE, bytes(spoken))


def _mono_16k(file: WavReader) -> Iterator[bytes]:
    from greenroom import rtc

    resampler = rtc.AudioResampler(file.rate, VAD_SAMPLE_RATE) if file.rate != VAD_SAMPLE_RATE else None
    while len(samples := file.read(BLOCK_SECONDS * file.rate)):
        pcm = samples.tobytes()
        if resampler is None:
            yield pcm
        else:
            yield from (bytes(frame.data.cast("B")) for frame in resampler.push(bytearray(pcm)))
    if resampler is not None:
        yield from (bytes(frame.data.cast("B")) for frame in resampler.flush())


def _line(heard: Heard) -> str:
    return f"[{_clock(heard.start)} - {_clock(heard.end)}] {heard.text}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes):02}:{rest:05.2f}"
