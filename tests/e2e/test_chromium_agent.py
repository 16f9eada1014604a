"""A person in a browser talks to the example assistant: captions of what was said, and a voice that answers."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT, until


@pytest.mark.quiet
@pytest.mark.parametrize("single", [True, False], ids=["single", "dual"])
async def test_a_spoken_question_is_captioned_and_answered_aloud(open_tab, start_worker, single):
    await start_worker(ROOT / "examples" / "04_kitt.py")
    tab = await open_tab()
    await tab.join("person", single=single)
    await tab.call("microphone", "person", True)
    await tab.call("camera", "person", True)

    async def captions(who: str) -> str:
        rows = await tab.seen("person", "captions")
        return " | ".join(row["text"].lower() for row in rows if (row["from"] == "person") == (who == "person"))

    async def understood():
        return re.search(r"(seven|7) times (eight|8|a)", await captions("person"))

    await until(understood, "the question appears as a caption of the speaker", 45)

    async def answered():
        return "56" in await captions("agent")

    await until(answered, "the answer appears as a caption of the agent", 30)

    async def heard():
        return any(row["audioEnergy"] > 0.001 for row in await tab.streams("person", "inbound-rtp", "audio"))

    await until(heard, "the agent's voice is heard: the energy of its track rises", 30)
    states = [other["attributes"].get("lk.agent.state") for other in await tab.call("others", "person")]
    assert states and states[0] in ("listening", "thinking", "speaking", "idle")
