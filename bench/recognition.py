"""Recognisers on recordings of people: words wrong, cost, what a caller waits for after the end of speech, memory.

The recordings are those of `tests/speech_clips.toml`, fetched once. Nothing else should run meanwhile: the first figure is the
machine's load, without which the others say little. `python -m bench speech` measures more, and other recognisers beside them.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from contextlib import aclosing
from pathlib import Path

from greenroom import models
from greenroom.agents.speech.protocols import STT

from .figures import Figure, emit, percentile, say
from .hearing import BEFORE, PAUSE, SILENCE, Spoken, recognisers, recordings, write_down
from .sound import RATE
from .target import Options

FRAME = 1_024
FRAME_SECONDS = 0.032
PACED = 40
"""Recordings that are played in real time."""


async def run(options: Options) -> None:
    try:
        audio = recordings()
    except models.ModelError as error:
        say(f"recognition: {error}")
        return
    if options.quick:
        audio = audio[::10]
    emit(Figure("recognition", "load_at_start", os.getloadavg()[0], "processes"))
    for name, make in recognisers().items():
        stt = make()
        await asyncio.to_thread(stt.load)
        await _accuracy(name, stt, audio)
        await _waiting(name, stt, audio[:: max(1, len(audio) // (8 if options.quick else PACED))])
        for pid in _children(name):
            emit(Figure("recognition", f"{name}_memory", _memory(pid), "MB", better="lower"))
    emit(Figure("recognition", "load_at_end", os.getloadavg()[0], "processes"))


async def _accuracy(name: str, stt: STT, audio: list[Spoken]) -> None:
    heard = [one async for one in write_down(stt, audio)]
    wrong = 100 * sum(one.wrong for one in heard) / sum(one.words for one in heard)
    cost = sum(one.took for one in heard) / sum(one.seconds for one in heard)
    unanswered = sum(one.text is None for one in heard)
    emit(Figure("recognition", f"{name}_words_wrong", wrong, "%", better="lower"))
    emit(Figure("recognition", f"{name}_without_text_in_time", unanswered, "recordings", better="lower"))
    emit(Figure("recognition", f"{name}_real_time_factor", cost, "", better="lower"))


async def _waiting(name: str, stt: STT, audio: list[Spoken]) -> None:
    """From the end-pointer's decision to the text, with partial texts and in real time, as in a call."""
    waits = []
    for spoken in audio:
        async with aclosing(stt.stream(lambda text: None)) as stream:  # type: ignore[type-var]
            silence = bytes(int(BEFORE * RATE) * 2)
            whole = silence + spoken.pcm + bytes(int(SILENCE * RATE) * 2)
            pause_at = len(silence) + len(spoken.pcm) + int(PAUSE * RATE) * 2
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
