"""A training: started, paused, resumed, found again after Slicer was closed.

Everything lies in one folder of the user's data, trainings/NAME: the dataset (when it came from the
scene), the bundle under way with its run folder, and training.json, which remembers what was asked.
"""

import json
import os
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path

from . import paths
from .enginerun import EngineRun
from .i18n import tr as _
from .models import _folderName
from .parameters import TrainParameters
from .process import isAlive
from .refusal import Refused

STATE = "training.json"
RUNNING, PAUSED, FAILED, FINISHED = "running", "paused", "failed", "finished"


class Training:
    """One training on disk, with the engine that works on it when there is one.

    Args:
        folder: trainings/NAME.
        parameters: What is asked of the engine.
        title: Name for a person.
        heldOut: Number of held-out cases of the dataset.
    """

    def __init__(self, folder, parameters: TrainParameters, title: str, heldOut: int = 0) -> None:
        self.folder = Path(folder)
        self.parameters = parameters
        self.title = title
        self.heldOut = heldOut
        self.state = PAUSED
        self.labels = {}  # name -> value, of a dataset from the scene
        self.rows = []  # one an epoch: {"epoch", "loss", "dice": {label: value}, …}
        self.figures = {}  # Dice of held-out cases by label, once finished
        self._steps = []
        self._engine = None
        self._pausing = False
        self._started = 0.0

    @classmethod
    def create(cls, name: str, parameters: TrainParameters, heldOut: int = 0) -> "Training":
        """A new training; `parameters.output` is set to its place.

        Raises:
            Refused: There is a training or a model of that name.
        """
        folderName = _folderName(name)
        folder = paths.trainingsFolder() / folderName
        if (paths.modelsFolder() / folderName).exists():
            raise Refused(
                _("A model named {name} is already there.").format(name=name),
                _("Choose another name, or delete it in the tab Models."),
            )
        if (folder / STATE).exists():
            raise Refused(
                _("A training named {name} is already there.").format(name=name),
                _("Choose another name, or resume or discard that one."),
            )
        parameters = replace(parameters, output=str(folder / folderName))
        return cls(folder, parameters, name, heldOut)

    @classmethod
    def load(cls, folder) -> "Training":
        """A training from its folder.

        Raises:
            Refused: Its record cannot be read.
        """
        try:
            record = json.loads((Path(folder) / STATE).read_text(encoding="utf-8"))
            chosen = dict(record["parameters"])
            chosen["extra"] = tuple(chosen.get("extra", ()))
            training = cls(
                folder, TrainParameters(**chosen), record["title"], int(record["heldOut"])
            )
            training.state = record["state"]
            if training.state == RUNNING and not isAlive(int(record.get("pid") or 0)):
                training.state = PAUSED  # cut off: its checkpoint is there
            training.rows = list(record.get("rows", []))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Refused(
                _("The training in {folder} cannot be read: {reason}.").format(
                    folder=folder, reason=error
                )
            ) from error
        return training

    def useDataset(self, values: dict) -> None:
        """Train on the dataset that was written into the training's own folder."""
        self.parameters = replace(self.parameters, dataset=str(self.folder / "dataset"))
        self.labels = values

    @property
    def bundle(self) -> Path:
        return Path(self.parameters.output)

    @property
    def runFolder(self) -> Path:
        return self.bundle.with_name(self.bundle.name + ".run")

    @property
    def running(self) -> bool:
        return self._engine is not None and self._engine.running

    @property
    def lines(self) -> list:
        return self._engine.lines if self._engine else []

    def start(self, onEvent=None) -> None:
        """Start, or go on from the checkpoint where there is one.

        Raises:
            Refused: The engine cannot be started.
        """
        self._onEvent = onEvent or (lambda event: None)
        self._pausing = False
        self.folder.mkdir(parents=True, exist_ok=True)
        again = (self.runFolder / "run.json").exists()
        self.parameters = replace(self.parameters, resume=again)
        valid, reason = self.parameters.isValid()
        if not valid:
            raise Refused(reason)
        self._steps = [("train", self._toArguments())]
        self._started = time.monotonic()
        self._nextStep()

    def _toArguments(self) -> list:
        arguments = self.parameters.toArguments()
        metadata = Path(self.parameters.dataset) / "metadata.json"
        if metadata.is_file() and not self.parameters.resume:
            arguments[2:2] = ["--metadata", str(metadata)]
        return arguments

    def poll(self) -> bool:
        """Let it go on; True while it runs. Afterwards `state` says how it ended.

        Raises:
            Refused: The engine failed; the checkpoint stays for resuming.
        """
        if self._engine is None:
            return False
        try:
            if self._engine.poll():
                self._askAgain()
                return True
        except BaseException:
            self._engine = None
            self._save(FAILED if not self.runFolder.exists() else PAUSED)
            raise
        step, result = self._step, self._engine.result
        if step == "train":
            state = result.get("state", FINISHED)
            if state != FINISHED:
                self._engine = None
                self._save(PAUSED)
                return False
            if self.heldOut:
                self._steps += self._measuring()
        elif step == "evaluate":
            self.figures = result.get("mean_by_label") or {}
        if self._steps:
            self._nextStep()
            return True
        self._engine = None
        self._save(FINISHED)
        return False

    def pause(self) -> None:
        """Ask the engine to write a checkpoint and end; `poll` tells when it has."""
        if self.running:
            self._pausing = True
            self._askAgain()

    def _askAgain(self) -> None:
        """The engine removes an order it finds at its start, so it is repeated until it is read."""
        control = self.runFolder / "control"
        if self._pausing and self.runFolder.is_dir() and not control.exists():
            scratch = control.with_name("control.part")
            try:
                scratch.write_text("pause", encoding="utf-8")
                os.replace(scratch, control)
            except OSError:
                return  # the next look tries again
        if self._pausing and not self.runFolder.is_dir() and self._step == "train":
            self.kill()  # nothing is lost: the training proper has not begun

    def kill(self) -> None:
        """End the engine at once; the last checkpoint stays."""
        if self._engine is not None:
            self._engine.kill()
            self._engine = None
            self._save(PAUSED)

    def discard(self) -> None:
        """End it for good and delete its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _nextStep(self) -> None:
        self._step, arguments = self._steps.pop(0)
        self._engine = EngineRun(arguments, self.folder, self._event)
        self._engine.start()
        self._save(RUNNING)

    def _measuring(self) -> list:
        """Segment and compare the held-out cases with the finished model."""
        dataset, found = Path(self.parameters.dataset), self.folder / "heldout"
        model, device = str(self.bundle), self.parameters.device
        segment = ["segment", str(dataset / "imagesTs"), "--model", model, "--output", str(found)]
        return [
            ("segment", [*segment, "--device", device, "--progress", "json"]),
            ("evaluate", ["evaluate", str(found), str(dataset / "labelsTs"), "--progress", "json"]),
        ]

    def _event(self, event: dict) -> None:
        if event["event"] == "metric" and event.get("name") == "epoch":
            self.rows = [row for row in self.rows if row["epoch"] < event["epoch"]] + [event]
            self._save(RUNNING)
        self._onEvent(event)

    def _save(self, state: str) -> None:
        self.state = state
        if not self.folder.is_dir():
            return
        record = {
            "title": self.title,
            "state": state,
            "heldOut": self.heldOut,
            "pid": self._engine.pid if self.running else None,
            "parameters": asdict(self.parameters),
            "rows": self.rows,
        }
        scratch = self.folder / (STATE + ".part")
        scratch.write_text(json.dumps(record, indent=1), encoding="utf-8")
        os.replace(scratch, self.folder / STATE)


def unfinished() -> list:
    """Trainings that were paused or cut off; broken records are passed over."""
    found = []
    folder = paths.trainingsFolder()
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not (path / STATE).is_file():
            continue
        try:
            training = Training.load(path)
        except Refused:
            continue
        if training.state in (PAUSED, FAILED):
            found.append(training)
    return found
