"""What the agent has to say, as values: answers that are owed, one that is prepared, and the texts they come from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from greenroom.agents.conversation.answer import Answer
from greenroom.agents.conversation.turn import Turn
from greenroom.agents.speech.protocols import ChatMessage

__all__ = ["Draft", "Reply", "failing", "once"]


@dataclass(slots=True)
class Draft:
    """An answer that is prepared before the end of the utterance is certain."""

    turn: Turn
    messages: list[ChatMessage]
    answer: Answer
    task: asyncio.Task[None]

    def fits(self, messages: list[ChatMessage], turn: Turn) -> bool:
        """Whether it is the answer to what was said in the end."""
        return self.messages == messages and self.turn.identity == turn.identity


@dataclass(slots=True, eq=False)
class Reply:
    """Something that the agent has to say: an answer that is owed, or what a program wants said."""

    turn: Turn
    interruptible: bool
    text: AsyncIterator[str] | None = None
    """None: the language model is asked."""
    typed: bool = False
    patient: bool = False
    """Not worth an interruption: it waits for the end of what is being said."""
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def question(self) -> bool:
        return self.text is None

    def continues(self, earlier: Reply) -> bool:
        """Whether both are breaths of one speaker, who asks one thing."""
        spoken_questions = self.question and earlier.question and not (self.typed or earlier.typed)
        return spoken_questions and self.turn.identity == earlier.turn.identity

    def join(self, more: Reply) -> None:
        """Take what was said afterwards into this one; `more` is over."""
        self.turn.user_text = f"{self.turn.user_text} {more.turn.user_text}"
        self.turn.times.update(more.turn.times)
        more.over.set()


async def once(text: str) -> AsyncIterator[str]:
    yield text


async def failing(error: Exception) -> AsyncIterator[str]:
    raise error
    yield ""
