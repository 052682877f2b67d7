from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from e2enet.events import BadInput, JsonReporter, RemainingTime, Reporter


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def lines(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_each_event_is_one_json_object_a_line() -> None:
    stream, clock = io.StringIO(), Clock()
    reporter = JsonReporter(stream, clock)
    reporter.progress("inference", 0, 40)
    clock.now += 6
    reporter.progress("inference", 12, 40)
    reporter.metric("epoch", loss=0.5, dice={"left": 0.9})
    reporter.warning("no-gpu", "Two lines\nof text.")
    reporter.result(output=Path("out.nii.gz"), volumes_ml=[1.5, 2.5])
    reporter.error("bad-input", "It is wrong.", "Make it right.")
    assert lines(stream) == [
        {"event": "progress", "stage": "inference", "done": 0, "total": 40, "eta_s": None},
        {"event": "progress", "stage": "inference", "done": 12, "total": 40, "eta_s": 14.0},
        {"event": "metric", "name": "epoch", "loss": 0.5, "dice": {"left": 0.9}},
        {"event": "warning", "code": "no-gpu", "message": "Two lines\nof text."},
        {"event": "result", "output": "out.nii.gz", "volumes_ml": [1.5, 2.5]},
        {"event": "error", "code": "bad-input", "message": "It is wrong.",
         "help": "Make it right."},
    ]  # fmt: skip


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_json_has_not_becomes_null(bad: float) -> None:
    stream = io.StringIO()
    JsonReporter(stream).metric(
        "m", a=bad, b=[bad, 1], c={"d": (bad,)}, e=np.float64(bad), f=np.float32(bad),
        g=torch.tensor([bad, 2.0]),
    )  # fmt: skip
    (event,) = lines(stream)
    assert event == {
        "event": "metric", "name": "m", "a": None, "b": [None, 1], "c": {"d": [None]}, "e": None,
        "f": None, "g": [None, 2.0],
    }  # fmt: skip


def test_numbers_of_arrays_stay_numbers() -> None:
    stream = io.StringIO()
    JsonReporter(stream).result(
        voxels=np.int64(3), volume=np.float32(0.5), whole=torch.tensor(7), box=np.arange(3)
    )
    event = lines(stream)[0]
    assert event == {"event": "result", "voxels": 3, "volume": 0.5, "whole": 7, "box": [0, 1, 2]}


def test_lines_arrive_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream(io.StringIO):
        flushed = 0

        def flush(self) -> None:
            self.flushed += 1

    stream = Stream()
    monkeypatch.setattr(sys, "stdout", stream)
    reporter = JsonReporter()
    reporter.metric("a")
    reporter.metric("b")
    assert stream.flushed == 2


def test_remaining_time_by_stage_and_when_a_stage_starts_again() -> None:
    clock = Clock()
    eta = RemainingTime(clock)
    assert eta.after("a", 0, 10) is None
    clock.now += 5
    assert eta.after("a", 5, 10) == 5.0
    assert eta.after("b", 2, 4) is None
    clock.now += 1
    assert eta.after("b", 3, 4) == 1.0
    assert eta.after("a", 10, 10) == 0.0
    assert eta.after("a", 0, 10) is None
    clock.now += 2
    assert eta.after("a", 1, 10) == 18.0


def test_the_base_reporter_keeps_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter()
    reporter.progress("a", 1, 2)
    reporter.metric("a", b=1)
    reporter.result(a=1)
    reporter.warning("a", "b")
    reporter.error("a", "b", "c")
    assert capsys.readouterr() == ("", "")


def test_bad_input_reads_as_a_sentence_and_its_help() -> None:
    error = BadInput("a.nii is empty.", help="Export it again.", code="empty")
    assert str(error) == "a.nii is empty. Export it again."
    assert (error.message, error.help, error.code) == (
        "a.nii is empty.",
        "Export it again.",
        "empty",
    )
    assert BadInput("a.").code == "bad-input"


@pytest.mark.parametrize(
    "module", ["e2enet", "e2enet.events", "e2enet.bundle", "e2enet.bundle.archive"]
)
def test_nothing_but_the_standard_library_is_imported(module: str) -> None:
    """The Slicer panel imports these before anything is installed: -S hides site-packages."""
    engine = Path(__file__).resolve().parents[2] / "engine"
    code = f"import sys; sys.path.insert(0, {str(engine)!r}); import {module}"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
