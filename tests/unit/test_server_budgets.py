"""Budgets: token buckets on a time that the test makes up, and turns on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

import pytest

from greenroom.server.budgets import PATIENCE, Bucket, BucketTable, DataBudget, Rates, SignalBudget
from greenroom.server.turns import Turns


@pytest.mark.parametrize(
    ("steps", "waits"),
    [
        # (time, amount): 5 a second, 20 at once
        ([(0, 1)] * 20, [0] * 20),
        ([(0, 20), (0, 1), (0, 1)], [0, 0.2, 0.4]),
        ([(0, 20), (1, 5), (1, 1)], [0, 0, 0.2]),
        ([(0, 20), (100, 20), (100, 1)], [0, 0, 0.2]),
        ([(0, 100), (0, 1)], [0, 80 / 5 + 0.2]),  # more than it holds is had from a full one, and paid for afterwards
        ([(0, 1), (0, 100)], [0, 0.2]),
        ([(10, 20), (5, 1)], [0, 0.2]),  # time does not go back
    ],
)
def test_what_is_charged_waits_until_it_is_there(steps: list, waits: list) -> None:
    bucket = Bucket(5)
    assert [bucket.charge(now, amount) for now, amount in steps] == pytest.approx(waits)


def test_what_is_refused_costs_nothing() -> None:
    bucket = Bucket(2)
    assert [bucket.take(0.0) for _ in range(10)] == [0.0] * 8 + [0.5, 0.5]
    assert bucket.take(0.5) == 0.0
    assert bucket.lack(0.5, 1) == 0.5, "looking costs nothing either"


def test_no_rate_is_no_limit() -> None:
    bucket = Bucket(0)
    assert not any(bucket.charge(0.0, 1e9) or bucket.take(0.0, 1e9) for _ in range(1000))
    assert not bucket.is_flooded(1e9)


@pytest.mark.parametrize(
    ("pauses", "flooded"),
    [
        ([0.2] * 100, True),  # exactly its rate, with the burst used up: it never recovers
        ([0.2] * 20 + [1.5] + [0.2] * 20, False),  # it caught its breath
        ([0.2] * 20, False),  # not long enough
    ],
)
def test_a_flood_is_what_never_recovers(pauses: list[float], flooded: bool) -> None:
    bucket = Bucket(5)
    bucket.spend(20)
    now = 0.0
    for pause in pauses:
        bucket.charge(now)
        now += pause
    assert bucket.is_flooded(now) == flooded


def test_a_table_forgets_who_was_away_for_longest() -> None:
    table = BucketTable(1, most=3)
    for key in "abc":
        table.bucket(key).spend(4)
    assert table.bucket("a").take(0.0) == 1.0
    table.bucket("d")
    assert len(table) == 3
    assert table.bucket("a").take(0.0) == 1.0, "it was used last"
    assert table.bucket("b").take(0.0) == 0.0, "it was not, and begins anew"


@pytest.mark.parametrize(
    ("kind", "size", "count", "short_of"),
    [
        ("offer", 6000, 20, "offers"),
        ("ping", 10, 800, "messages"),
        ("ping", 200_000, 10, "message_bytes"),
        ("subscription", 50, 400, "subscriptions"),
        ("track_setting", 50, 400, "subscriptions"),
        ("add_track", 50, 20, "track_requests"),
        ("update_metadata", 50, 40, "updates"),
        ("mute", 50, 40, "updates"),
        ("trickle", 50, 200, "trickles"),
    ],
)
def test_every_kind_has_its_budget(kind: str, size: int, count: int, short_of: str) -> None:
    budget = SignalBudget(Rates())
    assert not any(budget.charge(kind, size, 5.0) for _ in range(count)) and budget.held == 0
    assert budget.charge(kind, size, 5.0) > 0
    assert (budget.short_of, budget.held) == (short_of, 1)
    assert budget.charge("leave", 2, 5.0) == 0 or short_of in ("messages", "message_bytes"), "others go on"


def test_a_client_that_offers_for_ever_is_a_flood_whatever_else_it_sends() -> None:
    budget = SignalBudget(Rates())
    now = 0.0
    while now < PATIENCE:
        assert not budget.flooded(now)
        now += budget.charge("offer", 6000, now)
        budget.charge("ping", 10, now)
    budget.charge("offer", 6000, now)
    assert budget.flooded(now) == "offers"


def test_asking_when_an_offer_may_come_is_no_offence() -> None:
    budget = SignalBudget(Rates())
    for _ in range(20):
        budget.charge("offer", 100, 0.0)
    assert budget.until_offer(0.0, 7) == pytest.approx(0.2)
    assert budget.until_offer(0.0, 256) == pytest.approx(0.4), "a long one counts twice"
    assert not budget.flooded(PATIENCE + 1)


def test_data_is_paid_for_in_messages_bytes_and_deliveries() -> None:
    rates = Rates(data_messages=10, data_bytes=1000, data_deliveries=100)
    budget = DataBudget(rates)
    for _ in range(40):
        assert not budget.wait(0.0)
        budget.spend(10)
    assert budget.wait(0.0) == pytest.approx(0.1)
    budget = DataBudget(rates)
    budget.spend(5000)
    assert budget.wait(0.0) == pytest.approx(1.0)
    budget = DataBudget(rates)
    budget.spend_deliveries(600)
    assert budget.wait(0.0) == pytest.approx(2.0)


async def test_groups_take_turns_and_one_turn_is_one_turn_of_the_loop() -> None:
    turns = Turns()
    order: list[str] = []
    loop_turns: list[int] = []
    now = 0

    def tick() -> None:
        nonlocal now
        now += 1
        asyncio.get_running_loop().call_soon(tick)

    async def work(group: str) -> None:
        await turns.take(group)
        order.append(group)
        loop_turns.append(now)

    tick()
    await asyncio.gather(*(work("crowd") for _ in range(50)), work("a"), work("b"), work("a"))
    assert order[:6] == ["crowd", "a", "b", "crowd", "a", "crowd"] and order.count("crowd") == 50
    assert len(set(loop_turns)) == len(order) == turns.taken


async def test_work_in_pieces_takes_a_turn_for_each() -> None:
    turns = Turns()
    order: list[str] = []

    def pieces(name: str, count: int) -> Generator[None, None, str]:
        for _ in range(count):
            order.append(name)
            yield
        return name

    results = await asyncio.gather(turns.run(1, pieces("long", 10)), turns.run(2, pieces("short", 2)))
    assert results == ["long", "short"]
    assert order[:4] == ["long", "short", "long", "short"] and turns.taken == 10 + 2 + 2


async def test_who_gives_up_does_not_hold_up_the_others() -> None:
    turns = Turns()
    waiting = [asyncio.ensure_future(turns.take("room")) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    waiting[1].cancel()
    async with asyncio.timeout(5):
        await waiting[2]
    assert turns.taken == 1


async def test_an_error_in_a_piece_is_the_callers() -> None:
    def pieces() -> Generator[None, None, None]:
        yield
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await Turns().run(1, pieces())
