"""The conversation: hears participants, takes turns, answers with a voice, and is silent when interrupted."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from greenroom.agents.conversation.answer import Answer
from greenroom.agents.conversation.chat import TypedChat
from greenroom.agents.conversation.floor import Floor
from greenroom.agents.conversation.options import AgentState, ConversationOptions
from greenroom.agents.conversation.playout import AudioSink, Playout
from greenroom.agents.conversation.presence import Presence
from greenroom.agents.conversation.reply import Draft, Reply, failing, once
from greenroom.agents.conversation.turn import Stage, Turn, TurnState
from greenroom.agents.speech.adapters import require, text_source
from greenroom.agents.speech.endpointing import EndpointingOptions
from greenroom.agents.speech.protocols import LLM, STT, TTS, VAD, ChatMessage, ProviderError, reason
from greenroom.agents.speech.providers import default_llm, default_stt, default_tts, default_vad
from greenroom.agents.transcriber import EventType, Transcriber, TranscriptionEvent
from greenroom.tasks import Tasks

__all__ = ["AgentState", "Conversation", "ConversationOptions", "load_models"]

logger = logging.getLogger("greenroom.conversation")

MAX_OWED = 32
"""Answers that may wait for their turn."""
JOIN_WITHIN = 3.0
"""Seconds after which an unanswered, interrupted utterance is not continued by the next one any more."""


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
        stt, vad, tts, llm: providers; the defaults of `speech.providers` otherwise. `llm` may also be a function from the
            messages to text; see `speech.adapters.text_source`.
        on_turn: called with every `Turn` that is over.

    Raises:
        MissingProvider: a default provider is not installed; the text says what to install.
        TypeError: a provider is not what it must be; the text says what is wanted.
    """

    def __init__(
        self,
        room: Any,
        *,
        stt: STT | None = None,
        vad: VAD | None = None,
        tts: TTS | None = None,
        llm: LLM | Callable[..., Any] | None = None,
        options: ConversationOptions | None = None,
        endpointing: EndpointingOptions | None = None,
        on_turn: Callable[[Turn], Any] | None = None,
    ) -> None:
        self._stt = stt or default_stt()
        self._vad = vad or default_vad()
        self._tts = tts or default_tts()
        self._llm = llm or default_llm()
        require("stt", self._stt, "stream")
        require("vad", self._vad, "stream")
        require("tts", self._tts, "synthesize", "sample_rate")
        self._chat = text_source(self._llm)
        made_here = ((stt, self._stt), (tts, self._tts), (llm, self._llm))
        self._own_providers = [made for given, made in made_here if given is None]
        self.options = options or ConversationOptions()
        self._endpointing = endpointing
        self._on_turn = on_turn
        self._tasks = Tasks(logger)
        self._presence = Presence(room, self._tasks)
        self._floor = Floor(self.options.interrupt_after, self._mind_the_floor)
        self._typed = TypedChat(room, self._user_typed, self._tasks.start, self._presence.tell)
        self._transcribers: dict[str, Transcriber] = {}
        self._history: list[ChatMessage] = []
        self._turns = 0
        self._last: Turn | None = None
        self._answer: asyncio.Task[None] | None = None
        self._current: Reply | None = None
        self._owed: deque[Reply] = deque()
        self._draft: Draft | None = None
        self._answering: Turn | None = None
        self._playout: Playout | None = None
        self._turn_lock = asyncio.Lock()
        self._started = self._closed = False

    # --- what an application sees -------------------------------------------------------------------------------------
    @property
    def state(self) -> AgentState:
        return self._presence.state

    @property
    def history(self) -> tuple[ChatMessage, ...]:
        """What was said, by whom; interrupted answers as far as they were heard."""
        return tuple(self._history)

    @property
    def turn(self) -> Turn | None:
        """The turn that is being answered."""
        return self._answering

    async def start(self) -> None:
        """Publish the voice and the state, and answer typed chat. Raises what publishing raises; then nothing stays."""
        await self._presence.start(self._tts.sample_rate)
        self._started = True
        self._typed.start()
        self._settle()

    def listen(self, track: Any, participant: Any) -> Transcriber:
        """Hear an audio track of a participant, until the track ends."""
        sid = track.sid

        transcriber: Transcriber

        def on_event(event: TranscriptionEvent) -> None:
            self._on_speech(event, participant.identity, sid, transcriber)

        transcriber = Transcriber(
            track, on_event, stt=self._stt, vad=self._vad, endpointing=self._endpointing, captions=False
        )
        self._transcribers[sid] = transcriber
        self._tasks.start(self._follow(sid, transcriber.start()), "listen")
        self._settle()
        return transcriber

    async def say(self, text: str | AsyncIterator[str], *, interruptible: bool = True) -> Turn:
        """Speak, without having been asked. Returns the turn when it is over.

        What is being said is cut short, unless it may not be interrupted: then this waits for its end. A question that is
        being thought about is answered afterwards, and so is what is said while `interruptible` is False.
        """
        turn = self._new_turn("", "")
        turn.mark(Stage.TRANSCRIBED)
        source = once(text) if isinstance(text, str) else text
        allowed = interruptible and self.options.allow_interruptions
        reply = Reply(turn, allowed, source)
        await self._take(reply)
        await reply.over.wait()
        return reply.turn

    async def interrupt(self) -> None:
        """Be silent at once, whether or not what is being said may be interrupted by others. What was heard stays in the
        history; answers that are owed to others come next."""
        async with self._turn_lock:
            await self._stop_answer()

    async def aclose(self) -> None:
        """Stop listening and speaking, and take the voice out of the room. A sink that was given with `use_sink` stays as
        it is. Twice is fine."""
        if self._closed:
            return
        self._closed = True
        if self._started:
            self._typed.stop()
        await self.interrupt()
        while self._owed:
            self._abandon(self._owed.popleft(), "the conversation was closed")
        self._drop_draft()
        for transcriber in list(self._transcribers.values()):
            await transcriber.aclose()
        await self._floor.aclose()
        await self._tasks.aclose()
        await self._presence.aclose()
        for provider in self._own_providers:
            if hasattr(provider, "aclose"):
                try:
                    await provider.aclose()
                except Exception as error:
                    logger.warning("a provider did not close: %s", reason(error))

    # --- hearing ------------------------------------------------------------------------------------------------------
    async def _follow(self, sid: str, transcriber: Transcriber) -> None:
        try:
            # The transcriber tells about its own failures.
            await asyncio.gather(transcriber.wait(), return_exceptions=True)
        finally:
            self._transcribers.pop(sid, None)
            self._settle()

    def _on_speech(self, event: TranscriptionEvent, identity: str, track_sid: str, transcriber: Transcriber) -> None:
        self._presence.heard(event, identity, track_sid)
        segment = event.segment_id
        if event.type is EventType.TALKING_STARTED:
            utterance = self._floor.begin(segment, transcriber)
            if self._speaking and self._playout is not None:
                utterance.meets(self._playout)
            self._settle()
        elif event.type is EventType.PARTIAL:
            if transcriber.pausing:
                self._prepare_answer(event.text, identity)
        elif event.type is EventType.TALKING_FINISHED:
            known = self._floor.get(segment)
            if not self._closed and event.text and not (known is not None and known.is_echo(event)):
                # The floor stays taken until the answer to what was heard before has given way.
                self._tasks.start(self._user_said(event, identity), "user turn")
                return
            self._floor.end(segment)
            if event.error and not self._closed:
                self._tasks.start(self._not_understood(event, identity), "failed turn")
            self._mind_the_floor()

    @property
    def _speaking(self) -> bool:
        return self._answering is not None and self._answering.state is TurnState.SPEAKING

    def _mind_the_floor(self) -> None:
        """Be silent while somebody else speaks, and go on when there were no words in it."""
        if self._playout is not None and self._current is not None and self._gives_way(self._current):
            if self._floor.taken:
                self._playout.pause()
            else:
                self._playout.resume()
        self._settle()

    async def _user_typed(self, text: str, identity: str) -> str:
        turn = self._new_turn(identity, text)
        turn.mark(Stage.TRANSCRIBED)
        reply = Reply(turn, self.options.allow_interruptions, typed=True)
        await self._take(reply)
        await reply.over.wait()
        return reply.turn.agent_text or (self.options.apology if reply.turn.error else "")

    async def _user_said(self, event: TranscriptionEvent, identity: str) -> None:
        try:
            await self._take(Reply(self._heard_turn(event, identity), self.options.allow_interruptions))
        finally:
            self._floor.end(event.segment_id)
            self._mind_the_floor()

    async def _not_understood(self, event: TranscriptionEvent, identity: str) -> None:
        """The recogniser failed: the speaker must learn that he was not understood."""
        text = failing(ProviderError(event.error))
        turn = self._heard_turn(event, identity)
        await self._take(Reply(turn, self.options.allow_interruptions, text, patient=True))

    def _heard_turn(self, event: TranscriptionEvent, identity: str) -> Turn:
        turn = self._new_turn(identity, event.text)
        turn.mark(Stage.SPEECH_ENDED, event.speech_ended_at)
        turn.mark(Stage.ENDPOINT, event.endpoint_at)
        turn.mark(Stage.TRANSCRIBED)
        return turn

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
        answer = self._make_answer(turn, self._chat(messages), hold=True)
        self._draft = Draft(turn, messages, answer, asyncio.create_task(answer.run(), name="draft"))
        # A draft that fails and is not wanted is nobody's failure.
        self._draft.task.add_done_callback(lambda task: task.cancelled() or task.exception())

    def _drop_draft(self) -> None:
        draft, self._draft = self._draft, None
        if draft is not None and not draft.task.done():
            draft.task.cancel()
            self._tasks.keep(draft.task)

    def _messages(self, text: str) -> list[ChatMessage]:
        """What the language model is asked when the user says `text` now."""
        system = [ChatMessage("system", self.options.instructions)] if self.options.instructions else []
        return [*system, *self._history, ChatMessage("user", text)]

    async def _take(self, reply: Reply) -> None:
        """Say it now, in place of what is being said if that may be interrupted; else owe it."""
        async with self._turn_lock:
            current = self._current
            if self._closed:
                self._abandon(reply, "the conversation was closed")
                return
            if current is not None and self._waits(reply, current):
                self._owe(reply)
                return
            await self._stop_answer()
            if current is not None and current.question and not reply.question and not current.turn.heard_text:
                # Nothing of the answer was heard, and this is no new question: the old one is still to be answered.
                self._owe_again(current)
            await self._begin(reply)

    def _gives_way(self, current: Reply) -> bool:
        """An answer of which nothing was heard yet cannot be interrupted: it is not late for what is still being said."""
        return current.interruptible or (current.question and not self._speaking)

    def _waits(self, reply: Reply, current: Reply) -> bool:
        if reply.patient or not self._gives_way(current):
            return True
        # Somebody else's question does not replace the one that is being thought about; both are answered.
        asked = current.question and reply.question and not self._speaking
        return asked and (reply.turn.identity, reply.typed) != (current.turn.identity, current.typed)

    def _owe(self, reply: Reply) -> None:
        if self._owed and reply.continues(self._owed[-1]):
            # Said in several breaths while the agent spoke: one message.
            self._owed[-1].join(reply)
        elif len(self._owed) >= MAX_OWED:
            logger.warning("turn %d is not answered: %d wait already", reply.turn.number, len(self._owed))
            self._abandon(reply, "too many are waiting for an answer")
        else:
            self._owed.append(reply)

    def _owe_again(self, reply: Reply) -> None:
        if self._history and self._history[-1] == ChatMessage("user", reply.turn.user_text):
            self._history.pop()
        turn = self._new_turn(reply.turn.identity, reply.turn.user_text)
        asked = (Stage.SPEECH_ENDED, Stage.ENDPOINT, Stage.TRANSCRIBED)
        turn.times.update({stage: at for stage, at in reply.turn.times.items() if stage in asked})
        self._owed.appendleft(Reply(turn, reply.interruptible))

    def _abandon(self, reply: Reply, why: str) -> None:
        reply.turn.error = why
        reply.turn.move(TurnState.FAILED)
        reply.over.set()

    async def _next(self) -> None:
        """What is owed is answered, as soon as nothing else is being said."""
        async with self._turn_lock:
            if self._owed and self._current is None and not self._closed:
                await self._begin(self._owed.popleft())

    async def _begin(self, reply: Reply) -> None:
        turn, running = reply.turn, None
        if reply.text is not None:
            self._drop_draft()
            answer = self._make_answer(turn, reply.text)
        else:
            self._join(turn)
            messages = self._messages(turn.user_text)
            self._remember(ChatMessage("user", turn.user_text))
            draft = self._draft
            if draft is not None and draft.fits(messages, turn):
                self._draft = None
                prepared, ready_at = draft.turn, turn.times[Stage.TRANSCRIBED]
                prepared.number = turn.number
                prepared.not_before(ready_at)
                prepared.times.update(turn.times)
                reply.turn, answer, running = prepared, draft.answer, draft.task
            else:
                self._drop_draft()
                answer = self._make_answer(turn, self._chat(messages))
        reply.turn.move(TurnState.THINKING)
        self._answering, self._current = reply.turn, reply
        self._answer = self._tasks.start(self._run_answer(reply, answer, running), f"turn {reply.turn.number}")
        self._settle()
        # A task that is cancelled before its first step never runs its clean-up: let it take that step.
        await asyncio.sleep(0)

    def _join(self, turn: Turn) -> None:
        """When the first half was taken for the whole, and nothing of the answer was heard, both are one message."""
        last = self._last
        if (
            last is not None
            and last.interrupted
            and last.user_text
            and not last.heard_text
            and last.identity == turn.identity
            and time.monotonic() - last.times[Stage.ENDED] < JOIN_WITHIN
            and self._history
            and self._history[-1] == ChatMessage("user", last.user_text)
        ):
            turn.user_text = f"{last.user_text} {turn.user_text}"
            self._history.pop()

    async def _stop_answer(self) -> None:
        if self._answer is not None and not self._answer.done():
            if self._playout is not None:
                self._playout.stop()
            self._answer.cancel()
            await asyncio.wait([self._answer])

    async def _run_answer(self, reply: Reply, answer: Answer, running: asyncio.Task[None] | None) -> None:
        turn = reply.turn
        apology: Turn | None = None
        try:
            await self._speak(turn, answer, running)
            turn.move(TurnState.DONE)
        except asyncio.CancelledError:
            turn.move(TurnState.INTERRUPTED)
        except Exception as failure:
            turn.error = reason(failure)
            # What a provider says itself needs no traceback; anything else is somebody's bug.
            known = isinstance(failure, ProviderError)
            logger.error("turn %d failed: %s", turn.number, turn.error, exc_info=None if known else failure)
            turn.move(TurnState.FAILED)
            apology = await self._apologise(turn)
        finally:
            for said in filter(None, (turn, apology)):
                if said.heard_text:
                    self._remember(ChatMessage("assistant", said.heard_text, interrupted=said.interrupted))
            self._last = turn
            self._answering = self._current = self._playout = None
            reply.over.set()
            self._settle()
            if not self._closed:
                self._tasks.start(self._report(turn), "turn report")
                self._tasks.start(self._next(), "next turn")

    async def _apologise(self, failed: Turn) -> Turn | None:
        if not self.options.apology:
            return None
        apology = self._answering = Turn(failed.number, state=TurnState.THINKING)
        try:
            await self._speak(apology, self._make_answer(apology, once(self.options.apology)))
            apology.move(TurnState.DONE)
        except asyncio.CancelledError:
            apology.move(TurnState.INTERRUPTED)
        except Exception as second:
            logger.error("no apology either: %s", reason(second))
            apology.move(TurnState.FAILED)
        return apology

    def _make_answer(self, turn: Turn, text: AsyncIterator[str], *, hold: bool = False) -> Answer:
        def on_voice() -> None:
            turn.move(TurnState.SPEAKING)
            self._settle()

        playout = self._presence.playout(self._tts.sample_rate)
        caption = self._presence.answer_caption()
        return Answer(turn, text, self._tts, playout, on_voice=on_voice, on_sentence=caption, hold=hold)

    async def _speak(self, turn: Turn, answer: Answer, running: asyncio.Task[None] | None = None) -> None:
        """Speak an answer to its end; `running` when its preparation is under way already."""
        playout = self._playout = answer.playout
        for utterance in self._floor.utterances:
            utterance.meets(playout)
        self._mind_the_floor()
        answer.release()
        try:
            await (running if running is not None else answer.run())
            turn.heard_text = turn.agent_text.strip()
        except BaseException:
            playout.stop()
            turn.heard_text = playout.heard()
            raise
        finally:
            self._tasks.start(answer.on_sentence(None), "caption end")

    async def _report(self, turn: Turn) -> None:
        if self._on_turn is not None:
            try:
                self._on_turn(turn)
            except Exception:
                logger.exception("on_turn failed")
        logger.info("turn %d %s: %s", turn.number, turn.state, turn.milliseconds())
        await self._presence.report(turn)

    def _remember(self, message: ChatMessage) -> None:
        self._history.append(message)
        del self._history[: -self.options.max_history]

    # --- state --------------------------------------------------------------------------------------------------------
    def _settle(self) -> None:
        """The state follows from what is going on; it is not set by hand anywhere else."""
        if not self._presence.has_voice:
            state = AgentState.INITIALIZING
        elif self._answering is not None and not (self._playout is not None and self._playout.paused):
            state = AgentState.SPEAKING if self._speaking else AgentState.THINKING
        else:
            state = AgentState.LISTENING if self._transcribers else AgentState.IDLE
        self._presence.show(state)

    def use_sink(self, sink: AudioSink, make_frame: Callable[[bytes, int], Any], track_sid: str = "") -> None:
        """Speak into `sink` instead of a track of the room's. Before `start`. The sink stays its owner's: it is not closed."""
        self._presence.use_sink(sink, make_frame, track_sid)
