"""What livekit-agents does locally: its voice detector and its small turn detector. It has no recogniser of its own.

Runs by the Python of another environment, which has `livekit-agents` and not Greenroom: `bench.speech.peer` says what it is
asked and answers.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from livekit import rtc
from livekit.agents import inference, vad
from livekit.local_inference import EOT, EOT_MAX_SAMPLES

RATE = 16_000
FRAME = RATE // 50 * 2
FRAME_SECONDS = 0.02
TAIL_SECONDS = 2.0


async def listen(pcm: bytes, speech_end: float, detector: inference.VAD, turns: EOT) -> dict[str, Any]:
    """In real time: when it takes the speech for ended, and when its turn detector has judged that pause."""
    stream = detector.stream()
    times: dict[str, float] = {}
    whole = pcm + bytes(int(TAIL_SECONDS * RATE) * 2)

    async def events() -> None:
        async for event in stream:
            if event.type == vad.VADEventType.END_OF_SPEECH:
                times["pause"] = time.monotonic()
                end = min(len(whole), int((times["pause"] - began) * RATE) * 2)
                last = np.frombuffer(whole[:end], np.int16)[-EOT_MAX_SAMPLES:]
                times["probability"] = await asyncio.to_thread(turns.predict, last)
                times["turn"] = time.monotonic()

    began = time.monotonic()
    reading = asyncio.create_task(events())
    try:
        for at in range(0, len(whole), FRAME):
            await asyncio.sleep(max(0.0, began + (at / FRAME + 1) * FRAME_SECONDS - time.monotonic()))
            frame = whole[at : at + FRAME].ljust(FRAME, b"\0")
            stream.push_frame(rtc.AudioFrame(frame, RATE, 1, FRAME // 2))
            if at >= len(pcm) and times.get("turn", 0.0) > began + speech_end:
                break
    finally:
        await stream.aclose()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    ended = began + speech_end
    return {
        **{name: times[name] - ended for name in ("pause", "turn") if name in times},
        "probability": times.get("probability"),
    }


def main() -> None:
    detector, turns = inference.VAD(), EOT()
    print(json.dumps({"ready": f"livekit-agents {importlib.metadata.version('livekit-agents')}"}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        pcm = Path(asked["pcm"]).read_bytes()
        print(json.dumps(asyncio.run(listen(pcm, asked["speech_end"], detector, turns))), flush=True)


if __name__ == "__main__":
    main()
