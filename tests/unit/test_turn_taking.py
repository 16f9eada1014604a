"""Who speaks when: what may not be interrupted, what is an interruption, and what becomes of a question meanwhile."""

import asyncio

import pytest

from greenroom.agents.conversation import AgentState, ConversationOptions, TurnState
from greenroom.agents.speech import ChatMessage, EndpointingOptions, Transcript
from tests.conftest import until
from tests.unit.speech_fakes import FakeRemote, FakeSTT, FakeTrack

pytestmark = pytest.mark.virtual_time  # people speak as long as people do

COUNT = "One two three four five six seven eight."
PATIENT = EndpointingOptions(pause=0.064, silence=0.5, unfinished_silence=0.5)
UNINTERRUPTED = ConversationOptions(allow_interruptions=False, interrupt_after=0.05)


async def speaking(scene) -> None:
    await until(lambda: scene.conversation.state is AgentState.SPEAKING, "the agent speaks")


class SlowSTT(FakeSTT):
    """Every text comes when the test lets it."""

    def __init__(self, *texts: str) -> None:
        super().__init__(*texts)
        self.go = asyncio.Event()

    async def finish(self) -> Transcript:
        text = self.texts.pop(0) if self.texts else ""
        await self.go.wait()
        return Transcript(text)


# --- not interruptible ------------------------------------------------------------------------------------------------
async def test_with_interruptions_off_an_utterance_that_ends_during_the_answer_waits_for_its_end(scene):
    scene.options = UNINTERRUPTED
    scene.stt.texts = ["count", "and then"]
    scene.llm.reply = lambda messages: COUNT if len(messages) == 1 else "Then nine."
    scene.tts.seconds_per_word = 0.2
    await scene.open()
    await scene.say()
    await speaking(scene)
    await scene.say(0.3)
    first, second = await scene.turn(1), await scene.turn(2)
    assert (first.state, first.heard_text) == (TurnState.DONE, COUNT) and not scene.sink.cleared
    assert (second.user_text, second.heard_text) == ("and then", "Then nine.")
    assert [message.content for message in scene.conversation.history] == ["count", COUNT, "and then", "Then nine."]


async def test_what_is_said_in_several_breaths_during_an_announcement_is_one_message_afterwards(scene):
    scene.stt.texts = ["hello", "it is me"]
    scene.tts.seconds_per_word = 0.3
    await scene.open()
    announced = asyncio.create_task(scene.conversation.say(COUNT, interruptible=False))
    await speaking(scene)
    await scene.say(0.2)
    await scene.say(0.2)
    turn = await announced
    assert (turn.state, turn.heard_text) == (TurnState.DONE, COUNT) and not scene.sink.cleared
    answer = await scene.turn(2)
    assert (answer.user_text, answer.state, answer.identity) == ("hello it is me", TurnState.DONE, "alice")
    assert scene.llm.asked == [[ChatMessage("assistant", COUNT), ChatMessage("user", "hello it is me")]]


async def test_what_different_people_say_and_type_during_an_announcement_is_answered_one_by_one(scene):
    scene.stt.texts = ["hello", "good morning"]
    scene.llm.reply = lambda messages: f"To {messages[-1].content}."
    scene.tts.seconds_per_word = 0.3
    await scene.open()
    other = FakeTrack("TR_bob")
    scene.conversation.listen(other, FakeRemote("bob"))
    announced = asyncio.create_task(scene.conversation.say(COUNT, interruptible=False))
    await speaking(scene)
    await scene.say(0.2)
    await other.talk(0.2)
    await other.hush(0.2)
    scene.type("written", "carol")
    assert (await announced).state is TurnState.DONE
    turns = [await scene.turn(number) for number in (2, 3, 4)]
    assert [(turn.identity, turn.heard_text) for turn in turns] == [
        ("alice", "To hello."),
        ("bob", "To good morning."),
        ("carol", "To written."),
    ]


async def test_with_interruptions_off_an_answer_that_is_not_heard_yet_still_waits_for_the_user(scene):
    scene.options = UNINTERRUPTED
    scene.stt.texts = ["what is seven", "times eight"]
    scene.llm.hold = asyncio.Event()
    await scene.open()
    await scene.say()
    await until(lambda: scene.llm.asked, "the model is asked")
    talking = asyncio.create_task(scene.say(0.8))
    await until(lambda: scene.conversation.state is AgentState.LISTENING, "the user has the floor")
    scene.llm.hold.set()
    await talking
    turn = await scene.turn(2)
    assert turn.user_text == "what is seven times eight" and scene.turns[0].heard_text == ""
    # Had it begun to be heard, it would have been spoken to its end.
    assert [message.role for message in scene.conversation.history] == ["user", "assistant"]


