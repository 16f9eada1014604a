"""`greenroom transcribe`: recordings of any kind to text with times; files that cannot be read; what listens instead of
Whisper; a recording out of a pipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from bench.words import word_errors

from greenroom.agents.speech.wav import WavReader
from greenroom.cli.transcribe import pieces
from greenroom.plugins.silero import SileroVAD

from .test_whisper_stream import LONG, plain
from .whisper_model import MODEL, folder, say


def write(path: Path, samples: np.ndarray, width: int = 2, channels: int = 1, rate: int = 16_000) -> Path:
    """`samples` at 16 kHz are repeated or left out to have the other rate, which is good enough to be understood."""
    samples = samples[(np.arange(int(len(samples) * rate / 16_000)) * 16_000 / rate).astype(int)]
    wide = (np.clip(samples, -1, 1) * (2**31 - 256)).astype("<i4")
    raw = np.frombuffer(wide.tobytes(), np.uint8).reshape(-1, 4)[:, 4 - width :]
    if width == 1:
        raw = raw + np.uint8(128)
    with wave.open(str(path), "wb") as file:
        file.setframerate(rate)
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.writeframes(np.repeat(raw[:, None, :], channels, axis=1).tobytes())
    return path


def run(*arguments: str | Path, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[str]:
    """`stdin` comes through a pipe."""
    command = [sys.executable, "-m", "greenroom", "transcribe", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=100, env=os.environ | environment)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.quiet
def test_texts_with_times_of_several_kinds_of_files(tmp_path):
    folder()
    gap = np.zeros(32_000, np.float32)
    two = np.concatenate([gap, say("please hold the line"), gap, say("what time is it"), gap])
    files = [write(tmp_path / "two.wav", two), write(tmp_path / "wide.wav", say("good morning"), 3, 2, 48_000)]
    (tmp_path / "no.wav").write_text("not a recording")
    done = run("--json", "--model", MODEL, *files, tmp_path / "no.wav", tmp_path / "nowhere.wav")
    assert done.returncode == 1
    assert "no.wav: file does not start with RIFF id" in done.stderr and "nowhere.wav: No such file" in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["text"].lower().strip(".?!") for line in lines] == [
        *("please hold the line", "what time is it", "good morning"),
    ]
    first, second, third = lines
    assert 2.2 < first["start"] < 2.9 and first["end"] < 4.5 < 5.5 < second["start"] < second["end"]
    assert [word["text"] for word in first["words"]] == first["text"].split()
    assert first["words"][0]["start"] == first["start"] and 0.3 < first["confidence"] < 1
    assert third["file"].endswith("wide.wav") and third["start"] < 0.8
    shown = run("--model", MODEL, files[0])
    assert shown.returncode == 0
    assert [line[:4] for line in shown.stdout.splitlines()] == ["[00:", "[00:"]
    assert "] Please hold the line" in shown.stdout


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_samples_of_every_width_are_the_same_utterance(tmp_path, width: int):
    speech = np.concatenate([np.zeros(16_000, np.float32), say("please hold the line"), np.zeros(16_000, np.float32)])
    with WavReader(write(tmp_path / "one.wav", speech, width, 2, 8_000)) as file:
        (piece,) = pieces(file, SileroVAD())
    assert 0.8 < piece.start < 1.4
    heard = np.frombuffer(piece.pcm, np.int16).astype(np.float32) / 32_768
    assert 0.05 < np.sqrt(np.mean(heard**2)) < 0.3
    assert 1.2 < len(heard) / 16_000 < 2.9


def test_without_models_the_small_recogniser_of_calls_writes_it_down(tmp_path):
    pytest.importorskip("pocketsphinx")
    said = np.concatenate([np.zeros(16_000, np.float32), say("what time is it"), np.zeros(16_000, np.float32)])
    recording = bytearray(write(tmp_path / "said.wav", said, rate=48_000).read_bytes())
    # As programs write it that do not know yet how long it will be.
    recording[4:8] = recording[40:44] = b"\xff" * 4
    silent = write(tmp_path / "silent.wav", np.zeros(16_000, np.float32))
    done = run("--json", "-", silent, stdin=bytes(recording), GREENROOM_MODELS="none", GREENROOM_STT="")
    assert done.returncode == 0, done.stderr
    (line,) = map(json.loads, done.stdout.splitlines())
    assert (line["file"], line["text"], line["words"]) == ("-", "what time is it", [])
    assert 0.5 < line["start"] < 1.4 and 2.0 < line["end"] < 3.6
    (complaint,) = done.stderr.splitlines()
    assert complaint.endswith("silent.wav: no words were heard in it")


def test_without_the_model_it_says_what_brings_it(tmp_path):
    missing = {"GREENROOM_MODELS": str(tmp_path), "GREENROOM_STT": ""}
    silent = write(tmp_path / "a.wav", np.zeros(1_600, np.float32))
    # The first falls back to the small recogniser, as a call does; the others want what only Whisper knows.
    for code, options in ((0, ()), (6, ("--language", "de", "--hot-word", "Devon")), (6, ("--model", MODEL))):
        done = run(*options, silent, **missing)
        assert done.returncode == code, done.stderr
        wanted = "whisper-tiny" if "--model" in options else "whisper-base"
        assert f"greenroom models get {wanted}" in done.stderr and "Traceback" not in done.stderr
    for name, words in (("piper-joe", "piper-joe is a model of another kind (voice)"), ("nope", "no model 'nope'")):
        refused = run("--model", name, silent)
        assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
        assert f"{words}: choose one of whisper-base, whisper-tiny to recognise speech" in refused.stderr
    assert run("--language", "1", silent).returncode == 2
    assert run(silent, GREENROOM_STT="cloud").returncode == 2


@pytest.mark.quiet
def test_of_long_speech_without_a_pause_nothing_is_lost(tmp_path):
    folder()
    text = LONG.replace(".", ",")
    said = say(f"{text} {text}".replace(", ", " and "))
    assert len(said) / 16_000 > 32
    done = run("--json", "--model", MODEL, write(tmp_path / "long.wav", said))
    [row] = map(json.loads, done.stdout.splitlines())  # a call would be cut at 30 s
    heard = row["text"]
    words = plain(f"{text} {text}".replace(", ", " and "))
    assert word_errors(words, plain(heard)) <= 0.15 * len(words), heard
