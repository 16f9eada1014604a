"""Whatever a provider raises, and whenever: the turn ends, the user hears an apology, the program learns the reason."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from greenroom.agents.conversation import AgentState, ConversationOptions, TurnState
from greenroom.agents.speech import ProviderError, Transcript
from greenroom.agents.transcriber import EventType, Transcriber
from tests.conftest import until
from tests.unit.speech_fakes import FakeReader, FakeSTT, FakeTTS, FakeVAD

pytestmark = pytest.mark.virtual_time  # people speak as long as people do

ERRORS = [ProviderError("no model"), ValueError("no model"), KeyError("no model"), asyncio.CancelledError("no model")]
LOUD, QUIET = b"\x00\x10" * 16_000, bytes(64_000)


async def chunks(*parts: bytes, size: int = 640) -> AsyncIterator[bytes]:
    pcm = b"".join(parts)
    for start in range(0, len(pcm), size):
        yield pcm[start : start + size]
        await asyncio.sleep(0)


# --- in a conversation ------------------------------------------------------------------------------------------------
async def goes_on(scene, number: int) -> None:
    """The next turn is answered."""
    scene.stt.texts = ["again"]
    await scene.say()
    turn = await scene.turn(number)
    assert (turn.user_text, turn.state) == ("again", TurnState.DONE)
    assert scene.conversation.state is AgentState.LISTENING


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("after", ["", "Well. It is "])
async def test_a_language_model_that_raises(scene, error, after):
    scene.stt.texts = ["hello"]
    working = scene.llm.chat

    async def chat(messages):
        if after:
            yield after
        raise error

    scene.llm.chat = chat
    await scene.open()
    await scene.say()
    turn = await scene.turn()
    assert turn.state is TurnState.FAILED and turn.error
    assert " ".join(scene.tts.spoken).endswith(scene.options.apology)
    reports = await until(lambda: [t for t in scene.room.local_participant.texts if t[0] == "greenroom.turn"], "report")
    assert json.loads(reports[0][1])["error"] == turn.error
    assert scene.conversation.history[-1].content == scene.options.apology
    # It is looked up anew for each conversation only.
    scene.conversation._chat = working
    await goes_on(scene, 2)


@pytest.mark.parametrize("error", ERRORS, ids=repr)
async def test_a_voice_that_raises_once(scene, error):
    class Voice(FakeTTS):
        broken = True

        async def synthesize(self, text):
            if self.broken:
                self.broken = False
                raise error
            async for pcm in super().synthesize(text):
                yield pcm

    scene.tts = Voice()
    scene.stt.texts = ["hello"]
    await scene.open()
    await scene.say()
    turn = await scene.turn()
    assert turn.state is TurnState.FAILED and turn.error
    assert " ".join(scene.tts.spoken) == scene.options.apology
    await goes_on(scene, 2)


async def test_a_voice_that_is_no_generator_and_gives_nothing_ends_the_turn(scene):
    class Voice(FakeTTS):
        def synthesize(self, text):
            raise RuntimeError("not even begun")

    scene.tts, scene.stt.texts = Voice(), ["hello"]
    await scene.open()
    await scene.say()
    assert (await scene.turn()).error == "RuntimeError: not even begun"
    await until(lambda: scene.conversation.state is AgentState.LISTENING, "the agent listens")


class BrokenSTT(FakeSTT):
    def __init__(self, error: BaseException, where: str = "finish") -> None:
        super().__init__()
        self.error: BaseException | None = error
        self.where = where

    def _break(self, where: str) -> None:
        if where == self.where and self.error is not None:
            error, self.error = self.error, None
            raise error

    def push(self, pcm: bytes) -> None:
        self._break("push")

    def pause(self) -> None:
        self._break("pause")

    async def finish(self) -> Transcript:
        self._break("finish")
        return await super().finish()


@pytest.mark.parametrize("error", ERRORS, ids=repr)
async def test_a_recogniser_that_raises_is_apologised_for(scene, error):
    scene.stt = BrokenSTT(error)
    await scene.open()
    await scene.say()
    turn = await scene.turn()
    assert (turn.state, turn.identity, turn.user_text) == (TurnState.FAILED, "alice", "") and turn.error
    assert " ".join(scene.tts.spoken) == scene.options.apology and scene.llm.asked == []
    await goes_on(scene, 2)


async def test_a_recogniser_that_fails_does_not_cut_what_is_being_said(scene):
    scene.stt = BrokenSTT(ValueError("?"))
    scene.tts.seconds_per_word = 0.2
    await scene.open()
    said = asyncio.create_task(scene.conversation.say("One two three four five."))
    await until(lambda: scene.conversation.state is AgentState.SPEAKING, "the agent speaks")
    await scene.say(0.3)
    assert (await said).heard_text == "One two three four five."
    assert (await scene.turn(2)).state is TurnState.FAILED
    await until(lambda: scene.tts.spoken[-1] == "Please try again.", "the apology comes afterwards")


async def test_a_failure_is_said_in_writing_to_who_wrote(scene):
    scene.llm.fail = LookupError("gone")
    await scene.open()
    scene.type("hello")
    assert (await scene.turn()).error == "LookupError: gone"
    written = await until(lambda: [t for t in scene.room.local_participant.texts if t[0] == "lk.chat"], "an answer")
    assert written == [("lk.chat", scene.options.apology, ["alice"])]


async def test_without_an_apology_there_is_silence(scene):
    scene.options = ConversationOptions(apology="")
    scene.llm.fail = LookupError("gone")
    await scene.open()
    scene.type("hello")
    assert (await scene.turn()).state is TurnState.FAILED and scene.tts.spoken == []


# --- in a transcriber -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("where", ["push", "pause", "finish"])
@pytest.mark.parametrize("error", [ProviderError("broken"), RuntimeError("broken"), OSError("broken")], ids=repr)
async def test_every_utterance_is_finished_although_the_recogniser_raises(where, error):
    stt = BrokenSTT(error, where)
    stt.texts = ["second"]
    events = [event async for event in Transcriber(chunks(LOUD, QUIET, LOUD, QUIET), stt=stt, vad=FakeVAD())]
    started = [event.segment_id for event in events if event.type is EventType.TALKING_STARTED]
    finished = [event for event in events if event.type is EventType.TALKING_FINISHED]
    assert [event.segment_id for event in finished] == started and len(started) == 2
    assert "broken" in finished[0].error and (finished[1].text, finished[1].error) == ("second", "")


async def test_a_recogniser_that_cancels_itself_has_failed():
    events = [
        event
        async for event in Transcriber(chunks(LOUD, QUIET), stt=BrokenSTT(asyncio.CancelledError()), vad=FakeVAD())
    ]
    assert events[-1].type is EventType.TALKING_FINISHED and events[-1].error


async def test_a_recogniser_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr("greenroom.agents.transcriber.FINAL_WITHIN", 0.05)

    class Hanging(FakeSTT):
        async def finish(self):
            await asyncio.Event().wait()

    events = [event async for event in Transcriber(chunks(LOUD, QUIET), stt=Hanging(), vad=FakeVAD())]
    assert events[-1].type is EventType.TALKING_FINISHED and "no text within" in events[-1].error


async def test_a_voice_detector_or_a_source_that_raises_ends_the_utterance_under_way():
    class Breaking(FakeVAD):
        frames = 0

        def probability(self, frame):
            self.frames += 1
            if self.frames > 20:
                raise ZeroDivisionError("vad")
            return super().probability(frame)

    async def source():
        yield LOUD
        raise ConnectionError("source")

    for audio, vad in ((chunks(LOUD, QUIET), Breaking()), (source(), FakeVAD())):
        events = []
        transcriber = Transcriber(audio, events.append, stt=FakeSTT("x"), vad=vad).start()
        with pytest.raises((ZeroDivisionError, ConnectionError)):
            await transcriber.wait()
        assert [event.type for event in events] == [EventType.TALKING_STARTED, EventType.TALKING_FINISHED]
        assert events[-1].error


async def test_closing_in_the_middle_of_an_utterance_tells_its_end():
    async def endless():
        while True:
            yield LOUD[:640]
            await asyncio.sleep(0)

    events = []
    talking = asyncio.Event()

    def on_event(event):
        events.append(event.type)
        talking.set()

    transcriber = Transcriber(endless(), on_event, stt=FakeSTT("x"), vad=FakeVAD()).start()
    await asyncio.wait_for(talking.wait(), 10)
    await transcriber.aclose()
    assert events == [EventType.TALKING_STARTED, EventType.TALKING_FINISHED]


async def test_closing_at_once_closes_the_recogniser():
    class Counting(FakeSTT):
        closed = 0

        async def aclose(self):
            self.closed += 1

    stt = Counting()
    transcriber = Transcriber(chunks(LOUD), stt=stt, vad=FakeVAD()).start()
    await transcriber.aclose()
    assert stt.closed == 1


class LengthSTT(FakeSTT):
    """The text is how many tenths of a second were pushed; long utterances take longer to recognise."""

    def stream(self, on_partial=None):
        self.pcm = 0
        return self

    def push(self, pcm):
        self.pcm += len(pcm)

    async def finish(self):
        tenths, self.pcm = self.pcm * 10 // 32_000, 0
        for _ in range(tenths):
            await asyncio.sleep(0)
        return Transcript(str(tenths))


@pytest.mark.parametrize("size", [640, 32_000, 32_000 * 60])
async def test_utterances_are_the_same_however_long_the_chunks(size):
    audio = chunks(LOUD, QUIET, LOUD, LOUD, LOUD, QUIET, LOUD, QUIET, size=size)
    events = [event async for event in Transcriber(audio, stt=LengthSTT(), vad=FakeVAD())]
    assert [event.text for event in events if event.type is EventType.FINAL] == ["15", "40", "19"]
    assert len({event.segment_id for event in events}) == 3


# --- typed messages ---------------------------------------------------------------------------------------------------
async def test_a_long_typed_message_is_cut_while_it_arrives(scene):
    await scene.open()
    reader = FakeReader(*["x" * 1_000] * 1_000)
    scene.room.handlers["lk.chat"](reader, "alice")
    turn = await scene.turn()
    assert len(turn.user_text) == 4_000 and reader.read <= 5_000 and reader.closed


async def test_typed_messages_that_never_end_do_not_pile_up(scene):
    class Endless(FakeReader):
        async def __anext__(self):
            await asyncio.Event().wait()

    await scene.open()
    readers = [Endless() for _ in range(100)]
    for reader in readers:
        scene.room.handlers["lk.chat"](reader, "alice")
    await asyncio.sleep(0)
    assert sum(reader.closed for reader in readers) == 100 - 32
    await scene.conversation.aclose()
    assert all(reader.closed for reader in readers)


async def test_a_typed_message_that_breaks_off_is_no_turn(scene):
    class Broken(FakeReader):
        async def __anext__(self):
            raise ConnectionError("the sender left")

    await scene.open()
    scene.room.handlers["lk.chat"](Broken(), "alice")
    scene.type("hello")
    assert (await scene.turn()).user_text == "hello"


# --- closing ----------------------------------------------------------------------------------------------------------
async def test_a_sink_of_the_callers_stays_open(scene):
    closed = []
    scene.sink.aclose = lambda: closed.append(True)
    await scene.open()
    await scene.conversation.aclose()
    assert closed == []


async def test_closing_takes_the_state_away_and_leaves_no_task(scene):
    scene.stt.texts = ["hello"]
    scene.tts.seconds_per_word = 0.2
    before = asyncio.all_tasks()
    await scene.open()
    await scene.say()
    await until(lambda: scene.conversation.state is AgentState.SPEAKING, "the agent speaks")
    said = asyncio.create_task(scene.conversation.say("Not any more.", interruptible=False))
    await asyncio.sleep(0)
    await scene.conversation.aclose()
    turn = await asyncio.wait_for(said, 5)
    assert turn.over and scene.room.local_participant.attributes == {"lk.agent.state": ""}
    assert asyncio.all_tasks() <= before | {asyncio.current_task()}


async def test_a_room_that_is_gone_is_no_reason_to_complain(scene, caplog):
    """A program without `on_stop` never closes its conversation: the room ends, and that is all."""
    scene.stt.texts = ["hello"]
    scene.llm.reply = "All right. And good night."
    scene.tts.seconds_per_word = 0.2
    await scene.open()
    await scene.say()
    await until(lambda: scene.conversation.state is AgentState.SPEAKING, "the agent speaks")

    async def gone(*_args, **_kwargs):
        raise RuntimeError("not connected")

    scene.room.connected = False
    participant = scene.room.local_participant
    participant.set_attributes = participant.send_text = participant.stream_text = gone
    scene.track.end()
    await scene.turn()
    await until(lambda: scene.conversation.state is AgentState.IDLE, "nobody is there any more")
    await scene.conversation.aclose()
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