async def test_the_program_itself_may_silence_what_others_may_not_interrupt(scene):
    scene.tts.seconds_per_word = 0.3
    await scene.open()
    announced = asyncio.create_task(scene.conversation.say(COUNT, interruptible=False))
    await speaking(scene)
    await scene.conversation.interrupt()
    assert (await announced).state is TurnState.INTERRUPTED


async def test_announcements_follow_each_other(scene):
    scene.tts.seconds_per_word = 0.1
    await scene.open()
    first = asyncio.create_task(scene.conversation.say("This is recorded.", interruptible=False))
    await speaking(scene)
    second = await scene.conversation.say("Welcome.")
    assert first.done() and (await first).state is second.state is TurnState.DONE
    assert [(await scene.turn(number)).heard_text for number in (1, 2)] == ["This is recorded.", "Welcome."]


# --- interruptions ----------------------------------------------------------------------------------------------------
async def test_an_answer_does_not_begin_while_the_user_speaks(scene):
    scene.stt = SlowSTT("first", "second")
    scene.tts.seconds_per_word = 0.3
    scene.llm.reply = lambda messages: f"You said {messages[-1].content}."
    await scene.open()
    await scene.say(0.3)
    await scene.track.talk(0.3)
    scene.stt.go.set()  # the text of the first utterance is there, in the middle of the second
    talking = asyncio.create_task(scene.track.talk(0.6))
    await until(lambda: scene.llm.asked, "the model is asked")
    await talking
    assert scene.sink.frames == [] and scene.conversation.state is AgentState.LISTENING
    await scene.track.hush(0.2)
    turn = await scene.turn(2)
    assert turn.heard_text == "You said first second." and scene.turns[0].heard_text == ""


async def test_a_breath_does_not_save_the_agent_from_being_interrupted(scene):
    scene.options = ConversationOptions(interrupt_after=0.25)
    scene.endpointing = PATIENT
    scene.stt.texts = ["count", "no stop"]
    scene.llm.reply = lambda messages: COUNT * 3 if len(messages) == 1 else "Stopped."
    scene.tts.seconds_per_word = 0.4
    await scene.open()
    await scene.track.talk(0.2)
    await scene.track.hush(0.6)
    await speaking(scene)
    # Neither piece is long enough; the breath lies where the first look used to be.
    await scene.track.talk(0.18)
    await scene.track.hush(0.14)
    talking = asyncio.create_task(scene.track.talk(2.0))
    await until(lambda: scene.conversation.state is AgentState.LISTENING, "the agent is silent")
    assert not talking.done()
    await talking
    await scene.track.hush(0.6)
    assert (await scene.turn(1)).interrupted and (await scene.turn(2)).heard_text == "Stopped."


@pytest.mark.parametrize("text", ["the blue one", "red one or blue one please", "yes the red one"])
async def test_an_answer_in_the_words_of_the_question_is_an_answer(scene, text):
    scene.stt.texts = ["ask", text]
    question = "Do you want the red one or the blue one or rather something else today?"
    scene.llm.reply = lambda messages: question if len(messages) == 1 else "Noted."
    scene.tts.seconds_per_word = 0.2
    await scene.open()
    await scene.say()
    await speaking(scene)
    await scene.track.hush(1.0)
    await scene.say(1.2)
    turn = await scene.turn(2)
    assert (turn.user_text, turn.heard_text) == (text, "Noted.") and scene.turns[0].interrupted


async def test_an_echo_does_not_end_what_it_is_the_echo_of(scene):
    """A loudspeaker sends the agent's own words back: it stops for a moment, and goes on."""
    scene.stt.texts = ["count", "three four five"]
    scene.options = ConversationOptions(interrupt_after=0.6)
    scene.llm.reply = COUNT
    scene.tts.seconds_per_word = 0.3
    await scene.open()
    await scene.say()
    await speaking(scene)
    await scene.track.hush(0.8)
    await scene.say(0.8)
    turn = await scene.turn()
    assert (turn.state, turn.heard_text) == (TurnState.DONE, COUNT)
    assert scene.sink.cleared and len(scene.llm.asked) == 1


