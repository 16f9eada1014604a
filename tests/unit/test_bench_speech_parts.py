"""The parts of the speech benchmark: each alone, and none at the cost of another."""

from __future__ import annotations

import asyncio

import pytest
from bench import speech
from bench.report import Report
from bench.target import Options, TargetError


async def works(report: Report, _options: Options) -> None:
    report.add("row", "column", 1.0, "ms")


async def fails(_report: Report, _options: Options) -> None:
    raise TargetError("no voice is on this machine")


async def hangs(_report: Report, _options: Options) -> None:
    await asyncio.sleep(60)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        speech, "PARTS", {"bad": ("Bad", fails, 5.0), "slow": ("Slow", hangs, 0.05), "good": ("Good", works, 5.0)}
    )


async def test_a_part_that_fails_or_takes_too_long_costs_itself_only(parts, capsys):
    with pytest.raises(TargetError, match=r"^bad: no voice is on this machine; slow: not done within 0\.05 s$"):
        await speech.run(Options(table=True))
    out = capsys.readouterr().out
    assert "Good" in out and "1 ms" in out and "load" in out


async def test_a_part_can_be_asked_for_alone(parts, capsys):
    await speech.run(Options(table=True, rows=("good",)))
    assert "Good" in capsys.readouterr().out


async def test_an_unknown_part_is_told_with_those_there_are(parts):
    with pytest.raises(TargetError, match="no part is called better; there are bad, slow, good"):
        await speech.run(Options(rows=("better",)))
