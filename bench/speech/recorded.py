"""A spoken call between two real voices, recorded, with what the recognisers of both sides wrote."""

from __future__ import annotations

import asyncio
import wave
from pathlib import Path

import numpy as np

from greenroom.agents.caller import Call, CallEvent, CallOptions, Line, Recording
from greenroom.agents.caller.script import agreement
from greenroom.plugins.defaults import caller_tts, default_stt

from ..figures import say
from ..report import Report
from ..target import ROOT, Options, TargetError, target
from ..voiceprint import pitch, spectral_distance
from ..worker import worker
from .calls import ASSISTANT

__all__ = ["FILE", "recorded"]

FILE = ROOT / "build" / "speech-eval-call.wav"
LINES = (
    "Hello, how are you today?",
    "What is your name?",
    "Could you tell me what day it is today?",
    "How much is twelve times eleven?",
    "Please repeat after me: the train to Boston leaves from platform nine.",
    "What is the square root of one hundred and forty four?",
    "What can you do for me?",
    "Thank you very much, goodbye.",
)
QUICK_LINES = LINES[:2]


async def recorded(report: Report, options: Options) -> None:
    FILE.parent.mkdir(parents=True, exist_ok=True)
    lines = QUICK_LINES if options.quick else LINES
    stt = default_stt()
    await asyncio.to_thread(stt.load)
    began: list[float] = []

    def on_event(event: CallEvent) -> None:
        if event.kind == "say":
            began.append(event.at)

    async with target(options) as server, worker(server, ASSISTANT, "dev"):
        say(f"speech: a call of {len(lines)} lines is recorded")
        recording = Recording(FILE)
        try:
            call = Call(
                server.ws_url,
                server.token("caller", "recorded"),
                [Line(text) for text in lines],
                tts=caller_tts(),
                stt=stt,
                on_event=on_event,
                options=CallOptions(longest_answer=30.0),
                recording=recording,
            )
            result = await call.run()
        finally:
            await asyncio.to_thread(recording.close)
    if not result.turns:
        raise TargetError(f"there was no call: {result.error}")
    for turn, at in zip(result.turns, began, strict=False):
        said, answered = f"{_clock(at - began[0])} caller: {turn.said}", f"      agent: {turn.answer}"
        report.say(said, "as the other side's recogniser wrote it", turn.understood)
        report.say(answered, "as the other side's recogniser wrote it", turn.heard)
        report.say(said, "words agree", f"{100 * agreement(turn.said, turn.understood):.0f} %")
        report.say(answered, "words agree", f"{100 * agreement(turn.answer, turn.heard):.0f} %")
    _voices(report, FILE)


def _voices(report: Report, file: Path) -> None:
    with wave.open(str(file), "rb") as wav:
        both = np.frombuffer(wav.readframes(wav.getnframes()), np.int16).reshape(-1, 2)
        seconds = wav.getnframes() / wav.getframerate()
    caller, agent = (both[:, side].tobytes() for side in (0, 1))
    halves = [spectral_distance(*_halves(voice)) for voice in (caller, agent)]
    between = spectral_distance(caller, agent)
    voices = report.another("The two voices")
    voices.add("median pitch", "caller", pitch(caller), "Hz", better="higher")
    voices.add("median pitch", "agent", pitch(agent), "Hz", better="higher")
    for name, own in zip(("caller", "agent"), halves, strict=True):
        voices.add("average spectrum, first half to second half of the call", name, own, "dB")
    voices.add("average spectrum, caller to agent", "both", between, "dB", better="higher")
    voices.note(f"{file.relative_to(ROOT)}: {seconds:.0f} s, the caller on the left, the agent on the right")
    voices.close()


def _halves(pcm: bytes) -> tuple[bytes, bytes]:
    """Each with half of the sound, of which a side has pauses of any length."""
    samples = np.frombuffer(pcm, np.int16)
    heard = samples[np.abs(samples.astype(np.int32)) > 0]
    middle = len(heard) // 2
    return heard[:middle].tobytes(), heard[middle:].tobytes()


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
