"""Events for a person: a progress bar with the remaining time, and plain sentences."""

from __future__ import annotations

import datetime
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from e2enet.events import Reporter


class ConsoleReporter(Reporter):
    """Draws on standard error, so that a verb's own output can be piped."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._progress: Progress | None = None
        self._tasks: dict[str, Any] = {}

    def progress(self, stage: str, done: int, total: int) -> None:
        if self._progress is None:
            self._progress = Progress(
                TextColumn("{task.description:<14}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self._progress.start()
        if stage not in self._tasks:
            for task in self._tasks.values():
                self._progress.update(task, visible=False)
            self._tasks[stage] = self._progress.add_task(stage, total=total)
        task = self._tasks[stage]
        self._progress.update(task, completed=done, total=total, visible=done < total)

    def metric(self, name: str, **values: Any) -> None:
        if name == "device":  # for those who watch; at the end the manifest names it
            return
        if name == "summary":
            for key, value in values.items():
                self._print((f"{_TITLES.get(key, key):<22}", "cyan"), _plain(key, value))
            return
        if name == "epoch":
            self._print((f"epoch {values['epoch']}", "cyan"), f"  {_epoch(values)}")
            return
        text = "  ".join(f"{key} {_short(value)}" for key, value in values.items())
        self._print((name, "cyan"), f"  {text}")

    def result(self, **values: Any) -> None:
        """A verb prints its own result for a person."""

    def warning(self, code: str, message: str) -> None:
        self._print(("Note:", "yellow"), f" {message}")

    def error(self, code: str, message: str, help: str = "") -> None:
        self.close()
        self._print((message, "red"))
        if help:
            self._print(help)

    def _print(self, *parts: str | tuple[str, str]) -> None:
        """Text as it is: a bracket in a file's name is no markup, and no path is broken in two."""
        self.console.print(Text.assemble(*parts), soft_wrap=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
            self._tasks = {}


_TITLES = {
    "training_cases": "cases that train",
    "held_out_cases": "cases held out",
    "spacing_mm": "spacing (mm)",
    "batch_size": "batch",
    "base_channels": "base channels",
    "sparsity": "sparsity S",
    "iterations_per_epoch": "iterations per epoch",
    "evolve_every": "evolution every",
    "memory_gb": "memory (GB, about)",
    "step_s": "seconds per step",
    "training_s": "training (h:mm:ss)",
}


def _plain(key: str, value: Any) -> str:
    if key == "training_s":
        return f"about {datetime.timedelta(seconds=value)}"
    if isinstance(value, (list, tuple)):
        numbers = all(isinstance(one, (int, float)) for one in value)
        return (" × " if numbers else ", ").join(_short(one) for one in value)
    return _short(value)


def _epoch(row: dict[str, Any]) -> str:
    """An epoch's figures as a line that tells what a person asks."""
    each = ", ".join(
        f"{name} {'–' if value is None else f'{value:.3f}'}" for name, value in row["dice"].items()
    )
    mean = row["mean_dice"]
    parts = [
        f"loss {row['loss']:.4f}",
        f"Dice {'–' if mean is None else f'{mean:.3f}'} ({each})",
        f"{row['left_out']} steps left out" if row.get("left_out") else "",
        f"left {datetime.timedelta(seconds=round(row['left_s']))}" if row.get("left_s") else "",
    ]
    return "  ".join(part for part in parts if part)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return " ".join(f"{key} {_short(item)}" for key, item in value.items())
    return str(value)
