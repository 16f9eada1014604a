"""The voices on this machine: how soon the first sound is there, what a second of speech costs, and what memory it takes.

No server and no room: what is timed is `synthesize`, as an agent calls it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

from greenroom.agents.speech.protocols import TTS, MissingProvider
from greenroom.plugins import shared_process
from greenroom.plugins.kokoro import Kokoro
from greenroom.plugins.piper import Piper
from greenroom.plugins.system_tts import Flite
from greenroom.plugins.voices.client import MODULE

from .figures import Figure, emit, percentile, say
from .process import memory, process_seconds
from .target import Options, TargetError

__all__ = ["run"]

SENTENCES = (
    "Yes.",
    "What is the weather in Paris?",
    "Seven times eight is fifty-six.",
    "The train leaves at half past seven from platform nine.",
    "Good morning, everyone; how can I help you today?",
    "Your order comes to $5.20, and it will be with you on Thursday between 10:30 am and noon.",
    "I have moved your appointment with the dentist from Tuesday afternoon to Thursday morning at a quarter past nine, and I "
    "have sent a message to your sister so that she knows about it.",
)
ROUNDS, QUICK_ROUNDS = 6, 2
MB = 1e6


@dataclass
class Spoken:
    first: list[float] = field(default_factory=list)
    """Seconds to the first sound of each sentence."""
    seconds: float = 0.0
    """Of speech."""
    took: float = 0.0


async def run(options: Options) -> None:
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    voices: list[tuple[str, TTS, int]] = [("flite slt", Flite(), rounds)]
    for threads in (1, 2):
        voices.append((f"piper-joe, {threads} threads", Piper(threads=threads), rounds))
    # It takes as long as it speaks.
    voices.append(("kokoro af_heart, 2 threads", Kokoro(), 1))
    missing = 0
    for name, tts, count in voices:
        if options.rows and not any(name.startswith(row) for row in options.rows):
            continue
        try:
            tts.load()
        except MissingProvider as error:
            say(f"voices: {error}")
            missing += 1
            continue
        await _measure(name, tts, count)
    if missing == len(voices):
        raise TargetError("no voice is on this machine")


async def _measure(name: str, tts: TTS, rounds: int) -> None:
    say(f"voices: {name}")
    pid = _pid(tts)
    await _speak(tts, SENTENCES[0])
    spoken, cpu = Spoken(), process_seconds(pid) if pid else 0.0
    load = os.getloadavg()[0]
    for _ in range(rounds):
        for sentence in SENTENCES:
            first, seconds, took = await _speak(tts, sentence)
            spoken.first.append(first)
            spoken.seconds += seconds
            spoken.took += took
    detail = {"sentences": len(spoken.first), "load_before": round(load, 2), "load_after": round(os.getloadavg()[0], 2)}
    for q, label in ((0.5, "p50"), (0.95, "p95")):
        value = percentile(spoken.first, q) * 1_000
        emit(Figure("voices", f"{name}: first sound {label}", value, "ms", better="lower", detail=detail))
    emit(
        Figure(
            "voices", f"{name}: real-time factor", spoken.took / spoken.seconds, "s/s", better="lower", detail=detail
        )
    )
    if pid:
        cost = (process_seconds(pid) - cpu) / spoken.seconds
        emit(Figure("voices", f"{name}: CPU time per second of speech", cost, "s/s", better="lower", detail=detail))
        used = memory(pid)
        emit(Figure("voices", f"{name}: memory of its process", used.rss / MB, "MB", better="lower"))


def _pid(tts: TTS) -> int | None:
    """Of the process that holds the network."""
    if isinstance(tts, Piper | Kokoro):
        name = "piper" if isinstance(tts, Piper) else "kokoro"
        return shared_process.start(name, MODULE, tts.configuration()).pid
    return None


async def _speak(tts: TTS, text: str) -> tuple[float, float, float]:
    """Seconds to the first sound, of speech, and in all."""
    started, first, size = time.perf_counter(), 0.0, 0
    async for chunk in tts.synthesize(text):
        first = first or time.perf_counter() - started
        size += len(chunk)
    return first, size / 2 / tts.sample_rate, time.perf_counter() - started
