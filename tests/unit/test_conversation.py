"""The conversation engine on fake providers and a fake room: turns, states, captions, chat, interruptions."""

import asyncio
import json
from dataclasses import replace

import pytest

from greenroom.agents.conversation import AgentState, ConversationOptions, Stage, Turn, TurnState
from greenroom.agents.conversation.turn import WrongTransition
from greenroom.agents.speech import ChatMessage, ProviderError
from tests.conftest import until
from tests.unit.scene import QUICK, Scene

pytestmark = pytest.mark.virtual_time  # people speak as long as people do


async def test_what_is_said_is_answered_aloud(scene: Scene):
    scene.stt.texts = ["what time is it"]
    scene.llm.reply = "It is late. Good night."
    await scene.open()
    await scene.say()
    turn = await scene.turn()
    assert (turn.user_text, turn.heard_text, turn.state) == (
        "what time is it",
        "It is late. Good night.",
        TurnState.DONE,
    )
    assert scene.tts.spoken == ["It is late.", "Good night."]
    assert sum(map(len, scene.sink.frames)) >= 5 * 640
    assert scene.conversation.history == (
        ChatMessage("user", "what time is it"),
        ChatMessage("assistant", "It is late. Good night."),
    )


async def test_the_state_follows_the_turn(scene):
    scene.stt.texts = ["hello"]
    await scene.open()
    assert scene.conversation.state is AgentState.LISTENING
    await until(lambda: scene.room.local_participant.states[-1:] == ["listening"], "listening is published")
    scene.llm.hold = asyncio.Event()
    await scene.say()
    await until(lambda: scene.room.local_participant.states[-1] == "thinking", "thinking is published")
    scene.llm.hold.set()
    await scene.turn()
    await until(lambda: scene.room.local_participant.states[-1] == "listening", "listening again")
    assert scene.room.local_participant.states[-3:] == ["thinking", "speaking", "listening"]
    scene.track.end()
    await until(lambda: scene.room.local_participant.states[-1] == "idle", "nobody is left to listen to")


async def test_captions_of_both_sides_carry_what_front_ends_read(scene):
    scene.stt.texts = ["hello there"]
    scene.llm.reply = "Hello. How are you?"
    await scene.open()
    await scene.say()
    await scene.turn()
    await until(lambda: scene.captions("agent") and scene.captions("agent")[0]["closed"], "the agent's caption ends")
    (user,) = scene.captions("alice")
    assert user["topic"] == "lk.transcription" and user["text"] == "hello there" and user["closed"]
    assert user["attributes"]["lk.transcription_final"] == "true"
    assert user["attributes"]["lk.transcribed_track_id"] == "TR_mic"
    (agent,) = scene.captions("agent")
    assert agent["text"] == "Hello. How are you?"
    assert agent["attributes"]["lk.transcription_final"] == "true"
    assert agent["attributes"]["lk.transcribed_track_id"] == "TR_voice"
    assert agent["attributes"]["lk.segment_id"] != user["attributes"]["lk.segment_id"]


@pytest.mark.parametrize(
    ("reply", "spoken"),
    [
        ("Here you are. 🎉🎉 *** Bye.", ["Here you are.", "Bye."]),
        ("Here you are.\n---\n😀", ["Here you are."]),
        ("今日は。明日は。", ["今日は。", "明日は。"]),
        ("Mail a.b@c.org, it costs $3.50, 5 > 3.", ["Mail a.b@c.org, it costs $3.50, 5 > 3."]),
        ("😀", []),
    ],
)
async def test_captions_show_all_that_the_model_said_also_what_a_voice_cannot_say(scene, reply, spoken):
    scene.llm.reply = reply
    await scene.open()
    scene.type("hello")
    turn = await scene.turn()
    assert turn.state is TurnState.DONE and turn.heard_text == reply
    (caption,) = await until(lambda: [c for c in scene.captions("agent") if c["closed"]], "the caption ends")
    assert caption["text"].split() == reply.split()
    assert scene.tts.spoken == spoken


async def test_every_turn_is_reported_with_its_waterfall(scene):
    scene.stt.texts = ["hello"]
    await scene.open()
    await scene.say()
    await scene.turn()
    reports = await until(
        lambda: [t for t in scene.room.local_participant.texts if t[0] == "greenroom.turn"], "a report"
    )
    report = json.loads(reports[0][1])
    assert report["turn"] == 1 and report["user"] == "hello" and report["agent"] == "All right."
    assert report["interrupted"] is False and report["identity"] == "alice"
    assert set(report["ms"]) >= {"endpointing", "transcription", "llm_first_token", "tts_first_audio", "total"}
    parts = sum(value for name, value in report["ms"].items() if name != "total")
    assert abs(parts - report["ms"]["total"]) <= 5


