"""A job's state is kept until the server has confirmed it."""

from __future__ import annotations

from livekit.protocol import agent

from greenroom.agents import reports as reports_module
from greenroom.agents.reports import Reports


def send_all(reports: Reports) -> list[tuple[str, int]]:
    sent = []
    while message := reports.next():
        sent.append((message.update_job.job_id, message.update_job.status))
    return sent


def test_each_is_sent_once_and_again_on_a_new_connection():
    reports = Reports()
    reports.add("a", agent.JS_RUNNING, "")
    reports.add("a", agent.JS_SUCCESS, "")
    assert send_all(reports) == [("a", agent.JS_RUNNING), ("a", agent.JS_SUCCESS)]
    assert send_all(reports) == []
    reports.send_again()
    assert send_all(reports) == [("a", agent.JS_RUNNING), ("a", agent.JS_SUCCESS)]


def test_a_pong_confirms_what_was_sent_before_its_ping_and_nothing_later():
    reports = Reports()
    reports.add("a", agent.JS_SUCCESS, "")
    send_all(reports)
    first = reports.mark()
    reports.add("b", agent.JS_FAILED, "x")
    reports.confirm(first)
    assert reports.jobs == ["b"] and not reports.confirmed.is_set()
    send_all(reports)
    second = reports.mark()
    assert second > first
    reports.confirm(second)
    assert reports.jobs == [] and reports.confirmed.is_set()


def test_a_pong_of_an_old_connection_confirms_nothing_sent_anew():
    reports = Reports()
    reports.add("a", agent.JS_SUCCESS, "")
    send_all(reports)
    reports.mark()
    reports.send_again()
    reports.confirm(2**62)
    assert reports.jobs == ["a"]


def test_a_server_that_never_answers_costs_a_bounded_amount(monkeypatch):
    monkeypatch.setattr(reports_module, "MAX_REPORTS", 3)
    reports = Reports()
    for number in range(10):
        reports.add(str(number), agent.JS_SUCCESS, "")
    assert reports.jobs == ["7", "8", "9"]
