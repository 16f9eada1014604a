"""Recognisers on recordings of people: words wrong, cost, what a caller waits for after the end of speech, memory.

The recordings are those of `tests/speech_clips.toml`, fetched once. Nothing else should run meanwhile: the first figure is the
machine's load, without which the others say little.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import time
import wave
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

from greenroom import models, rtc
from greenroom.agents.speech.numbers import parse_number, say_number, tokenize
from greenroom.agents.speech.protocols import STT, ProviderError

from .figures import Figure, emit, percentile, say
from .target import Options

RATE = 16_000
FRAME = 1_024
FRAME_SECONDS = 0.032
BEFORE, PAUSE, SILENCE = 0.4, 0.16, 0.48
"""Seconds of silence before the speech, to the pause and to the end of an utterance: the defaults of end-pointing."""
PACED = 40
"""Recordings that are played in real time."""


async def run(options: Options) -> None:
    from tests.speech_clips import clips, jfk

    try:
        recordings = [*clips(), jfk()]
    except models.ModelError as error:
        say(f"recognition: {error}")
        return
    if options.quick:
        recordings = recordings[::10]
    emit(Figure("recognition", "load_at_start", os.getloadavg()[0], "processes"))
    audio = [(_read(clip.path), _words(clip.text)) for clip in recordings]
    for name, make in _recognisers().items():
        stt = make()
        await asyncio.to_thread(stt.load)
        await _accuracy(name, stt, audio)
        await _waiting(name, stt, audio[:: max(1, len(audio) // (8 if options.quick else PACED))])
        for pid in _children(name):
            emit(Figure("recognition", f"{name}_memory", _memory(pid), "MB", better="lower"))
    emit(Figure("recognition", "load_at_end", os.getloadavg()[0], "processes"))


def _recognisers() -> dict[str, Callable[[], STT]]:
    from greenroom.plugins.pocketsphinx import PocketSphinx
    from greenroom.plugins.whisper import Whisper

    found: dict[str, Callable[[], STT]] = {}
    for name in ("whisper-base", "whisper-tiny"):
        if Whisper(name).missing() is None:
            found[name] = lambda name=name: Whisper(name)  # type: ignore[misc]
    if importlib.util.find_spec("pocketsphinx") is not None:
        found["pocketsphinx"] = PocketSphinx
    return found


async def _accuracy(name: str, stt: STT, audio: list[tuple[bytes, list[str]]]) -> None:
    wrong = words = unanswered = 0
    seconds = 0.0
    began = time.monotonic()
    async with aclosing(stt.stream()) as stream:  # type: ignore[type-var]
        for pcm, said in audio:
            stream.push(bytes(int(BEFORE * RATE) * 2) + pcm + bytes(int(PAUSE * RATE) * 2))
            try:
                heard = _words((await stream.finish()).text)
            except ProviderError as error:
                say(f"{name}: {error}")
                heard = []
                unanswered += 1
            wrong += word_errors(said, heard)
            words += len(said)
            seconds += len(pcm) / 2 / RATE
    took = time.monotonic() - began
    emit(Figure("recognition", f"{name}_words_wrong", 100 * wrong / words, "%", better="lower"))
    emit(Figure("recognition", f"{name}_without_text_in_time", unanswered, "recordings", better="lower"))
    emit(Figure("recognition", f"{name}_real_time_factor", took / seconds, "", better="lower"))


async def _waiting(name: str, stt: STT, audio: list[tuple[bytes, list[str]]]) -> None:
    """From the end-pointer's decision to the text, with partial texts and in real time, as in a call."""
    waits = []
    for pcm, _ in audio:
        async with aclosing(stt.stream(lambda text: None)) as stream:  # type: ignore[type-var]
            silence = bytes(int(BEFORE * RATE) * 2)
            whole = silence + pcm + bytes(int(SILENCE * RATE) * 2)
            pause_at = len(silence) + len(pcm) + int(PAUSE * RATE) * 2
            paused = False
            began = time.monotonic()
            for at in range(0, len(whole), FRAME):
                await asyncio.sleep(max(0.0, began + at / FRAME * FRAME_SECONDS - time.monotonic()))
                stream.push(whole[at : at + FRAME])
                if at >= pause_at and not paused:
                    paused = True
                    stream.pause()
            ended = time.monotonic()
            await stream.finish()
            waits.append(1_000 * (time.monotonic() - ended))
    for part in (50, 95):
        emit(
            Figure(
                "recognition", f"{name}_text_after_the_end_p{part}", percentile(waits, part / 100), "ms", better="lower"
            )
        )


def _children(name: str) -> list[int]:
    module = (
        "greenroom.plugins.whisper.server" if name.startswith("whisper") else "greenroom.plugins.pocketsphinx_server"
    )
    found = []
    for folder in Path("/proc").iterdir():
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_bytes().decode(errors="replace")
        except (OSError, ValueError, IndexError):
            continue
        if parent == os.getpid() and module in command:
            found.append(int(folder.name))
    # The newest is the one just measured.
    return sorted(found)[-1:]


def _memory(pid: int) -> float:
    """Proportional set size in MB."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.findall(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)[0]) / 1_024


def _read(path: Path) -> bytes:
    with wave.open(str(path), "rb") as file:
        rate, pcm = file.getframerate(), file.readframes(file.getnframes())
    if rate == RATE:
        return pcm
    resampler = rtc.AudioResampler(rate, RATE)
    return b"".join(bytes(frame.data.cast("B")) for frame in (*resampler.push(bytearray(pcm)), *resampler.flush()))


def _words(text: str) -> list[str]:
    """Lower case, without punctuation; numbers the same in words and in digits."""
    tokens: list[Any] = [token for token in tokenize(text) if token[0].isalnum()]
    words, at = [], 0
    while at < len(tokens):
        number = parse_number(tokens, at) if tokens[at] not in ("a", "an") else None
        if number is None:
            words.append(tokens[at].replace("'", ""))
            at += 1
        else:
            words.append(say_number(number[0]))
            at = number[1]
    return words


def word_errors(said: list[str], heard: list[str]) -> int:
    """How many words are wrong, missing or too many."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, 1):
        before, row[0] = row[:], i
        for j, other in enumerate(heard, 1):
            row[j] = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (word != other))
    return row[-1]