async def test_typed_chat_is_answered_aloud_and_in_writing(scene):
    scene.llm.reply = "You are welcome."
    await scene.open()
    scene.type("thank you")
    turn = await scene.turn()
    assert turn.user_text == "thank you" and scene.tts.spoken == ["You are welcome."]
    written = await until(
        lambda: [t for t in scene.room.local_participant.texts if t[0] == "lk.chat"], "a written answer"
    )
    assert written == [("lk.chat", "You are welcome. ", ["alice"])]
    assert "endpointing" not in turn.milliseconds() and "total" in turn.milliseconds()


async def test_speaking_while_it_speaks_silences_it(scene):
    scene.stt.texts = ["count", "stop it"]
    scene.llm.reply = lambda messages: (
        "Stopped." if len(messages) > 1 else "One two three four five six seven eight nine ten."
    )
    scene.tts.seconds_per_word = 0.4
    await scene.open()
    await scene.say()
    await until(lambda: scene.conversation.state is AgentState.SPEAKING, "the agent speaks")
    await asyncio.sleep(0.5)
    await scene.say(0.4)
    first, second = await scene.turn(1), await scene.turn(2)
    assert first.state is TurnState.INTERRUPTED and first.interrupted and scene.sink.cleared
    words = first.heard_text.split()
    assert 1 <= len(words) < 10 and words == scene.llm.reply([]).split()[: len(words)]
    assert scene.conversation.history[1] == ChatMessage("assistant", first.heard_text, interrupted=True)
    assert second.heard_text == "Stopped." and scene.llm.closed == 2


async def test_a_short_noise_does_not_interrupt(scene):
    scene.stt.texts = ["count", ""]
    scene.options = ConversationOptions(interrupt_after=0.25)
    scene.llm.reply = "One two three four five six seven eight nine ten."
    scene.tts.seconds_per_word = 0.15
    await scene.open()
    await scene.say()
    await until(lambda: scene.conversation.state is AgentState.SPEAKING, "the agent speaks")
    await scene.track.talk(0.1)
    await scene.track.hush(0.6)
    turn = await scene.turn()
    assert turn.state is TurnState.DONE and not scene.sink.cleared and len(scene.turns) == 1


async def test_the_agents_own_words_coming_back_are_not_answered(scene):
    scene.stt.texts = ["count", "two three four five"]
    scene.options = ConversationOptions(interrupt_after=30)
    scene.llm.reply = "One two three four five six seven eight nine ten eleven twelve."
    scene.tts.seconds_per_word = 0.2
    await scene.open()
    await scene.say()
    await until(lambda: scene.conversation.state is AgentState.SPEAKING, "the agent speaks")
    # An echo comes late, and lasts as long as what it is the echo of.
    await scene.track.hush(0.4)
    await scene.say(0.8)
    await scene.turn()
    await scene.track.hush(0.3)
    assert len(scene.turns) == 1 and len(scene.llm.asked) == 1


async def test_going_on_before_the_answer_is_heard_makes_one_message(scene):
    scene.stt.texts = ["what is seven", "times eight"]
    scene.llm.hold = asyncio.Event()
    await scene.open()
    await scene.say()
    await until(lambda: scene.conversation.state is AgentState.THINKING, "the agent thinks")
    await scene.say(0.3)
    await until(lambda: len(scene.llm.asked) == 2, "it is asked again")
    scene.llm.hold.set()
    turn = await scene.turn(2)
    assert turn.user_text == "what is seven times eight"
    assert scene.llm.asked[1] == [ChatMessage("user", "what is seven times eight")]


async def test_a_failing_model_is_apologised_for_and_reported(scene):
    scene.stt.texts = ["hello", "hello"]
    scene.llm.fail = ProviderError("out of tokens")
    await scene.open()
    await scene.say()
    turn = await scene.turn()
    assert turn.state is TurnState.FAILED and turn.error == "out of tokens"
    assert " ".join(scene.tts.spoken) == scene.options.apology
    scene.llm.fail = None
    await scene.say()
    assert (await scene.turn(2)).state is TurnState.DONE


async def test_a_failing_voice_fails_the_turn_only(scene):
    scene.stt.texts = ["hello", "hello"]
    scene.tts.fail = True
    await scene.open()
    await scene.say()
    assert (await scene.turn()).state is TurnState.FAILED
    scene.tts.fail = False
    await scene.say()
    assert (await scene.turn(2)).state is TurnState.DONE


