"""Tokens, and addresses that try too many."""

from __future__ import annotations

from e2enet.service.jobs import tokens
from e2enet.service.jobs.tokens import WrongTokens, hash_of, holds_token, new_token


def test_tokens_differ_and_are_recognised() -> None:
    made = {new_token() for _ in range(50)}
    assert len(made) == 50
    assert all(holds_token(f"/jobs/{token}?x=1".encode()) for token in made)
    assert not holds_token(b"/jobs/e2enet_short")
    assert len({hash_of(token) for token in made}) == 50
    assert not any(token in hash_of(token) for token in made)
    hash_of("\udcff")  # what no text is, is a wrong token and no error


def test_an_address_waits_after_too_many() -> None:
    now = [0.0]
    wrong = WrongTokens(allowed=3, window=60, clock=lambda: now[0])
    waits = [wrong.wait_after("10.0.0.1") for _ in range(5)]
    assert waits == [None, None, None, 60, 60]
    assert wrong.wait_after("10.0.0.2") is None
    now[0] = 45
    assert wrong.wait_after("10.0.0.1") == 15
    now[0] = 61
    assert wrong.wait_after("10.0.0.1") is None


def test_many_addresses_take_no_memory(monkeypatch) -> None:
    monkeypatch.setattr(tokens, "_ADDRESSES", 100)
    wrong = WrongTokens()
    for number in range(1000):
        wrong.wait_after(str(number))
    assert len(wrong._seen) == 100
