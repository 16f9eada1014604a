"""The conversation: hears participants, takes turns, answers with a voice, and is silent when interrupted."""

from __future__ import annotations

import asyncio
import enum
import json
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from greenroom.agents.conversation.answer import Answer
from greenroom.agents.conversation.captions import AgentCaption, Captions
from greenroom.agents.conversation.playout import AudioSink, Playout
from greenroom.agents.conversation.turn import Stage, Turn, TurnState
from greenroom.agents.speech.endpointing import EndpointingOptions
from greenroom.agents.speech.protocols import LLM, STT, TTS, VAD, ChatMessage, ProviderError
from greenroom.agents.speech.providers import default_llm, default_stt, default_tts, default_vad
from greenroom.agents.transcriber import EventType, Transcriber, TranscriptionEvent

__all__ = ["AgentState", "Conversation", "ConversationOptions", "load_models"]

logger = logging.getLogger("greenroom.conversation")

STATE_ATTRIBUTE = "lk.agent.state"
CHAT_TOPIC = "lk.chat"
TURN_TOPIC = "greenroom.turn"
VOICE_TRACK = "agent-voice"
VOICE_QUEUE_MS = 200
MAX_CHAT_CHARACTERS = 4_000
JOIN_WITHIN = 3.0
"""Seconds after which an unanswered, interrupted utterance is not continued by the next one any more."""


class AgentState(enum.StrEnum):
    """Published as attribute `lk.agent.state`, which official front ends show."""

    INITIALIZING = "initializing"
    IDLE = "idle"
    """Nobody is there to listen to."""
    LISTENING = "listening"
    THINKING = "thinking"
    SPEAKING = "speaking"


@dataclass(frozen=True, slots=True)
class ConversationOptions:
    allow_interruptions: bool = True
    interrupt_after: float = 0.25
    """Seconds of continuous speech after which the agent falls silent. Shorter noises do not interrupt it."""
    preemptive: bool = True
    """Prepare the answer while it is still uncertain whether the speaker is done, and drop it when he goes on. The answer is
    heard sooner; a language model is asked more often."""
    max_history: int = 200
    """Messages kept for the language model, the instructions excluded."""
    instructions: str = ""
    """The system message for the language model."""
    apology: str = "I am sorry, something went wrong. Please try again."
    """Spoken when the language model fails; empty for silence."""


@dataclass(slots=True)
class _Draft:
    """An answer that is prepared before the end of the utterance is certain."""

    turn: Turn
    messages: list[ChatMessage]
    answer: Answer
    task: asyncio.Task[None]


def load_models() -> None:
    """Load what the default providers need. Blocking; for `prewarm`, before job processes are forked."""
    default_vad().load()
    default_stt().load()
    default_tts().load()