# --- sounds without words ---------------------------------------------------------------------------------------------
async def test_a_cough_while_the_model_thinks_does_not_lose_the_question(scene):
    scene.stt.texts = ["what is the capital of france", ""]
    scene.llm.reply, scene.llm.hold = "It is Paris.", asyncio.Event()
    await scene.open()
    await scene.say()
    await until(lambda: scene.conversation.state is AgentState.THINKING, "the agent thinks")
    await scene.say(0.4)
    scene.llm.hold.set()
    turn = await scene.turn()
    assert (turn.state, turn.heard_text) == (TurnState.DONE, "It is Paris.")
    assert len(scene.llm.asked) == len(scene.turns) == 1


async def test_after_a_cough_the_agent_goes_on_where_it_was_silenced(scene):
    scene.stt.texts = ["count", ""]
    scene.llm.reply = "One two three four. Five six seven eight."
    scene.tts.seconds_per_word = 0.2
    await scene.open()
    await scene.say()
    await speaking(scene)
    await scene.track.hush(0.4)
    await scene.track.talk(0.4)
    await until(lambda: scene.conversation.state is AgentState.LISTENING, "the agent is silent")
    silent_with = len(scene.sink.frames)
    await scene.track.hush(0.3)
    turn = await scene.turn()
    assert (turn.state, turn.heard_text) == (TurnState.DONE, scene.llm.reply) and scene.sink.cleared == 1
    # Nothing is missing of it; what was queued and not heard was played again.
    assert len(scene.sink.frames) > silent_with and sum(map(len, scene.sink.frames)) >= 8 * 0.2 * 16_000 * 2
    (caption,) = [each for each in scene.captions("agent") if each["closed"]]
    assert caption["text"] == scene.llm.reply


async def test_a_new_question_replaces_the_one_being_thought_about_in_one_message(scene):
    scene.stt.texts = ["what time is it", "in tokyo"]
    scene.llm.hold = asyncio.Event()
    await scene.open()
    await scene.say()
    await until(lambda: scene.llm.asked, "the model is asked")
    await scene.say()
    await until(lambda: len(scene.llm.asked) == 2, "the model is asked again")
    scene.llm.hold.set()
    assert (await scene.turn(2)).user_text == "what time is it in tokyo"
    assert [message.role for message in scene.conversation.history] == ["user", "assistant"]


async def test_somebody_elses_question_does_not_replace_it(scene):
    scene.stt.texts = ["what time is it"]
    scene.llm.hold = asyncio.Event()
    scene.llm.reply = lambda messages: f"To {messages[-1].content}."
    await scene.open()
    await scene.say()
    await until(lambda: scene.llm.asked, "the model is asked")
    scene.type("where are we", "bob")
    await asyncio.sleep(0)
    scene.llm.hold.set()
    turns = [await scene.turn(number) for number in (1, 2)]
    assert [(turn.identity, turn.heard_text) for turn in turns] == [
        ("alice", "To what time is it."),
        ("bob", "To where are we."),
    ]


async def test_what_the_program_says_meanwhile_does_not_lose_the_question(scene):
    scene.stt.texts = ["what time is it"]
    scene.llm.hold = asyncio.Event()
    await scene.open()
    await scene.say()
    await until(lambda: scene.llm.asked, "the model is asked")
    said = await scene.conversation.say("One moment.")
    assert said.state is TurnState.DONE
    scene.llm.hold.set()
    await until(lambda: [turn for turn in scene.turns if turn.heard_text == "All right."], "the question is answered")
    assert scene.llm.asked[-1] == [ChatMessage("assistant", "One moment."), ChatMessage("user", "what time is it")]


async def test_the_history_holds_what_was_heard_of_one_long_sentence(scene):
    """A slow voice: the sentence is far from over, although the model and the synthesiser are done with it."""
    scene.stt.texts = ["tell me", "stop"]
    words = [str(number) for number in range(20)]
    scene.llm.reply = lambda messages: " ".join(words) + " end." if len(messages) == 1 else "Stopped."
    scene.tts.seconds_per_word = 0.8
    await scene.open()
    await scene.say()
    await speaking(scene)
    await scene.track.hush(1.6)
    await scene.say(0.3)
    turn = await scene.turn()
    # 16 s in all, of which hardly more than 2 were played.
    heard = turn.heard_text.split()
    assert turn.interrupted and 1 <= len(heard) <= 6 and heard == words[: len(heard)]
    assert scene.conversation.history[1] == ChatMessage("assistant", turn.heard_text, interrupted=True)
