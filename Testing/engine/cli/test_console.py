"""What a person reads where there is no terminal: lines, and no bar."""

from __future__ import annotations

import io
import math

from e2enet.cli.console import ConsoleReporter
from rich.console import Console

ROW = {
    "epoch": 3, "iteration": 750, "loss": 0.51234, "lr": 0.01, "zeta": 0.4, "live": 10,
    "dice": {"liver": 0.81, "spleen": None}, "mean_dice": 0.81, "left_out": 0, "seconds": 30.0,
    "left_s": 12345.6,
}  # fmt: skip


def said(name: str, **values: object) -> list[str]:
    stream = io.StringIO()
    reporter = ConsoleReporter(Console(file=stream, width=60))
    reporter.progress("training", 0, 10)
    reporter.metric(name, **values)
    reporter.close()
    return [line.rstrip() for line in stream.getvalue().splitlines() if line.strip()]


def test_an_epoch_is_a_line_with_the_time_left() -> None:
    (line,) = said("epoch", **ROW)
    assert line == "epoch 3  loss 0.5123  Dice 0.810 (liver 0.810, spleen –)  left 3:25:46"
    (line,) = said("epoch", **{**ROW, "left_out": 2, "loss": math.nan, "mean_dice": None})
    assert "loss nan  Dice –" in line
    assert "2 steps left out" in line


def test_a_summary_is_a_line_a_fact() -> None:
    lines = said(
        "summary", dataset="Dataset020", labels=["liver", "[spleen]"], patch=[32, 192, 192],
        spacing_mm=[7.7, 1.25, 1.25], training_s=93784,
    )  # fmt: skip
    assert lines == [
        "dataset               Dataset020",
        "labels                liver, [spleen]",
        "patch                 32 × 192 × 192",
        "spacing (mm)          7.7 × 1.25 × 1.25",
        "training (h:mm:ss)    about 1 day, 2:03:04",
    ]
