"""Headless Chromium for the end-to-end tests: a fake microphone that speaks a WAV file, a fake camera, no network."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIVEKIT_CLIENT = ROOT / "web" / "node_modules" / "livekit-client" / "dist" / "livekit-client.umd.js"
IN_PAGE = Path(__file__).with_name("in_page.js")


def executable() -> str | None:
    """The installed Chromium or Chrome, or None."""
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


def flags(microphone: Path | None) -> list[str]:
    """Start-up flags: fake devices, and nothing that looks for the network."""
    listed = [
        "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", "--disable-quic", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
        "--autoplay-policy=no-user-gesture-required",
    ]  # fmt: skip
    if microphone is not None:
        listed.append(f"--use-file-for-fake-audio-capture={microphone}")
    return listed


def speak(path: Path, text: str, *, voice: str = "slt", lead: float = 1.0, tail: float = 6.0) -> Path:
    """A 48 kHz WAV of `text` between silences of `lead` and `tail` seconds, for the fake microphone (which loops it)."""
    spoken = path.with_suffix(".spoken.wav")
    subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(spoken)], check=True, timeout=30)
    import wave

    import numpy as np

    with wave.open(str(spoken)) as wav:
        rate = wav.getframerate()
        samples = np.frombuffer(wav.readframes(wav.getnframes()), np.int16)
    length = round(len(samples) * 48_000 / rate)
    resampled = np.interp(np.linspace(0, len(samples) - 1, length), np.arange(len(samples)), samples).astype(np.int16)
    silence = [np.zeros(round(seconds * 48_000), np.int16) for seconds in (lead, tail)]
    with wave.open(str(path), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(48_000)
        wav.writeframes(np.concatenate([silence[0], resampled, silence[1]]).tobytes())
    return path
