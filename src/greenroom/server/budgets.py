"""Budgets: how much of the server one connection, one participant or one address may use.

Everything here is arithmetic on a time that the caller passes in (seconds of any monotonic clock). A budget is a token
bucket: tokens come at a steady rate, up to `BURST_SECONDS` worth of them (joins: `JOIN_BURST_SECONDS`), and whatever costs
something takes some. Two ways to ask: `take` refuses what there are no tokens for (HTTP), `charge` always books and says how long the caller has to
wait first (signalling, where waiting loses nothing).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

__all__ = [
    "BURST_SECONDS",
    "JOIN_BURST_SECONDS",
    "PATIENCE",
    "Bucket",
    "BucketTable",
    "DataBudget",
    "Rates",
    "SignalBudget",
    "offer_weight",
]

BURST_SECONDS = 4.0
"""What was not used for this long may be used at once."""

JOIN_BURST_SECONDS = 20.0
"""The same for the joins of one identity. Somebody who comes back quickly, again and again, is a tab that is reloaded or a
connection that flaps, and means it. What an identity costs in the long run is bounded by the rate, and what all behind one
address cost by theirs."""

PATIENCE = 10.0
"""Seconds after which a budget that never recovered counts as a flood: four times the burst that is allowed anyway."""

RECOVERED_SECONDS = 1.0
"""A budget that had run dry is well again once so many seconds' worth of tokens are back."""


@dataclass(slots=True)
class Rates:
    """Budgets by what they bound, a second each; `BURST_SECONDS` of each may come at once. 0: no limit.

    The names are those of the configuration (`limit.<name>`).
    """

    # One client address.
    address_requests: int = 100
    """HTTP requests, WebSocket upgrades among them."""
    address_joins: int = 50
    """Sessions that begin or are resumed: a school behind one address, or a machine full of agents."""
    address_connections: int = 1000
    """TCP connections at a time (not a rate)."""

    # One identity, one API key.
    identity_joins: int = 2
    """Sessions that one identity begins or resumes in one room; `JOIN_BURST_SECONDS` of them may come at once."""
    key_requests: int = 0
    """API calls signed by one key."""

    # The signalling of one participant, over all its connections.
    messages: int = 200
    message_bytes: int = 512 * 1024
    offers: int = 5
    """Offers; a long one counts as `offer_weight` says."""
    server_offers: int = 10
    """Offers that the server makes to one participant: others' changes are told together when there are more."""
    trickles: int = 50
    """ICE candidates."""
    subscriptions: int = 100
    """Subscription and track setting requests, each counted once more for every 16 tracks that it names."""
    track_requests: int = 5
    """Requests to publish or unpublish a track or a data track."""
    updates: int = 10
    """Changes that others are told: metadata, name, attributes, mute, features, permissions."""
    state_bytes: int = 32 * 1024
    """Bytes of `ParticipantInfo` told to each of the others. Beyond it only the newest state is told, later."""

    # The data channels of one participant.
    data_messages: int = 5000
    data_bytes: int = 32 * 1024 * 1024
    data_deliveries: int = 25_000
    """Messages out: one message in to a hundred receivers is a hundred."""


class Bucket:
    """One budget. Starts full."""

    __slots__ = ("_at", "_tokens", "burst", "dry_since", "rate")

    def __init__(self, rate: float, burst: float = 0.0) -> None:
        """`rate`: tokens a second, 0 for no limit. `burst`: the most it holds (default: `BURST_SECONDS` of the rate)."""
        self.rate = rate
        self.burst = burst or rate * BURST_SECONDS
        self.dry_since = -1.0
        """When it first had too little and has not recovered since; -1 while it is well."""
        self._tokens = self.burst
        self._at = 0.0

    def lack(self, now: float, amount: float = 1.0) -> float:
        """Seconds until `amount` tokens are there, 0 when they are. More than it can hold is had from a full one."""
        if not self.rate:
            return 0.0
        if now > self._at:
            self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
            self._at = now
        missing = min(amount, self.burst) - self._tokens
        return missing / self.rate if missing > 0 else 0.0

    def wait(self, now: float, amount: float = 1.0) -> float:
        """As `lack`, for somebody who wants them now: from then on it counts as dry until it has recovered."""
        lack = self.lack(now, amount)
        if self.dry_since >= 0 and self._tokens >= min(self.burst, RECOVERED_SECONDS * self.rate):
            self.dry_since = -1.0
        if lack and self.dry_since < 0:
            self.dry_since = now
        return lack

    def spend(self, amount: float = 1.0) -> None:
        """Book what was used, also into debt."""
        self._tokens -= amount

    def charge(self, now: float, amount: float = 1.0) -> float:
        """Book `amount`, and return the seconds to wait before it is used."""
        wait = self.wait(now, amount)
        self._tokens -= amount
        return wait

    def take(self, now: float, amount: float = 1.0) -> float:
        """0: `amount` was booked. Else nothing was, and so many seconds later it could be."""
        wait = self.wait(now, amount)
        if not wait:
            self._tokens -= amount
        return wait

    def is_flooded(self, now: float) -> bool:
        """It ran dry `PATIENCE` seconds ago and did not recover once."""
        return 0 <= self.dry_since <= now - PATIENCE


