"""A conversation in a real room: what it publishes, and that nothing of it stays."""

from greenroom import rtc
from greenroom.agents.conversation import Conversation
from tests.conftest import token, until
from tests.unit.speech_fakes import FakeLLM, FakeSTT, FakeTTS, FakeVAD


def conversation(room: rtc.Room) -> Conversation:
    return Conversation(room, stt=FakeSTT(), vad=FakeVAD(), tts=FakeTTS(), llm=FakeLLM())


async def test_closing_takes_voice_and_state_out_of_the_room(room_server):
    agent, guest = rtc.Room(), rtc.Room()
    await agent.connect(room_server.url, token("agent"))
    await guest.connect(room_server.url, token("guest"))
    seen = guest.remote_participants["agent"]
    for _ in range(2):
        one = conversation(agent)
        await one.start()
        await until(lambda: [p.name for p in seen.track_publications.values()] == ["agent-voice"], "one voice")
        await one.aclose()
        await one.aclose()
        assert not agent.local_participant.track_publications
        await until(lambda: not seen.track_publications and not seen.attributes, "nothing is left of it")
    await guest.disconnect()
    await agent.disconnect()


async def test_a_long_typed_message_is_not_kept(room_server):
    agent, guest = rtc.Room(), rtc.Room()
    await agent.connect(room_server.url, token("agent"))
    await guest.connect(room_server.url, token("guest"))
    turns = []
    one = Conversation(agent, stt=FakeSTT(), vad=FakeVAD(), tts=FakeTTS(), llm=FakeLLM(), on_turn=turns.append)
    await one.start()
    writer = await guest.local_participant.stream_text(topic="lk.chat")
    for _ in range(20):
        await writer.write("word " * 2_000)
    # It is answered before its end: what is too long is not waited for.
    await until(lambda: turns, "the message is answered")
    assert len(turns[0].user_text) <= 4_000 and not agent._core.streams._open
    await writer.aclose()
    await one.aclose()
    await guest.disconnect()
    await agent.disconnect()


async def test_closing_after_the_room_was_left(room_server, caplog):
    agent = rtc.Room()
    await agent.connect(room_server.url, token("agent"))
    one = conversation(agent)
    await one.start()
    await agent.disconnect()
    await one.aclose()
    assert not [record for record in caplog.records if record.name.startswith("greenroom.conversation")]
