"""From the end of speech to the final text, in real time, each recogniser with the end-pointing that it comes with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from greenroom.agents.caller.script import AUDIBLE
from greenroom.agents.speech.protocols import STT
from greenroom.agents.transcriber import EventType, Transcriber, TranscriptionEvent

from ..figures import percentile, say
from ..hearing import BEFORE, Spoken, recognisers, recordings
from ..report import Report
from ..sound import RATE
from ..target import Options, TargetError
from .peer import LIVEKIT, PIPECAT, Kind, Peer, environment, peer

__all__ = ["speech_end", "waiting"]

COUNT, QUICK_COUNT = 12, 4
SHORTEST, LONGEST = 1.5, 4.0
"""Seconds. Longer prompts have pauses at which a caller may well be taken to have finished."""
FRAME = RATE // 50 * 2
FRAME_SECONDS = 0.02
TAIL = 4.0
"""Seconds of silence, at most, until there is a text."""
SLOW = "pocketsphinx"


@dataclass(frozen=True)
class Waited:
    """In seconds after the last audible sample; None: never. `pause`: until the voice had ended for the voice detector or the
    end-pointer, `text`: until the last text, `turn`: until an answer may begin."""

    pause: float | None
    text: float | None
    turn: float | None


async def waiting(report: Report, options: Options) -> None:
    fitting = [one for one in recordings() if SHORTEST <= one.seconds <= LONGEST]
    count = QUICK_COUNT if options.quick else COUNT
    audio = [_in_silence(one) for one in fitting[:: len(fitting) // count][:count]]
    for name, make in recognisers().items():
        if name == SLOW:
            continue
        stt = make()
        await asyncio.to_thread(stt.load)
        await _column(report, name, audio, partial(_ours, stt))
    for kind in (PIPECAT, LIVEKIT):
        await _peer(report, kind, audio)


async def _peer(report: Report, kind: Kind, audio: list[Spoken]) -> None:
    if environment() is None:
        report.say(_row("pause"), kind.name, "not installed")
        return
    try:
        async with peer(kind) as other:
            await _column(report, kind.name, audio, partial(_theirs, other))
    except TargetError as error:
        report.say(_row("pause"), kind.name, "failed")
        say(f"speech: {error}")
    if kind is LIVEKIT:
        report.say(_row("text"), kind.name, "none: no local STT")
        report.note("livekit-agents: its session waits 0.5 s after the last speech at least (min_delay), 3 s at most")


async def _column(
    report: Report, name: str, audio: list[Spoken], listen: Callable[[Spoken, float], Awaitable[Waited]]
) -> None:
    say(f"speech: {name} listens in real time")
    waits = [await listen(one, speech_end(one.pcm)) for one in audio]
    # A pause within the speech that was taken for its end is no wait, and a text that never came has no time.
    ended = [one for one in waits if one.pause is not None and one.pause > 0]
    _spread(report, _row("pause"), name, [one.pause for one in ended], len(waits))
    after = [one.text - one.pause for one in ended if one.text is not None and one.pause is not None]
    _spread(report, "that verdict to final text", name, after, len(waits))
    for kind in ("text", "turn"):
        _spread(report, _row(kind), name, [getattr(one, kind) for one in waits], len(waits))


def _spread(report: Report, row: str, name: str, seconds: Sequence[float | None], of: int) -> None:
    values = [1000 * value for value in seconds if value is not None and value >= 0]
    if values:
        middle, late = percentile(values, 0.5), percentile(values, 0.95)
        detail = {"p95": round(late), "measured": len(values), "of": of}
        report.add(row, name, middle, "ms", detail=detail, shown=f"{middle:.0f}, {late:.0f} ms")


def _row(kind: str) -> str:
    what = {"pause": "its verdict that it is over", "text": "final text", "turn": "its verdict that it may answer"}
    return f"end of speech to {what[kind]}"


async def _ours(stt: STT, spoken: Spoken, ended: float) -> Waited:
    finals: list[tuple[TranscriptionEvent, float]] = []
    began = time.monotonic()

    def heard(event: TranscriptionEvent) -> None:
        if event.type is EventType.FINAL:
            finals.append((event, time.monotonic() - began))

    async def chunks() -> AsyncIterator[bytes]:
        whole = spoken.pcm + bytes(int(TAIL * RATE) * 2)
        for at in range(0, len(whole), FRAME):
            await asyncio.sleep(max(0.0, began + (at / FRAME + 1) * FRAME_SECONDS - time.monotonic()))
            yield whole[at : at + FRAME]
            if finals and finals[-1][1] > ended:
                return

    transcriber = Transcriber(chunks(), heard, stt=stt).start()
    try:
        await transcriber.wait()
    finally:
        await transcriber.aclose()
    if not finals:
        return Waited(None, None, None)
    event, at = finals[-1]
    return Waited(event.endpoint_at - began - ended, at - ended, at - ended)


async def _theirs(other: Peer, spoken: Spoken, ended: float) -> Waited:
    answer = await other.ask("listen", spoken.pcm, speech_end=ended)
    return Waited(answer.get("pause"), answer.get("text_at"), answer.get("turn"))


def speech_end(pcm: bytes) -> float:
    """Seconds to the last audible sample."""
    audible = np.flatnonzero(np.abs(np.frombuffer(pcm, np.int16).astype(np.int32)) > AUDIBLE)
    return (int(audible[-1]) + 1) / RATE if len(audible) else 0.0


def _in_silence(spoken: Spoken) -> Spoken:
    return Spoken(bytes(int(BEFORE * RATE) * 2) + spoken.pcm, spoken.text)
