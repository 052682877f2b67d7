"""The figures of a run for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from e2enet.events import Reporter
from e2enet.extras import need_package

FOLDER = "tensorboard"


class TensorBoard(Reporter):
    """Passes everything on to another reporter, and the figures of every epoch to TensorBoard.

    A resumed run writes further files into the same folder, which TensorBoard joins.

    Args:
        reporter: Gets every event.
        folder: Where the event files go.

    Raises:
        BadInput: TensorBoard is not installed.
    """

    def __init__(self, reporter: Reporter, folder: Path) -> None:
        check_tensorboard()
        from torch.utils.tensorboard.writer import SummaryWriter

        self._reporter, self._writer = reporter, SummaryWriter(str(folder))

    def progress(self, stage: str, done: int, total: int) -> None:
        self._reporter.progress(stage, done, total)

    def metric(self, name: str, **values: Any) -> None:
        if name == "epoch":
            figures = {key: values[key] for key in ("loss", "lr", "mean_dice", "zeta", "live")}
            dice = {f"dice/{label}": value for label, value in values["dice"].items()}
            for key, value in {**figures, **dice}.items():
                if value is not None:
                    self._writer.add_scalar(key, value, values["iteration"])
            self._writer.flush()
        self._reporter.metric(name, **values)

    def result(self, **values: Any) -> None:
        self._reporter.result(**values)

    def warning(self, code: str, message: str) -> None:
        self._reporter.warning(code, message)

    def error(self, code: str, message: str, help: str = "") -> None:
        self._reporter.error(code, message, help)

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


def check_tensorboard() -> None:
    """Raise BadInput unless TensorBoard is installed."""
    need_package("tensorboard", "tensorboard", "--tensorboard")
