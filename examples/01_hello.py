"""The smallest agent: it joins every new room and prints who is there.

greenroom dev examples/01_hello.py
"""

from greenroom.agents import Agent, cli


class Hello(Agent):
    def on_start(self):
        print(f"I am {self.participant.identity}, in room {self.room.name}", flush=True)

    async def on_participant(self, participant):
        print(f"{participant.identity} is here", flush=True)
        await self.participant.send_text(f"Hello, {participant.identity}!", topic="lk.chat")


if __name__ == "__main__":
    cli.run_app(Hello)