class BucketTable:
    """A bucket for each key. Those that were not used for longest are forgotten first, so its memory is bounded.

    A forgotten bucket would be full again anyway unless more than `most` keys are active at once."""

    def __init__(self, rate: float, *, burst: float = 0.0, most: int = 65536) -> None:
        """`rate`, `burst`: of each bucket."""
        self._rate = rate
        self._burst = burst
        self._most = most
        self._buckets: OrderedDict[Hashable, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def bucket(self, key: Hashable) -> Bucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(self._rate, self._burst)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket


# Kind of `SignalRequest` to the budget that it takes from, beside messages and bytes.
SIGNAL_BUDGETS = {
    "offer": "offers",
    "trickle": "trickles",
    "subscription": "subscriptions",
    "track_setting": "subscriptions",
    "update_data_subscription": "subscriptions",
    "sync_state": "subscriptions",
    "add_track": "track_requests",
    "publish_data_track_request": "track_requests",
    "unpublish_data_track_request": "track_requests",
    "mute": "updates",
    "update_metadata": "updates",
    "update_audio_track": "updates",
    "update_video_track": "updates",
    "subscription_permission": "updates",
    "simulate": "updates",
}


def offer_weight(sections: int) -> float:
    """What an offer takes of its budget: one with more than 128 sections costs so much more to answer."""
    return max(1.0, sections / 128)


class SignalBudget:
    """What one participant may send over its signalling connections."""

    __slots__ = ("_buckets", "held", "short_of", "warned")

    def __init__(self, rates: Rates) -> None:
        names = ("messages", "message_bytes", *dict.fromkeys(SIGNAL_BUDGETS.values()))
        self._buckets = {name: Bucket(getattr(rates, name)) for name in names}
        self.short_of = ""
        """The budget that the last `charge` had to wait for."""
        self.held = 0
        """Messages that had to wait."""
        self.warned = False
        """Somebody wrote a line about it."""

    def charge(self, kind: str, size: int, now: float, weight: float = 1.0) -> float:
        """Book one message of `size` bytes. Returns the seconds to wait before it is handled."""
        buckets = self._buckets
        wait, short = buckets["messages"].charge(now), "messages"
        if (longer := buckets["message_bytes"].charge(now, size)) > wait:
            wait, short = longer, "message_bytes"
        name = SIGNAL_BUDGETS.get(kind)
        if name is not None and (longer := buckets[name].charge(now, weight)) > wait:
            wait, short = longer, name
        if wait:
            self.held += 1
            self.short_of = short
        return wait

    def until_offer(self, now: float, sections: int) -> float:
        """Seconds until the client could offer so many sections without waiting."""
        return self._buckets["offers"].lack(now, offer_weight(sections))

    def flooded(self, now: float) -> str:
        """The budget that has been overdrawn for too long, or nothing."""
        return next((name for name, bucket in self._buckets.items() if bucket.is_flooded(now)), "")


class DataBudget:
    """What one participant may send over its data channels."""

    __slots__ = ("_bytes", "_deliveries", "_messages", "warned")

    def __init__(self, rates: Rates) -> None:
        self._messages = Bucket(rates.data_messages)
        self._bytes = Bucket(rates.data_bytes)
        self._deliveries = Bucket(rates.data_deliveries)
        self.warned = False

    def wait(self, now: float) -> float:
        """Seconds until the next message may be handled."""
        return max(self._messages.wait(now), self._bytes.wait(now, 0.0), self._deliveries.wait(now, 0.0))

    def spend(self, size: int) -> None:
        """One message came in."""
        self._messages.spend()
        self._bytes.spend(size)

    def flooded(self, now: float) -> bool:
        """Overdrawn for too long."""
        return any(bucket.is_flooded(now) for bucket in (self._messages, self._bytes, self._deliveries))

    def spend_deliveries(self, receivers: int) -> None:
        """It went out."""
        self._deliveries.spend(receivers)
