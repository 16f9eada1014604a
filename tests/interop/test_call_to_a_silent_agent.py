"""A synthetic call to an agent that does not speak: what it wrote is shown, and one that hears is told from one that is silent."""

import asyncio
import io

import numpy as np
import pytest
from rich.console import Console

from greenroom import rtc
from greenroom.agents.caller import Call, CallOptions, ExitCode, Line
from greenroom.api import AccessToken, VideoGrants
from greenroom.cli.call import call_and_print
from greenroom.server.config import DEV_KEY, DEV_SECRET
from tests.conftest import ROOT, token, until
from tests.unit.speech_fakes import FakeTTS


async def test_what_it_writes_is_shown(room_server, monkeypatch):
    monkeypatch.setattr("greenroom.agents.caller.call.VOICE_PATIENCE", 0.2)
    agent = rtc.Room()
    greeted = []

    @agent.on("participant_connected")
    def greet(participant):
        greeted.append(participant.identity)

    grants = VideoGrants(room_join=True, room="test")
    as_agent = AccessToken(DEV_KEY, DEV_SECRET).with_identity("writer").with_kind("agent").with_grants(grants)
    await agent.connect(room_server.url, as_agent.to_jwt())
    events = []
    options = CallOptions(agent_timeout=10, answer_timeout=1)
    call = Call(
        room_server.url,
        token("caller"),
        [Line("hello there")],
        tts=FakeTTS(0.1),
        stt=None,
        on_event=events.append,
        options=options,
    )
    running = asyncio.create_task(call.run())
    await until(lambda: greeted, "the caller is there")
    await agent.local_participant.send_text("Hello, caller!", topic="lk.chat")
    result = await asyncio.wait_for(running, 30)
    await agent.disconnect()
    assert result.exit_code is ExitCode.NOT_ANSWERED
    assert result.error == "no spoken answer within 1 s; it answers in writing"
    (chat,) = [event for event in events if event.kind == "chat"]
    assert chat.text == "Hello, caller!" and chat.values == {"identity": "writer"}
    (seen,) = [event for event in events if event.kind == "agent"]
    assert seen.values["identity"] == "writer" and seen.values["listens"] is None


async def test_a_state_that_comes_after_the_voice_counts(room_server):
    agent = rtc.Room()
    caller_came = asyncio.Event()
    agent.on("participant_connected", lambda _: caller_came.set())
    grants = VideoGrants(room_join=True, room="test", can_update_own_metadata=True)
    as_agent = AccessToken(DEV_KEY, DEV_SECRET).with_identity("slow").with_kind("agent").with_grants(grants)
    await agent.connect(room_server.url, as_agent.to_jwt())
    events = []
    call = Call(
        room_server.url,
        token("caller"),
        [Line("hello there")],
        tts=FakeTTS(0.1),
        stt=None,
        on_event=events.append,
        options=CallOptions(agent_timeout=10, answer_timeout=0.5),
    )
    running = asyncio.create_task(call.run())
    await asyncio.wait_for(caller_came.wait(), 20)
    voice = rtc.LocalAudioTrack.create_audio_track("voice", rtc.AudioSource(48_000, 1))
    await agent.local_participant.publish_track(voice)
    await asyncio.sleep(0.2)
    await agent.local_participant.set_attributes({"lk.agent.state": "listening"})
    await asyncio.wait_for(running, 30)
    await agent.disconnect()
    (seen,) = [event for event in events if event.kind == "agent"]
    assert seen.values["listens"] is True


HEARS = f"""
import sys
from array import array
sys.path.insert(0, {str(ROOT)!r})
from greenroom.agents import Agent, Transcriber
from tests.unit.speech_fakes import FakeSTT, FakeVAD

class Loud(FakeVAD):
    def probability(self, frame):
        return float(max(map(abs, array("h", frame))) > 300)

class Hears(Agent):
    def on_audio_track(self, track, participant):
        Transcriber(track, print, stt=FakeSTT(*TEXTS), vad=Loud(){{more}}).start()
"""


class Tone(FakeTTS):
    """A tone that codecs let pass."""

    async def synthesize(self, text):
        wave = np.sin(2 * np.pi * 440 / self.sample_rate * np.arange(self.sample_rate * self.seconds_per_word))
        yield (8_000 * wave).astype(np.int16).tobytes()


@pytest.mark.parametrize(
    ("text", "more", "code", "words"),
    [
        ("hello there", "", ExitCode.SUCCESS, "every line was heard by agent-{}, which does not speak"),
        ("the weather", "", ExitCode.NOT_UNDERSTOOD, "heard by agent-{}, which does not speak, but not understood"),
        ("hello there", ", captions=False", ExitCode.NOT_ANSWERED, "nobody answered"),
    ],
    ids=["understood", "misunderstood", "kept to itself"],
)
async def test_one_that_shows_what_it_hears_is_told_from_a_deaf_one(
    room_server, start_worker, tmp_path, monkeypatch, text, more, code, words
):
    """The recogniser of the agent is a fake; all else is real."""
    monkeypatch.setattr("greenroom.agents.caller.call.VOICE_PATIENCE", 0.5)
    monkeypatch.setattr("greenroom.cli.call._providers", lambda *_: (Tone(0.6), None))
    app = tmp_path / "app.py"
    app.write_text(HEARS.format(more=more).replace("TEXTS", repr([text] * 9)))
    worker = await start_worker(app)
    out = io.StringIO()
    result = await call_and_print(
        Console(file=out, width=200),
        url=room_server.url,
        api_key=DEV_KEY,
        api_secret=DEV_SECRET,
        say=["hello there"],
        options=CallOptions(agent_timeout=20, answer_timeout=4 if code is ExitCode.NOT_ANSWERED else 20),
    )
    assert result == code, out.getvalue()
    last = out.getvalue().splitlines()[-1].strip()
    assert last == words.format(last.partition("agent-")[2].partition(",")[0])
    assert ("understood  " + text in out.getvalue()) is (not more)
    assert f": {text}" in worker.text and "TranscriptionEvent(" not in worker.text
