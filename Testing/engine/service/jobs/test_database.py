"""Users and jobs: fair turns, what a crash leaves, tokens that are only known by their hash."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from e2enet.service.jobs.database import ATTEMPTS, DATABASE, Database
from e2enet.service.jobs.tokens import hash_of, new_token
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "server")
    for user in "abc":
        opened.set_token(user, hash_of(user))
    yield opened
    opened.close()


def queue(database: Database, users: str) -> list[str]:
    """Ids of a queued job for each of the users, in this order."""
    ids = []
    for user in users:
        ids.append(database.add(user, "tiny", {"bytes": [1]}).id)
        database.set_queued(ids[-1])
    return ids


def served(database: Database) -> str:
    """Whose jobs are taken, in order, until none is left."""
    order = ""
    while job := database.take():
        order += job.user
        database.finish(job.id, {"result": {}})
    return order


def test_users_take_turns(database: Database) -> None:
    queue(database, "aaaabbc")
    assert served(database) == "abcabaa"


def test_who_was_served_longest_ago_is_next(database: Database) -> None:
    queue(database, "aab")
    job = database.take()
    assert job
    assert job.user == "a"
    queue(database, "c")
    assert served(database) in ("bca", "cba")


@settings(max_examples=20, deadline=None)
@given(users=st.text("abc", min_size=1, max_size=12))
def test_all_are_served_and_nobody_twice_before_another(
    users: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    database = Database(tmp_path_factory.mktemp("fair"))
    for user in "abc":
        database.set_token(user, hash_of(user))
    ids = queue(database, users)
    places = database.waiting()
    assert sorted(places) == sorted(ids)
    order = served(database)
    database.close()
    assert sorted(order) == sorted(users)
    for turn in range(len(order)):  # between two turns of one user everybody else who waits has one
        again = order.find(order[turn], turn + 1)
        if again > 0:
            assert set(order[again:]) <= set(order[turn:again])


def test_what_ran_at_a_crash_comes_first_but_not_for_ever(database: Database) -> None:
    first, second = queue(database, "ab")
    for attempt in range(ATTEMPTS):
        job = database.take()
        assert job
        assert (job.id, job.attempts) == (first, attempt)
        gave_up = database.recover()
    assert [job.id for job in gave_up] == [first]
    database.finish(first, {"error": {}})
    assert database.waiting() == [second]


def test_it_is_all_there_after_a_restart(database: Database, tmp_path: Path) -> None:
    first, second = queue(database, "ab")
    database.finish(first, {"result": {"labels": []}, "warnings": []})
    again = Database(tmp_path / "server")
    done = again.job(first, "a")
    assert done
    assert (done.state, done.outcome["result"]) == ("done", {"labels": []})
    assert again.waiting() == [second]
    assert again.job(first, "b") is None  # somebody else's
    again.close()


def test_tokens_are_not_in_the_file(database: Database, tmp_path: Path) -> None:
    token = new_token()
    database.set_token("dora", hash_of(token))
    assert database.user_of(hash_of(token)) == "dora"
    for path in (tmp_path / "server").iterdir():
        assert token.encode() not in path.read_bytes()
    assert (tmp_path / "server" / DATABASE).stat().st_mode & 0o077 == 0
    assert database.set_token("dora", None)
    assert database.user_of(hash_of(token)) is None
    assert not database.set_token("nobody", None)
    assert database.users() == ["a", "b", "c"]


def test_what_is_kept_long_enough(database: Database) -> None:
    first, _ = queue(database, "aa")
    database.finish(first, {"result": {}})
    sent = database.add("b", "tiny", {})
    assert database.expired(keep_s=60, upload_s=60) == []
    assert [job.id for job in database.expired(keep_s=-1, upload_s=60)] == [first]
    assert [job.id for job in database.expired(keep_s=60, upload_s=-1)] == [sent.id]
    assert database.unfinished("a") == 1
    assert database.unfinished() == 2
