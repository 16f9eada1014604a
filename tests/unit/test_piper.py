"""Voices with their real networks, where those are on this machine."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from greenroom.agents.speech.protocols import MissingProvider, ProviderError
from greenroom.plugins import defaults, shared_process
from greenroom.plugins.kept_speech import KeptSpeech
from greenroom.plugins.kokoro import Kokoro
from greenroom.plugins.piper import Piper
from greenroom.plugins.piper.model import PiperModel
from greenroom.plugins.system_tts import Flite
from greenroom.plugins.voices.client import MODULE
from greenroom.plugins.voices.server import LENGTH

LONG = (
    "I have moved your appointment with the dentist from Tuesday afternoon to Thursday morning at a quarter past nine, and I "
    "have sent a message to your sister so that she knows about it, because she wanted to pick you up afterwards."
)


def _there(provider: Piper | Kokoro) -> bool:
    try:
        provider.require()
    except MissingProvider:
        return False
    return True


needs_piper = pytest.mark.skipif(not _there(Piper()), reason="the voice piper-joe is not on this machine")
needs_kokoro = pytest.mark.skipif(not _there(Kokoro()), reason="the voice kokoro is not on this machine")


async def speak(tts, text: str) -> np.ndarray:
    return np.frombuffer(b"".join([chunk async for chunk in tts.synthesize(text)]), np.int16).astype(np.int32)


def pid_of(tts: Piper) -> int:
    return shared_process.start("piper", MODULE, tts.configuration()).pid


def threads_of(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@needs_piper
@pytest.mark.parametrize(
    ("text", "shortest", "longest"),
    [
        ("What is the weather in Paris?", 1.2, 2.6),
        ("Yes.", 0.4, 1.2),
        ("It costs $5.20 at 10:30 pm.", 2.2, 5.0),
        (LONG, 8.0, 15.0),
    ],
)
async def test_a_sentence_is_spoken(text: str, shortest: float, longest: float) -> None:
    tts = Piper()
    assert tts.sample_rate == 22_050
    sound = await speak(tts, text)
    assert shortest < len(sound) / tts.sample_rate < longest
    assert 5_000 < np.abs(sound).max() < 32_767
    # It begins at once, and does not end in the middle of a sound.
    loud = np.flatnonzero(np.abs(sound) > 200)
    assert loud[0] / tts.sample_rate < 0.03
    assert np.abs(sound[-200:]).max() < 200


@needs_piper
async def test_a_long_sentence_comes_in_chunks() -> None:
    chunks = [len(chunk) async for chunk in Piper().synthesize(LONG)]
    assert len(chunks) > 5
    assert chunks[0] / 2 / 22_050 < 0.6


@needs_piper
async def test_faster_is_shorter() -> None:
    slow, fast = await speak(Piper(speed=0.8), LONG), await speak(Piper(speed=1.6), LONG)
    assert 1.5 < len(slow) / len(fast) < 2.5


@needs_piper
async def test_closing_early_stops_the_work_and_the_next_sentence_is_spoken() -> None:
    tts = Piper()
    await speak(tts, "Ready.")
    pid = pid_of(tts)
    stream = tts.synthesize(" ".join([LONG] * 15))
    await anext(stream)
    await anext(stream)
    speaking = threads_of(pid)
    await stream.aclose()
    # Each request has a thread of its own; this one had a minute of speech before it.
    await asyncio.to_thread(wait_until, lambda: threads_of(pid) < speaking)
    assert len(await speak(tts, "Yes."))


@needs_piper
def test_the_process_ends_in_silence_in_the_middle_of_its_work(capfd: pytest.CaptureFixture[str]) -> None:
    """Who uses it was stopped, as by a Ctrl-C: its connections and the control socket close at once."""
    request = json.dumps({"text": 3 * LONG}).encode()
    for _ in range(4):
        process = shared_process.SharedProcess("voice", MODULE, Piper().configuration())
        process.wait_ready()
        with process.connect() as connection:
            connection.sendall(LENGTH.pack(len(request)) + request)
            connection.settimeout(30)
            assert connection.recv(1) == b"a"
            process.close()
        wait_until(lambda pid=process.pid: gone(pid))
        assert capfd.readouterr() == ("", "")


@needs_piper
async def test_two_at_once_share_one_process() -> None:
    tts, other = Piper(), Piper()
    one, two = await asyncio.gather(speak(tts, LONG), speak(other, LONG))
    assert min(len(one), len(two)) > 8 * tts.sample_rate
    assert pid_of(tts) == pid_of(other)


@needs_piper
async def test_a_process_that_dies_costs_one_sentence() -> None:
    tts = Piper()
    stream = tts.synthesize(" ".join([LONG] * 15))
    await anext(stream)
    pid = pid_of(tts)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ProviderError, match="the piper process ended"):
        async for _ in stream:
            pass
    await asyncio.to_thread(wait_until, lambda: gone(pid))
    assert len(await speak(tts, "Yes."))
    assert pid_of(tts) != pid


@needs_piper
def test_the_network_cut_in_two_says_the_same(tmp_path: Path) -> None:
    """Without its noise the network says the same each time."""
    file = Path(Piper().configuration()["file"])
    about = json.loads(file.with_name(f"{file.name}.json").read_text())
    about["inference"].update(noise_scale=0.0, noise_w=0.0)
    (tmp_path / file.name).symlink_to(file)
    (tmp_path / f"{file.name}.json").write_text(json.dumps(about))
    sounds = []
    for whole in (True, False):
        model = PiperModel(tmp_path / file.name, whole=whole)
        (piece,) = model.plan("The train leaves at nine from the second platform.", {})
        sounds.append(list(model.render(piece, {})))
    assert len(sounds[0]) == 1 and len(sounds[1]) > 1
    np.testing.assert_allclose(np.concatenate(sounds[1]), sounds[0][0], atol=1e-4)


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
async def test_a_file_that_is_no_voice_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    file = tmp_path / "voice.onnx"
    file.write_bytes(b"no network")
    file.with_name("voice.onnx.json").write_text(
        json.dumps({"audio": {"sample_rate": 16_000}, "espeak": {"voice": "de"}, "phoneme_id_map": {}, "inference": {}})
    )
    tts = Piper(file)
    assert tts.sample_rate == 16_000
    with pytest.raises(ProviderError, match="the piper process ended"):
        tts.load()
    with pytest.raises(MissingProvider, match="name a file, or one of: piper-joe"):
        Piper(tmp_path / "other.onnx").require()


@needs_kokoro
@pytest.mark.parametrize("voice", ["af_heart", "bm_george"])
async def test_kokoro_speaks(voice: str) -> None:
    tts = Kokoro(voice)
    sound = await speak(tts, "Yes, at nine.")
    assert tts.sample_rate == 24_000
    assert 0.6 < len(sound) / 24_000 < 2.5
    assert 5_000 < np.abs(sound).max() < 32_767
    assert np.flatnonzero(np.abs(sound) > 200)[0] / 24_000 < 0.03


def test_names_of_voices() -> None:
    with pytest.raises(ValueError, match="no English voice"):
        Kokoro("../secret")
    with pytest.raises(ValueError, match="a speed of 9"):
        Piper(speed=9)
    assert isinstance(defaults.tts_named("slt"), Flite)
    assert isinstance(defaults.tts_named("bm_george"), Kokoro)
    with pytest.raises(ValueError, match="no voice has the name 'gramophone'"):
        defaults.tts_named("gramophone")


def test_the_default_is_the_best_that_is_there(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("GREENROOM_TTS", raising=False)
    monkeypatch.setattr(Piper, "require", lambda self: None)
    assert isinstance(defaults.default_tts(), Piper)

    def missing(self: object) -> None:
        raise MissingProvider("the voice piper-joe", f"try {missing.__name__}")

    monkeypatch.setattr(Piper, "require", missing)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    caplog.set_level(logging.INFO, "greenroom.defaults")
    defaults.say_once.cache_clear()
    for _ in range(2):
        assert isinstance(defaults.default_tts(), Flite)
    assert [record.message for record in caplog.records if "fall-back" in record.message] == [
        "the voice is flite, a small fall-back: the voice piper-joe is not available: try missing"
    ]
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MissingProvider, match="apt-get install flite"):
        defaults.default_tts()


def test_the_caller_has_another_voice_than_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GREENROOM_TTS", raising=False)
    monkeypatch.setattr(Piper, "require", lambda self: None)
    monkeypatch.setattr(Kokoro, "require", lambda self: None)
    assert isinstance(defaults.caller_tts(), KeptSpeech)
    assert isinstance(defaults.caller_tts("af_heart"), Kokoro)
    assert isinstance(defaults.caller_tts("piper-joe"), Piper)

    def missing(self: object) -> None:
        raise MissingProvider("kokoro", "get it")

    monkeypatch.setattr(Kokoro, "require", missing)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    assert isinstance(defaults.caller_tts(), Flite)


def run(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GREENROOM_TTS": ""}
    command = [sys.executable, "-m", "greenroom", "speak", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, env=environment, timeout=60, check=False)


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_the_command_writes_a_wav_file(tmp_path: Path) -> None:
    file = tmp_path / "out.wav"
    done = run("-o", str(file), "--voice", "espeak-ng", text="Hello. It is ten.")
    assert done.returncode == 0 and "by EspeakNG" in done.stderr, done.stderr
    with wave.open(str(file)) as sound:
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, 22_050)
        assert sound.getnframes() > 22_050


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    assert run("--voice", "gramophone", "hello").returncode == 2
    done = run("...", "-o", str(tmp_path / "no.wav"))
    assert done.returncode == 2 and "nothing to say" in done.stderr
    assert not (tmp_path / "no.wav").exists()
