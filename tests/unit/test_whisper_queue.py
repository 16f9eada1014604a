"""What waits for the recogniser: finals first, one partial a client, what fits together at once, no more than so many."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from greenroom.plugins.whisper.server import MAX_BATCH, MAX_WAITING, Queue, Request


@pytest.fixture
def clients() -> Iterator[list[socket.socket]]:
    sockets = [socket.socket() for _ in range(80)]
    yield sockets
    for one in sockets:
        one.close()


def request(client: socket.socket, kind: bytes, number: int, seconds: float = 2.0, **options: object) -> Request:
    return Request(client, kind, number, dict(options), np.zeros(int(seconds * 16_000), np.float32))


def taken(queue: Queue) -> list[int]:
    return [one.number for one in queue.take()]


def test_finals_go_before_partials_in_their_order(clients):
    queue = Queue()
    queue.put(request(clients[0], b"P", 1))
    queue.put(request(clients[1], b"F", 2, 20.0))
    queue.put(request(clients[2], b"F", 3))
    assert [taken(queue), taken(queue), taken(queue)] == [[2], [3], [1]]


def test_a_newer_request_of_a_client_makes_its_partial_worthless(clients):
    queue = Queue()
    first, other = request(clients[0], b"P", 1), request(clients[1], b"P", 7)
    assert queue.put(first) == (None, True)
    queue.put(other)
    second = request(clients[0], b"P", 2)
    assert queue.put(second) == (first, True)
    assert queue.put(request(clients[0], b"F", 3)) == (second, True)
    assert taken(queue) == [3]
    assert taken(queue) == [7]


def test_finals_of_one_client_are_all_answered(clients):
    queue = Queue()
    queue.put(request(clients[0], b"F", 1, 20.0))
    queue.put(request(clients[0], b"F", 2))
    assert taken(queue) == [1] and taken(queue) == [2]


def test_those_of_the_same_window_and_options_are_taken_together(clients):
    queue = Queue()
    for number in range(MAX_BATCH + 2):
        queue.put(request(clients[number], b"F", number, 1.0 + number / 2, language="en"))
    queue.put(request(clients[20], b"F", 20, 1.0, language="de"))
    queue.put(request(clients[21], b"F", 21, 9.0, language="en"))
    assert taken(queue) == [0, 1, 2, 3]
    assert taken(queue) == [4, 5]
    assert taken(queue) == [20]
    assert taken(queue) == [21]


def test_what_is_taken_back_or_whose_client_is_gone_is_not_decoded(clients):
    queue = Queue()
    queue.put(request(clients[0], b"F", 1))
    queue.put(request(clients[1], b"F", 1, 20.0))
    queue.put(request(clients[2], b"P", 5))
    queue.put(request(clients[3], b"F", 9))
    assert queue.take_back(clients[0], 1)
    assert not queue.take_back(clients[0], 1)
    assert not queue.take_back(clients[2], 4)
    queue.drop(clients[1])
    assert taken(queue) == [9]
    assert queue.take_back(clients[2], 5)


def test_there_is_room_for_so_many(clients):
    queue = Queue()
    assert all(queue.put(request(clients[i], b"F", i))[1] for i in range(MAX_WAITING))
    assert not queue.put(request(clients[70], b"F", 70))[1]
    queue.take()
    assert queue.put(request(clients[70], b"F", 70))[1]


def test_partials_leave_time_for_finals(clients):
    queue = Queue()
    queue.put(request(clients[0], b"P", 1))
    queue.rest(0.2)
    began = time.monotonic()
    threading.Timer(0.05, queue.put, [request(clients[1], b"F", 2)]).start()
    assert taken(queue) == [2] and time.monotonic() - began < 0.19
    assert taken(queue) == [1] and time.monotonic() - began >= 0.2