async def test_nothing_understood_is_no_turn(scene):
    await scene.open()
    await scene.say()
    await scene.track.hush(0.2)
    assert scene.turns == [] and scene.llm.asked == []


async def test_saying_something_unasked(scene):
    await scene.open()
    turn = await scene.conversation.say("Welcome, everyone.")
    assert turn.state is TurnState.DONE and scene.tts.spoken == ["Welcome, everyone."]
    assert scene.conversation.history == (ChatMessage("assistant", "Welcome, everyone."),)


async def test_the_voice_starts_before_the_text_is_complete(scene):
    scene.stt.texts = ["go"]
    release = asyncio.Event()

    async def chat(messages):
        yield "First sentence. "
        await release.wait()
        yield "Second one."

    scene.llm.chat = chat
    await scene.open()
    await scene.say()
    await until(lambda: scene.sink.frames, "the first sentence is heard")
    assert scene.tts.spoken == ["First sentence."]
    release.set()
    turn = await scene.turn()
    assert turn.times[Stage.PLAYING] < turn.times[Stage.LLM_ENDED]


async def test_the_answer_is_prepared_while_the_end_is_uncertain(scene):
    scene.stt.guesses, scene.stt.texts = ["what time is it"], ["what time is it"]
    await scene.open()
    await scene.track.talk(0.2)
    await scene.track.hush(0.1)
    await until(lambda: scene.tts.spoken == ["All right."], "the answer is synthesised during the pause")
    assert scene.sink.frames == [] and scene.turns == []
    await scene.track.hush(0.2)
    turn = await scene.turn()
    assert len(scene.llm.asked) == 1 and turn.number == 1 and turn.state is TurnState.DONE and scene.sink.frames
    report = turn.milliseconds()
    assert report["llm_first_token"] == 0 and report["tts_first_audio"] == 0
    assert abs(sum(value for name, value in report.items() if name != "total") - report["total"]) <= 5


async def test_a_prepared_answer_is_dropped_when_more_is_said(scene):
    scene.stt.guesses, scene.stt.texts = ["what is seven"], ["what is seven times eight"]
    scene.llm.reply = lambda messages: f"You said {messages[-1].content}."
    scene.endpointing = replace(QUICK, silence=2.0, unfinished_silence=2.0)
    await scene.open()
    await scene.track.talk(0.2)
    await scene.track.hush(0.08)
    await until(lambda: scene.tts.spoken, "an answer is prepared during the pause")
    await scene.track.talk(0.2)
    await scene.track.hush(2.2)
    turn = await scene.turn()
    assert turn.heard_text == "You said what is seven times eight." and len(scene.llm.asked) == 2
    assert [message.content for message in scene.conversation.history] == ["what is seven times eight", turn.heard_text]
    (caption,) = scene.captions("agent")
    assert caption["text"] == turn.heard_text


async def test_preparing_can_be_switched_off(scene):
    scene.stt.guesses, scene.stt.texts = ["hello"], ["hello"]
    scene.options = ConversationOptions(preemptive=False)
    await scene.open()
    await scene.track.talk(0.2)
    await scene.track.hush(0.1)
    assert scene.llm.asked == []
    await scene.track.hush(0.2)
    await scene.turn()


async def test_instructions_come_first_and_history_is_bounded(scene):
    scene.options = ConversationOptions(instructions="Be brief.", max_history=2)
    scene.stt.texts = ["one", "two"]
    await scene.open()
    for number in (1, 2):
        await scene.say()
        await scene.turn(number)
    assert scene.llm.asked[1][0] == ChatMessage("system", "Be brief.")
    assert len(scene.conversation.history) == 2


async def test_closing_in_the_middle_of_an_answer(scene):
    scene.stt.texts = ["go"]
    scene.llm.reply = "word " * 200
    scene.tts.seconds_per_word = 0.2
    await scene.open()
    await scene.say()
    await until(lambda: scene.conversation.state is AgentState.SPEAKING, "the agent speaks")
    await scene.conversation.aclose()
    await scene.conversation.aclose()
    assert scene.sink.cleared and scene.llm.closed == 1 and "lk.chat" not in scene.room.handlers


def test_a_turn_only_moves_where_it_may():
    turn = Turn(1)
    with pytest.raises(WrongTransition, match="listening and cannot become speaking"):
        turn.move(TurnState.SPEAKING)
    turn.move(TurnState.THINKING)
    turn.move(TurnState.SPEAKING)
    turn.move(TurnState.INTERRUPTED)
    assert turn.over and turn.interrupted
    with pytest.raises(WrongTransition):
        turn.move(TurnState.DONE)
