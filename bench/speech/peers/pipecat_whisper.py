"""Pipecat's local recognition: its WhisperSTTService (faster-whisper) with the weights that Greenroom uses.

Runs by the Python of another environment, which has `pipecat-ai[whisper,silero]` and not Greenroom: `bench.speech.peer` says
what it is asked and answers.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import sys
import time
from pathlib import Path
from typing import Any

from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InputAudioRawFrame,
    TranscriptionFrame,
    UserStoppedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.audio.vad_processor import VADProcessor
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.whisper.stt import WhisperSTTService
from pipecat.turns.user_turn_processor import UserTurnProcessor
from pipecat.workers.runner import WorkerRunner

RATE = 16_000
FRAME = RATE // 50 * 2
FRAME_SECONDS = 0.02
TAIL_SECONDS = 4.0
"""Of silence, at most, until there is a text."""


class Sink(FrameProcessor):
    """Notes when which frame came by."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.times: dict[str, float] = {}

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TranscriptionFrame):
            self.text.append(frame.text.strip())
            self.times["text_at"] = time.monotonic()
        elif isinstance(frame, VADUserStoppedSpeakingFrame):
            self.times["pause"] = time.monotonic()
        elif isinstance(frame, UserStoppedSpeakingFrame):
            self.times["turn"] = time.monotonic()
        await self.push_frame(frame, direction)


def whisper(folder: str) -> WhisperSTTService:
    return WhisperSTTService(
        device="cpu", compute_type="int8", settings=WhisperSTTService.Settings(model=folder, language="en")
    )


async def write_down(pcm: bytes, service: WhisperSTTService) -> dict[str, Any]:
    """One segment as its pipeline would hand it over, with its half second of silence behind."""
    began = time.monotonic()
    frames = [frame async for frame in service.run_stt(pcm + bytes(RATE))]
    texts = [frame.text.strip() for frame in frames if isinstance(frame, TranscriptionFrame)]
    return {"text": " ".join(texts), "took": time.monotonic() - began}


async def listen(pcm: bytes, speech_end: float, service: WhisperSTTService) -> dict[str, Any]:
    """In real time through its voice detector, its recogniser and its turn detector, all as they come."""
    sink = Sink()
    pipeline = Pipeline([VADProcessor(vad_analyzer=SileroVADAnalyzer()), service, UserTurnProcessor(), sink])
    worker = PipelineWorker(pipeline, params=PipelineParams(audio_in_sample_rate=RATE))
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    try:
        # The first frames wait for the start of all parts, which is no part of a call's time.
        await asyncio.sleep(0.5)
        whole = pcm + bytes(int(TAIL_SECONDS * RATE) * 2)
        began = time.monotonic()
        for at in range(0, len(whole), FRAME):
            await asyncio.sleep(max(0.0, began + (at / FRAME + 1) * FRAME_SECONDS - time.monotonic()))
            await worker.queue_frame(
                InputAudioRawFrame(audio=whole[at : at + FRAME].ljust(FRAME, b"\0"), sample_rate=RATE, num_channels=1)
            )
            # A pause that was taken for the end is followed by more.
            if at >= len(pcm) and min(sink.times.get("text_at", 0.0), sink.times.get("turn", 0.0)) > began + speech_end:
                break
        await worker.queue_frame(EndFrame())
        await asyncio.wait_for(running, 20.0)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    ended = began + speech_end
    return {"text": " ".join(sink.text), **{name: at - ended for name, at in sink.times.items()}}


def main(folder: str) -> None:
    logger.remove()
    service = whisper(folder)
    answer({"ready": f"pipecat-ai {importlib.metadata.version('pipecat-ai')}"})
    for line in sys.stdin:
        asked = json.loads(line)
        pcm = Path(asked["pcm"]).read_bytes()
        if asked["kind"] == "write":
            answer(asyncio.run(write_down(pcm, service)))
        else:
            # A pipeline ends with its processors: each call has a recogniser of its own.
            answer(asyncio.run(listen(pcm, asked["speech_end"], whisper(folder))))


def answer(content: dict[str, Any]) -> None:
    print(json.dumps(content), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
