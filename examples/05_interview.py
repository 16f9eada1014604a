"""Taking the lead: an agent that speaks first, asks two questions and repeats the answers. No language model.

greenroom dev examples/05_interview.py
"""

import asyncio

from greenroom import rtc
from greenroom.agents import Agent, cli
from greenroom.agents.conversation import Conversation, ConversationOptions, load_models

QUESTIONS = ("What is your name?", "What time do you have?")
CLOSING = "Thank you. That was all."


class Interviewer:
    """A language model is whatever streams text. It is asked anew for every reply, sometimes for one that is never heard
    because the speaker goes on, so it keeps no count of its own: the conversation is all it looks at."""

    async def chat(self, messages):
        answers = [message.content for message in messages if message.role == "user"]
        yield f"I noted: {answers[-1]}. "
        yield QUESTIONS[len(answers)] if len(answers) < len(QUESTIONS) else CLOSING


class Interview(Agent):
    @classmethod
    def prewarm(cls, process):
        load_models()

    async def on_start(self):
        self.conversation = Conversation(
            self.room, llm=Interviewer(), options=ConversationOptions(allow_interruptions=False)
        )
        await self.conversation.start()

    def should_process(self, publication, participant):
        is_agent = participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
        return publication.kind == rtc.TrackKind.KIND_AUDIO and not is_agent

    async def on_audio_track(self, track, participant):
        self.conversation.listen(track, participant)
        await asyncio.sleep(0.3)
        await self.conversation.say(f"Welcome to the interview. {QUESTIONS[0]}", interruptible=False)

    async def on_stop(self):
        await self.conversation.aclose()


if __name__ == "__main__":
    cli.run_app(Interview)
