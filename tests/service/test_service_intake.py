"""What all bodies together may hold."""

from __future__ import annotations

import asyncio

import pytest

from predictor.service.intake import Intake
from predictor.service.problems import Refusal
from predictor.service.settings import Limits

LIMITS = Limits(body_bytes=100, table_bytes=1000, tables=2, held_bytes=150)
POST = {"path": "/v1/predict"}
TABLE = {"path": "/v1/batch"}
CSV = {b"content-type": b"text/csv; charset=utf-8"}


def sender(*pieces):
    left = list(pieces)

    async def receive():
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    return receive


def read(body, count=1):
    return asyncio.run(_read(body, count))


async def _read(body, count):
    return [await body() for _ in range(count)]


def test_all_bodies_together_are_bounded_until_they_are_answered():
    intake = Intake(LIMITS)
    first = intake.body(POST, {}, sender(b"x" * 90))
    read(first)
    second = intake.body(POST, {}, sender(b"x" * 90))
    with pytest.raises(Refusal) as caught:
        read(second)
    assert caught.value.code == "busy"
    second.close()
    assert intake.held == 90
    first.close()
    assert intake.held == 0
    third = intake.body(POST, {}, sender(b"x" * 50, b"y" * 50))
    read(third, 2)
    third.close()


@pytest.mark.parametrize("pieces", [[b"x" * 101], [b"x" * 60, b"x" * 60]])
def test_one_body_is_bounded(pieces):
    body = Intake(LIMITS).body(POST, {}, sender(*pieces))
    with pytest.raises(Refusal) as caught:
        read(body, len(pieces))
    assert caught.value.code == "body_too_large"


def test_what_is_told_to_be_too_long_is_not_read():
    with pytest.raises(Refusal) as caught:
        Intake(LIMITS).body(POST, {b"content-length": b"101"}, sender())
    assert caught.value.code == "body_too_large"


def test_tables_are_counted_not_held():
    intake = Intake(LIMITS)
    bodies = [intake.body(TABLE, CSV, sender(b"x" * 900)) for _ in range(2)]
    for body in bodies:
        read(body)
    assert intake.held == 0
    with pytest.raises(Refusal) as caught:
        intake.body(TABLE, CSV, sender())
    assert caught.value.code == "busy"
    bodies[0].close()
    intake.body(TABLE, CSV, sender(b"")).close()
    with pytest.raises(Refusal):
        read(intake.body(TABLE, CSV, sender(b"x" * 1001)))
