"""Whole calls with all real models: how long a caller waits for an answer, what takes that time and memory, and how many
conversations go at once."""

from __future__ import annotations

import asyncio
import random
import tempfile
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from greenroom.agents.caller import Call, CallEvent, CallOptions, ExitCode, Line, TurnResult
from greenroom.agents.caller.script import agreement, speak
from greenroom.agents.speech.protocols import TTS
from greenroom.plugins.defaults import caller_tts, default_tts

from ..figures import percentile, say
from ..process import memory, tree
from ..report import Report
from ..target import ROOT, Options, Target, TargetError, target
from ..turn import ASSISTANT, LINES as FEW_LINES
from ..worker import worker

__all__ = ["calls", "turns"]

LINES = (
    *FEW_LINES,
    "What is seven times eight?",
    "What is your name?",
    "How much is one hundred divided by five?",
    "Tell me a joke, please.",
    "What can you do for me?",
    "What is the square root of sixteen?",
)
QUICK_LINES = LINES[:3]
LEAST_LINES = 3
"""Of each caller, however many there are."""
LEVELS, QUICK_LEVELS = (2, 3, 4, 6, 8, 10, 12, 16), (2,)
"""Callers at once, after the first alone."""
ATTEMPTS = 2
"""Of so few turns the worst decides: what another program spoiled once is measured again."""
UNDERSTOOD = 0.6
"""Of a line's words."""
MB = 1e6
MODELS = {
    "recogniser: one for all jobs": "greenroom.plugins.whisper.server",
    "recogniser: pocketsphinx": "greenroom.plugins.pocketsphinx_server",
    "voice: one for all jobs": "greenroom.plugins.voices.server",
}
"""The modules that hold them."""
STAGES = {
    "endpointing": "end-pointing: silence waited for",
    "transcription": "recogniser: that verdict to final text",
    "llm_first_token": "brain: final text to first word",
    "tts_first_audio": "voice: first word to first sound",
    "playout": "voice: first sound to the room",
}


@dataclass(frozen=True)
class Script:
    text: str
    wav: Path


@dataclass(frozen=True)
class Answered:
    """One line of a caller."""

    script: Script
    turn: TurnResult

    @property
    def understood(self) -> bool:
        return agreement(self.script.text, self.turn.understood) >= UNDERSTOOD


async def turns(report: Report, options: Options) -> None:
    """One caller only."""
    await calls(report, options, levels=())


async def calls(report: Report, options: Options, *, levels: Sequence[int] = LEVELS) -> None:
    if not ASSISTANT.is_file():
        raise TargetError(f"there is no {ASSISTANT.relative_to(ROOT)}")
    lines = QUICK_LINES if options.quick else LINES
    voice = caller_tts()
    with tempfile.TemporaryDirectory() as folder:
        say("speech: the callers' lines are spoken")
        scripts = [await _recorded(text, voice, Path(folder) / f"{n}.wav") for n, text in enumerate(lines)]
        async with target(options) as server, worker(server, ASSISTANT, "dev") as running:
            first = await _one_caller(report, server, scripts, running.pid)
            if levels:
                at_once = report.another("Conversations at once")
                try:
                    await _at_once(at_once, server, scripts, first, QUICK_LEVELS if options.quick else levels)
                finally:
                    at_once.close()


