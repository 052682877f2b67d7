"""The reader of plain pickles: everything that plans hold, and nothing that runs."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from e2enet.events import BadInput, Cancelled
from e2enet.interop.nnunet import pickles
from e2enet.interop.nnunet.pickles import read_plain_pickle
from hypothesis import given, settings
from hypothesis import strategies as st

PLAIN = {
    "numbers": [1, 2.5, -3, True, None, 10**30],
    "text": "ü",
    "bytes": b"\x00\xff",
    "nested": OrderedDict([(0, {"a": (1, 2)}), (1, {1, 2})]),
    "array": np.arange(6, dtype=np.int64).reshape(2, 3),
    "column": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big-endian": np.array([1, 2], ">i4"),
    "scalar": np.float32(1.5),
    "words": np.array(["a", "bc"]),
}


def write(path: Path, content: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    got = read_plain_pickle(write(tmp_path / "plans.pkl", PLAIN, protocol))
    assert list(got) == list(PLAIN)
    for name, value in PLAIN.items():
        np.testing.assert_array_equal(got[name], value)
        if isinstance(value, np.ndarray):
            assert got[name].dtype == value.dtype


def test_names_of_older_numpy(tmp_path: Path) -> None:
    content = pickle.dumps(PLAIN["array"], 2).replace(b"numpy._core", b"numpy.core")
    (tmp_path / "plans.pkl").write_bytes(content)
    np.testing.assert_array_equal(read_plain_pickle(tmp_path / "plans.pkl"), PLAIN["array"])


class Runs:
    """Writes a file when it is unpickled by the ordinary reader."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.made = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.made


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_is_executed(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "mark"
    for one in (
        Runs(os.system, f"touch {mark}"),
        Runs(subprocess.check_call, ["touch", str(mark)]),
        Runs(eval, f"open({str(mark)!r}, 'w')"),
        Runs(getattr, "text", "upper"),
        Runs(np.load, str(mark)),
        Runs(Path, str(mark)),
        np.array([Runs(os.system, f"touch {mark}")], dtype=object),
        np.array([None]),
        range(3),
        Runs,
    ):
        path = write(tmp_path / "plans.pkl", {"plans": [one]}, protocol)
        with pytest.raises(BadInput, match=r"^plans\.pkl is no pickle of plain data") as caught:
            read_plain_pickle(path)
        assert caught.value.code == "unsafe-pickle"
        assert not mark.exists()


def test_the_ordinary_reader_would_have_run_it(tmp_path: Path) -> None:
    path = write(tmp_path / "plans.pkl", Runs(os.system, f"touch {tmp_path / 'mark'}"))
    pickle.loads(path.read_bytes())
    assert (tmp_path / "mark").exists()


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_or_refused(tmp_path_factory: Any, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.pkl"
    path.write_bytes(content)
    with contextlib.suppress(BadInput):  # any other error fails the test
        read_plain_pickle(path)


@pytest.mark.parametrize("kind", [list, dict, tuple])
def test_lists_that_hold_each_other_again_and_again(tmp_path: Path, kind: type) -> None:
    made: Any = [1.0, 2.0]
    for _ in range(60):
        made = {"a": made, "b": made} if kind is dict else kind((made, made))
    path = write(tmp_path / "plans.pkl", made)
    assert path.stat().st_size < 2000
    begun = time.monotonic()
    with pytest.raises(BadInput, match="again and again") as caught:
        read_plain_pickle(path)
    assert time.monotonic() - begun < 30
    assert caught.value.code == "unsafe-pickle"


def test_a_list_that_is_named_many_times(tmp_path: Path) -> None:
    patch = [16, 128, 128]
    content = [patch] * 10_000
    assert read_plain_pickle(write(tmp_path / "plans.pkl", content)) == content


def test_a_cancel_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cancelled(self: Any) -> None:
        raise Cancelled

    monkeypatch.setattr(pickles._Reader, "load", cancelled)
    with pytest.raises(Cancelled):
        read_plain_pickle(write(tmp_path / "plans.pkl", PLAIN))


def test_a_cut_pickle_and_none(tmp_path: Path) -> None:
    path = write(tmp_path / "plans.pkl", PLAIN)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadInput, match="no pickle of plain data"):
        read_plain_pickle(path)
    with pytest.raises(BadInput, match="cannot be read"):
        read_plain_pickle(tmp_path / "none.pkl")
