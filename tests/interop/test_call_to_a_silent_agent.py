"""A synthetic call to an agent that writes and does not speak: what it wrote is shown, and why the call failed is said."""

import asyncio

from greenroom import rtc
from greenroom.agents.caller import Call, CallOptions, ExitCode, Line
from greenroom.api import AccessToken, VideoGrants
from greenroom.server.config import DEV_KEY, DEV_SECRET
from tests.conftest import token, until
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