async def _recorded(text: str, voice: TTS, file: Path) -> Script:
    spoken = await speak(Line(text), voice)
    with wave.open(str(file), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(spoken.sample_rate)
        wav.writeframes(spoken.pcm)
    return Script(text, file)


async def _one_caller(report: Report, server: Target, scripts: list[Script], worker_pid: int) -> list[float]:
    """What each stage takes, and meanwhile the memory of every process. Returns the waits in ms."""
    used = report.another("Memory of the worker's processes, during a call")
    taken = False

    def on_event(event: CallEvent) -> None:
        nonlocal taken
        # Late enough that every model has worked.
        if event.kind == "turn" and not taken:
            taken = True
            _memory(used, worker_pid)

    say(f"speech: one caller, {len(scripts)} lines")
    try:
        answered = await _call(server, scripts, "speech-1", on_event)
        latencies = _latencies(answered)
        if not latencies:
            raise TargetError("no line was answered")
        _stages(report, answered, latencies)
    finally:
        used.close()
    return latencies


def _stages(report: Report, answered: list[Answered], latencies: list[float]) -> None:
    for stage, what in STAGES.items():
        _spread(report, what, [float(one.turn.agent_ms[stage]) for one in answered if stage in one.turn.agent_ms])
    between = [
        float(one.turn.latency_ms - one.turn.agent_ms["total"])
        for one in answered
        if one.turn.latency_ms is not None and "total" in one.turn.agent_ms
    ]
    _spread(report, "the way there and back, jitter buffers, playout", between)
    _spread(report, "end of speech to first sound of the answer", latencies)
    right = [
        float(one.turn.agent_ms["transcription"])
        for one in answered
        if one.turn.agent_ms.get("endpointing", 1_000) < 700 and "transcription" in one.turn.agent_ms
    ]
    _spread(report, "recogniser, where the pause was judged at once", right)
    understood = sum(one.understood for one in answered)
    report.note(f"{len(answered)} lines, {len(latencies)} answered after their end, {understood} understood")


def _spread(report: Report, what: str, values: list[float]) -> None:
    if values:
        report.add(what, "p50", percentile(values, 0.5), "ms", detail={"turns": len(values)})
        report.add(what, "p95", percentile(values, 0.95), "ms", detail={"turns": len(values)})


async def _at_once(
    report: Report, server: Target, scripts: list[Script], first: list[float], levels: Sequence[int]
) -> None:
    """More callers each time, until the 95th percentile of the wait has doubled."""
    limit = 2 * percentile(first, 0.95)
    _level(report, 1, first, len(first), len(first))
    reached = 1
    for count in levels:
        each = max(min(LEAST_LINES, len(scripts)), -(-len(scripts) // count))
        for attempt in range(ATTEMPTS):
            say(f"speech: {count} callers at once")
            results = await asyncio.gather(
                *(_call_later(server, scripts, number, count, each) for number in range(count))
            )
            answered = [one for result in results for one in result]
            latencies = _latencies(answered)
            good = len(latencies) >= 0.9 * count * each and percentile(latencies, 0.95) <= limit
            if good or attempt == ATTEMPTS - 1:
                _level(report, count, latencies, sum(one.understood for one in answered), count * each)
                break
        if not good:
            break
        reached = count
    else:
        report.note(f"more than {reached} were not tried")
    report.add("most before the wait's p95 doubles", "callers", reached, "", better="higher")


def _level(report: Report, count: int, latencies: list[float], understood: int, said: int) -> None:
    row = f"{count} caller{'s' * (count > 1)}"
    for q, label in ((0.5, "p50"), (0.95, "p95")):
        if latencies:
            report.add(f"{row}: end of speech to first sound", label, percentile(latencies, q), "ms")
    report.add(f"{row}: end of speech to first sound", "answered", 100 * len(latencies) / said, "%", better="higher")
    report.add(f"{row}: end of speech to first sound", "understood", 100 * understood / said, "%", better="higher")


async def _call_later(server: Target, scripts: list[Script], number: int, count: int, each: int) -> list[Answered]:
    """Callers do not speak in step: each begins at another line and another moment."""
    await asyncio.sleep(random.Random(count * 100 + number).uniform(0, 3))
    start = number * len(scripts) // count
    lines = [scripts[(start + step) % len(scripts)] for step in range(each)]
    return await _call(server, lines, f"speech-{count}-{number}", lambda event: None)


async def _call(
    server: Target, scripts: Sequence[Script], name: str, on_event: Callable[[CallEvent], None]
) -> list[Answered]:
    call = Call(
        server.ws_url,
        server.token(f"caller-{name}", name),
        [Line(wav=script.wav) for script in scripts],
        tts=default_tts(),
        stt=None,
        on_event=on_event,
        options=CallOptions(longest_answer=30.0),
    )
    result = await call.run()
    if result.exit_code not in (ExitCode.SUCCESS, ExitCode.NOT_UNDERSTOOD):
        say(f"speech: {name}: {result.error or result.exit_code.name.lower()}")
    return [Answered(script, turn) for script, turn in zip(scripts, result.turns, strict=False)]


def _latencies(answered: list[Answered]) -> list[float]:
    return [float(one.turn.latency_ms) for one in answered if one.turn.latency_ms is not None]


def _memory(report: Report, worker_pid: int) -> None:
    """Jobs are forked from one process that has loaded all code, and share its pages; each model has a process of its own."""
    commands = {}
    for pid in tree(worker_pid):
        try:
            commands[pid] = Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
        except OSError:
            continue
    models = {pid: name for pid, command in commands.items() for name, part in MODELS.items() if part in command}
    warm = next((p for p in commands if p not in (worker_pid, *models) and set(models) & set(tree(p))), None)
    jobs = [pid for pid in commands if pid not in (worker_pid, warm, *models)]
    used = {}
    for pid in commands:
        try:
            used[pid] = memory(pid)
        except OSError:
            continue
    jobs = sorted((pid for pid in jobs if pid in used), key=lambda pid: used[pid].unique, reverse=True)
    names = {worker_pid: "worker", **models}
    if warm is not None:
        names[warm] = "what jobs are forked from"
    if jobs:
        names[jobs[0]] = "job with the call"
        names |= dict.fromkeys(jobs[1:2], "job that waits for the next call")
    for pid, name in sorted(names.items(), key=lambda item: item[0] in jobs):
        if pid in used:
            for column, size in (("RSS", used[pid].rss), ("PSS", used[pid].pss), ("alone", used[pid].unique)):
                report.add(name, column, size / MB, "MB")
    for column, part in (("RSS", "rss"), ("PSS", "pss"), ("alone", "unique")):
        report.add("all of them", column, sum(getattr(one, part) for one in used.values()) / MB, "MB")
    report.note("PSS: shared pages divided among those that use them; alone: what its end would free")
