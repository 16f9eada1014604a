"""KITT: transcribes everyone and answers aloud. Speak while it speaks, and it falls silent.

    greenroom dev examples/04_kitt.py

Offline it recognises speech with pocketsphinx, thinks with a small rule-based brain and speaks with flite. Set
OPENAI_API_KEY or OPENAI_BASE_URL (and OPENAI_MODEL) to give it a language model.
"""

from greenroom import rtc
from greenroom.agents import Agent, cli
from greenroom.agents.conversation import Conversation, ConversationOptions, load_models

PROMPT = (
    "You are KITT, a voice assistant in a meeting. Keep your responses concise while still being friendly and personable. "
    "If your response is a question, please append a question mark symbol to the end of it."
)


class Kitt(Agent):
    display_name = "KITT"

    @classmethod
    def prewarm(cls, process):
        load_models()

    async def on_start(self):
        self.conversation = Conversation(self.room, options=ConversationOptions(instructions=PROMPT))
        await self.conversation.start()

    def should_process(self, publication, participant):
        # Only people: two assistants in one room would talk to each other for ever.
        is_agent = participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
        return publication.kind == rtc.TrackKind.KIND_AUDIO and not is_agent

    def on_audio_track(self, track, participant):
        self.conversation.listen(track, participant)

    async def on_stop(self):
        await self.conversation.aclose()


if __name__ == "__main__":
    cli.run_app(Kitt)