class Conversation:
    """A voice in a room.

        conversation = Conversation(room)
        await conversation.start()                # publishes the voice
        conversation.listen(track, participant)   # for every audio track to be heard

    Args:
        room: a connected `rtc.Room`.
        stt, vad, tts, llm: providers; the defaults of `speech.providers` otherwise.
        on_turn: called with every `Turn` that is over.

    Raises:
        MissingProvider: a default provider is not installed; the text says what to install.
    """

    def __init__(
        self,
        room: Any,
        *,
        stt: STT | None = None,
        vad: VAD | None = None,
        tts: TTS | None = None,
        llm: LLM | None = None,
        options: ConversationOptions | None = None,
        endpointing: EndpointingOptions | None = None,
        on_turn: Callable[[Turn], Any] | None = None,
    ) -> None:
        self._room = room
        self._stt = stt or default_stt()
        self._vad = vad or default_vad()
        self._tts = tts or default_tts()
        self._llm = llm or default_llm()
        made_here = ((stt, self._stt), (tts, self._tts), (llm, self._llm))
        self._own_providers = [made for given, made in made_here if given is None]
        self.options = options or ConversationOptions()
        self._endpointing = endpointing
        self._on_turn = on_turn
        self._sink: AudioSink | None = None
        self._voice_sid = ""
        self._make_frame: Callable[[bytes, int], Any] | None = None
        self._captions = Captions(room.local_participant)
        self._transcribers: dict[str, Transcriber] = {}
        self._history: list[ChatMessage] = []
        self._state = AgentState.INITIALIZING
        self._state_changed = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._turns = 0
        self._last: Turn | None = None
        self._answer: asyncio.Task[None] | None = None
        self._draft: _Draft | None = None
        self._answering: Turn | None = None
        self._playout: Playout | None = None
        self._interruptible = True
        self._talking: dict[str, bool] = {}
        """Segment of each utterance under way, and whether the agent spoke when it began."""
        self._turn_lock = asyncio.Lock()
        self._closed = False

    # --- what an application sees -------------------------------------------------------------------------------------
    @property
    def state(self) -> AgentState:
        return self._state

    @property
    def history(self) -> tuple[ChatMessage, ...]:
        """What was said, by whom; interrupted answers as far as they were heard."""
        return tuple(self._history)

    @property
    def turn(self) -> Turn | None:
        """The turn that is being answered."""
        return self._answering

    async def start(self) -> None:
        """Publish the voice and the state, and answer typed chat."""
        self._own(self._publish_state(), "agent state")
        self._state_changed.set()
        if self._sink is None:
            await self._publish_voice()
        self._room.register_text_stream_handler(CHAT_TOPIC, self._on_chat)
        self._settle()

    def listen(self, track: Any, participant: Any) -> Transcriber:
        """Hear an audio track of a participant, until the track ends."""
        sid = track.sid

        def on_event(event: TranscriptionEvent) -> None:
            self._on_speech(event, participant.identity, sid)

        transcriber = Transcriber(track, on_event, stt=self._stt, vad=self._vad, endpointing=self._endpointing)
        self._transcribers[sid] = transcriber
        self._own(self._follow(sid, transcriber.start()), "listen")
        self._settle()
        return transcriber

    async def say(self, text: str | AsyncIterator[str], *, interruptible: bool = True) -> Turn:
        """Speak, without having been asked. Returns the turn when it is over."""
        turn = self._new_turn("", "")
        turn.mark(Stage.TRANSCRIBED)
        async with self._turn_lock:
            await self._stop_answer()
            self._drop_draft()
            spoken = self._make_answer(turn, _once(text) if isinstance(text, str) else text)
            answer = await self._begin_answer(turn, spoken, interruptible)
        await asyncio.wait([answer])
        return turn

    async def interrupt(self) -> None:
        """Be silent at once. What was heard stays in the history."""
        async with self._turn_lock:
            await self._stop_answer()

    async def aclose(self) -> None:
        """Stop listening and speaking. Twice is fine."""
        if self._closed:
            return
        self._closed = True
        self._room.unregister_text_stream_handler(CHAT_TOPIC)
        await self.interrupt()
        self._drop_draft()
        for transcriber in list(self._transcribers.values()):
            await transcriber.aclose()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._captions.aclose()
        for closable in (self._sink, *self._own_providers):
            if hasattr(closable, "aclose"):
                await closable.aclose()

    # --- hearing ------------------------------------------------------------------------------------------------------
    async def _follow(self, sid: str, transcriber: Transcriber) -> None:
        try:
            await transcriber.wait()
        finally:
            self._transcribers.pop(sid, None)
            self._settle()

    def _on_speech(self, event: TranscriptionEvent, identity: str, track_sid: str) -> None:
        self._captions.heard(event, identity, track_sid)
        segment = event.segment_id
        if event.type is EventType.TALKING_STARTED:
            self._talking[segment] = self._speaking
            if self._answering is not None:
                self._own(self._barge_in(segment, track_sid), "barge-in")
            self._settle()
        elif event.type is EventType.PARTIAL:
            transcriber = self._transcribers.get(track_sid)
            if transcriber is not None and transcriber.pausing:
                self._prepare_answer(event.text, identity)
        elif event.type is EventType.TALKING_FINISHED:
            over_agent = self._talking.pop(segment, False)
            if event.text and not (over_agent and self._is_echo(event.text)):
                self._own(self._user_said(event, identity), "user turn")
            self._settle()

    @property
    def _speaking(self) -> bool:
        return self._answering is not None and self._answering.state is TurnState.SPEAKING

    async def _barge_in(self, segment: str, track_sid: str) -> None:
        """Somebody began to speak while an answer is under way: stop it, if that was more than a noise."""
        if not (self.options.allow_interruptions and self._interruptible):
            return
        transcriber = self._transcribers.get(track_sid)
        await asyncio.sleep(self.options.interrupt_after)
        if segment in self._talking and transcriber is not None and not transcriber.pausing:
            await self.interrupt()

    def _is_echo(self, text: str) -> bool:
        """Whether these words, heard while the agent spoke, are the agent's own, back from somebody's loudspeaker."""
        words = _words(text)
        turn = self._answering or self._last
        if turn is None or len(words) < 3:
            return False
        spoken = _words(turn.agent_text)
        return sum(word in spoken for word in words) >= 0.8 * len(words)

    def _on_chat(self, reader: Any, identity: str) -> None:
        self._own(self._user_typed(reader, identity), "chat")

    async def _user_typed(self, reader: Any, identity: str) -> None:
        text = (await reader.read_all()).strip()[:MAX_CHAT_CHARACTERS]
        if not text or identity == self._room.local_participant.identity:
            return
        turn = self._new_turn(identity, text)
        turn.mark(Stage.TRANSCRIBED)
        answer = await self._respond(turn)
        await asyncio.wait([answer])
        if turn.agent_text:
            await self._room.local_participant.send_text(
                turn.agent_text, topic=CHAT_TOPIC, destination_identities=[identity]
            )

    async def _user_said(self, event: TranscriptionEvent, identity: str) -> None:
        turn = self._new_turn(identity, event.text)
        turn.mark(Stage.SPEECH_ENDED, event.speech_ended_at)
        turn.mark(Stage.ENDPOINT, event.endpoint_at)
        turn.mark(Stage.TRANSCRIBED)
        await self._respond(turn)

    # --- turns --------------------------------------------------------------------------------------------------------
    def _new_turn(self, identity: str, text: str) -> Turn:
        self._turns += 1
        return Turn(self._turns, identity, text)

    def _prepare_answer(self, text: str, identity: str) -> None:
        """The speaker fell silent, and this is what was said so far: if that was all, the answer is wanted soon."""
        if not self.options.preemptive or self._answering is not None or self._closed:
            return
        messages = self._messages(text)
        if self._draft is not None:
            if self._draft.messages == messages:
                return
            self._drop_draft()
        turn = Turn(0, identity, text)
        answer = self._make_answer(turn, self._llm.chat(messages), hold=True)
        self._draft = _Draft(turn, messages, answer, asyncio.create_task(answer.run(), name="draft"))
        # A draft that fails and is not wanted is nobody's failure.
        self._draft.task.add_done_callback(lambda task: task.cancelled() or task.exception())

    def _drop_draft(self) -> None:
        draft, self._draft = self._draft, None
        if draft is not None:
            self._own(_cancelled(draft.task), "dropped draft")

    def _messages(self, text: str) -> list[ChatMessage]:
        """What the language model is asked when the user says `text` now."""
        system = [ChatMessage("system", self.options.instructions)] if self.options.instructions else []
        return [*system, *self._history, ChatMessage("user", text)]

    async def _respond(self, turn: Turn) -> asyncio.Task[None]:
        async with self._turn_lock:
            await self._stop_answer()
            last = self._last
            if (
                last is not None
                and last.interrupted
                and not last.heard_text
                and last.identity == turn.identity
                and time.monotonic() - last.times[Stage.ENDED] < JOIN_WITHIN
                and self._history
                and self._history[-1].role == "user"
            ):
                # The first half was taken for the whole and nothing of the answer was heard: it is one message.
                turn.user_text = f"{last.user_text} {turn.user_text}"
                self._history.pop()
            messages = self._messages(turn.user_text)
            self._remember(ChatMessage("user", turn.user_text))
            draft = self._draft
            if draft is not None and draft.messages == messages and draft.turn.identity == turn.identity:
                self._draft = None
                prepared, ready_at = draft.turn, turn.times[Stage.TRANSCRIBED]
                prepared.number = turn.number
                prepared.not_before(ready_at)
                prepared.times.update(turn.times)
                return await self._begin_answer(prepared, draft.answer, True, draft.task)
            self._drop_draft()
            return await self._begin_answer(turn, self._make_answer(turn, self._llm.chat(messages)), True)

    async def _begin_answer(
        self, turn: Turn, answer: Answer, interruptible: bool, running: asyncio.Task[None] | None = None
    ) -> asyncio.Task[None]:
        turn.move(TurnState.THINKING)
        self._answering = turn
        self._interruptible = interruptible
        self._answer = self._own(self._run_answer(turn, answer, running), f"turn {turn.number}")
        self._settle()
        # A task that is cancelled before its first step never runs its clean-up: let it take that step.
        await asyncio.sleep(0)
        return self._answer

    async def _stop_answer(self) -> None:
        if self._answer is not None and not self._answer.done():
            if self._playout is not None:
                self._playout.stop()
            self._answer.cancel()
            await asyncio.wait([self._answer])

    async def _run_answer(self, turn: Turn, answer: Answer, running: asyncio.Task[None] | None) -> None:
        try:
            await self._speak(turn, answer, running)
            turn.move(TurnState.DONE)
        except asyncio.CancelledError:
            turn.move(TurnState.INTERRUPTED)
        except ProviderError as failure:
            logger.error("turn %d failed: %s", turn.number, failure)
            turn.error = str(failure)
            turn.move(TurnState.FAILED)
            if not turn.heard_text and self.options.apology and not turn.agent_text:
                apology = self._answering = Turn(turn.number, state=TurnState.THINKING)
                try:
                    await self._speak(apology, self._make_answer(apology, _once(self.options.apology)))
                except (ProviderError, asyncio.CancelledError) as second:
                    logger.error("no apology either: %s", second)
        finally:
            if turn.heard_text:
                self._remember(ChatMessage("assistant", turn.heard_text, interrupted=turn.interrupted))
            self._last = turn
            self._answering = None
            self._playout = None
            self._settle()
            if not self._closed:
                self._own(self._report(turn), "turn report")

    def _make_answer(self, turn: Turn, text: AsyncIterator[str], *, hold: bool = False) -> Answer:
        assert self._sink is not None and self._make_frame is not None, "start() was not called"
        caption: AgentCaption | None = None
        caption_lock = asyncio.Lock()
        segment = f"SG_{uuid.uuid4().hex[:12]}"

        def on_voice() -> None:
            turn.move(TurnState.SPEAKING)
            self._settle()

        async def on_sentence(sentence: str | None) -> None:
            nonlocal caption
            async with caption_lock:
                try:
                    if sentence is None:
                        if caption is not None:
                            await caption.aclose()
                    else:
                        if caption is None:
                            caption = await self._captions.speak(segment, self._voice_sid)
                        await caption.add(sentence)
                except Exception as error:
                    logger.warning("a caption was not sent: %s", error)

        playout = Playout(self._sink, self._tts.sample_rate, self._make_frame)
        return Answer(turn, text, self._tts, playout, on_voice=on_voice, on_sentence=on_sentence, hold=hold)

    async def _speak(self, turn: Turn, answer: Answer, running: asyncio.Task[None] | None = None) -> None:
        """Speak an answer to its end; `running` when its preparation is under way already."""
        playout = self._playout = answer.playout
        answer.release()
        try:
            await (running if running is not None else answer.run())
            turn.heard_text = turn.agent_text.strip()
        except (asyncio.CancelledError, ProviderError):
            playout.stop()
            turn.heard_text = playout.heard()
            raise
        finally:
            self._own(answer.on_sentence(None), "caption end")

    async def _report(self, turn: Turn) -> None:
        if self._on_turn is not None:
            try:
                self._on_turn(turn)
            except Exception:
                logger.exception("on_turn failed")
        logger.info("turn %d %s: %s", turn.number, turn.state, turn.milliseconds())
        await self._room.local_participant.send_text(json.dumps(turn.report()), topic=TURN_TOPIC)

    def _remember(self, message: ChatMessage) -> None:
        self._history.append(message)
        del self._history[: -self.options.max_history]

    # --- state --------------------------------------------------------------------------------------------------------
    def _settle(self) -> None:
        """The state follows from what is going on; it is not set by hand anywhere else."""
        if self._sink is None:
            state = AgentState.INITIALIZING
        elif self._answering is not None:
            state = AgentState.SPEAKING if self._speaking else AgentState.THINKING
        else:
            state = AgentState.LISTENING if self._transcribers else AgentState.IDLE
        if state is not self._state:
            self._state = state
            self._state_changed.set()

    async def _publish_state(self) -> None:
        published = None
        while True:
            await self._state_changed.wait()
            self._state_changed.clear()
            if self._state is not published:
                published = self._state
                try:
                    await self._room.local_participant.set_attributes({STATE_ATTRIBUTE: str(published)})
                except Exception as error:
                    # Front ends show an old state until the next change; the conversation itself goes on.
                    logger.warning("the agent's state was not published: %s", error)

    async def _publish_voice(self) -> None:
        from greenroom import rtc

        rate = self._tts.sample_rate
        source = rtc.AudioSource(rate, 1, queue_size_ms=VOICE_QUEUE_MS)
        track = rtc.LocalAudioTrack.create_audio_track(VOICE_TRACK, source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        publication = await self._room.local_participant.publish_track(track, options)
        self.use_sink(source, lambda pcm, rate: rtc.AudioFrame(pcm, rate, 1, len(pcm) // 2), publication.sid)

    def use_sink(self, sink: AudioSink, make_frame: Callable[[bytes, int], Any], track_sid: str = "") -> None:
        """Speak into `sink` instead of a track of the room's. Before `start`."""
        self._sink, self._make_frame, self._voice_sid = sink, make_frame, track_sid

    def _own(self, work: Any, name: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s failed", task.get_name(), exc_info=error)


async def _once(text: str) -> AsyncIterator[str]:
    yield text


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z']+|\d+", text.lower())
