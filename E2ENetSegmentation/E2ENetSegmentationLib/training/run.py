"""A training: started, paused, resumed, found again after Slicer was closed.

Everything lies in one folder of the user's data, trainings/NAME: the dataset (when it came from the
scene), the bundle under way with its run folder, and training.json, which remembers what was asked.
"""

import glob
import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path

from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.engine.alive import isAlive
from E2ENetSegmentationLib.engine.run import EngineRun
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.models.store import folderName
from E2ENetSegmentationLib.refusal import Refused
from E2ENetSegmentationLib.training.data import ENDING
from E2ENetSegmentationLib.training.parameters import TrainParameters

STATE, CHECKPOINT = "training.json", "checkpoint.safetensors"
RUNNING, PAUSED, FAILED, FINISHED = "running", "paused", "failed", "finished"


class Training:
    """One training on disk, with the engine that works on it when there is one.

    Args:
        folder: trainings/NAME.
        parameters: What is asked of the engine.
        title: Name for a person.
    """

    def __init__(self, folder, parameters: TrainParameters, title: str) -> None:
        self.folder = Path(folder)
        self.parameters = parameters
        self.title = title
        self.state = PAUSED
        self.titles = {}  # case of a dataset from the scene -> what a person calls it
        self.volumes = {}  # case -> its volume nodes, where they are or were in the scene
        self.rows = []  # one an epoch: {"epoch", "loss", "dice": {label: value}, …}
        self.figures = {}  # Dice of held-out cases by label, once finished
        self._engine = None
        self._lines = []  # what the last engine said beside its events
        self._pausing = False
        self._transferring = False

    @classmethod
    def create(cls, name: str, parameters: TrainParameters) -> "Training":
        """A new training; `parameters.output` is set to its place.

        Raises:
            Refused: There is a training or a model of that name.
        """
        inner = folderName(name)
        folder = paths.trainingsFolder() / inner
        if (paths.modelsFolder() / inner).exists():
            raise Refused(
                _("A model named {name} is already there.").format(name=name),
                _("Choose another name, or delete it in the tab Models."),
            )
        if (folder / STATE).exists():
            raise Refused(
                _("A training named {name} is already there.").format(name=name),
                _("Choose another name, or resume or discard that one."),
            )
        parameters = replace(parameters, output=str(folder / inner))
        return cls(folder, parameters, name)

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
            training = cls(folder, TrainParameters(**chosen), record["title"])
            training.titles = dict(record["titles"])
            training.state = record["state"]
            if training.state == RUNNING and not isAlive(
                int(record.get("pid") or 0), str(record.get("started") or "")
            ):
                training.state = PAUSED  # cut off: its checkpoint is there
            training.rows = list(record.get("rows", []))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Refused(
                _("The training in {folder} cannot be read: {reason}.").format(
                    folder=folder, reason=error
                )
            ) from error
        return training

    def useDataset(self, volumes: dict) -> None:
        """Train on the dataset that was written into the training's own folder.

        Args:
            volumes: Case name -> the volume nodes it was made from.
        """
        self.parameters = replace(self.parameters, dataset=str(self.folder / "dataset"))
        self.volumes = volumes
        self.titles = {name: nodes[0].GetName() for name, nodes in volumes.items()}

    @property
    def bundle(self) -> Path:
        return Path(self.parameters.output)

    @property
    def runFolder(self) -> Path:
        return self.bundle.with_name(self.bundle.name + ".run")

    @property
    def holdsOut(self) -> bool:
        """Whether Dice and curves are those of cases that do not train."""
        return self.parameters.fold != "all"

    @property
    def running(self) -> bool:
        return self._engine is not None and self._engine.running

    @property
    def rests(self) -> bool:
        """Whether it waits on disk to be gone on with, or to be deleted."""
        return not self.running and (self.folder / STATE).is_file()

    @property
    def lines(self) -> list:
        return self._engine.lines if self._engine else self._lines

    @property
    def hasCheckpoint(self) -> bool:
        """Whether there is a model that can be looked at."""
        return (self.runFolder / CHECKPOINT).is_file()

    def cases(self) -> list:
        """Names of the held-out cases, of the training cases where there are none.

        Raises:
            Refused: The run is damaged.
        """
        try:
            record = json.loads((self.runFolder / "run.json").read_text(encoding="utf-8"))
            split = record["dataset"]["split"]
            return [str(name) for name in split["val"] or split["train"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Refused(
                _("The run in {folder} cannot be read: {reason}.").format(
                    folder=self.runFolder, reason=error
                )
            ) from error

    def images(self, case: str) -> list:
        """The image files of a training case, one a channel, in order."""
        pattern = f"{glob.escape(case)}_[0-9][0-9][0-9][0-9].*"
        return sorted((Path(self.parameters.dataset) / "imagesTr").glob(pattern))

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
        wanted = self.parameters
        self._transferring = bool(wanted.transfer) and not self._transferred.exists()
        if self._transferring:
            arguments = ["transfer", self._start, "--to", wanted.transfer]
            arguments += ["--output", str(self._transferred)]
        else:
            arguments = self._toArguments()
        names = self._names()
        self._engine = EngineRun.verb(arguments, self.folder, self._event, names)
        self._engine.start()
        self._save(RUNNING)

    @property
    def _start(self) -> str:
        """The model to start from; by its name where it is no longer in its place."""
        start = self.parameters.start
        return start if Path(start).exists() else Path(start).name

    @property
    def _transferred(self) -> Path:
        """What a model of slices has become, to start from."""
        return self.folder / "start"

    def _toArguments(self) -> list:
        start = str(self._transferred) if self.parameters.transfer else self._start
        parameters = replace(self.parameters, start=start)
        arguments = parameters.toArguments(parameters.resume and self.hasCheckpoint)
        metadata = Path(self.parameters.dataset) / "metadata.json"
        if metadata.is_file() and not self.parameters.resume:
            arguments[2:2] = ["--metadata", str(metadata)]
        return arguments

    def _names(self) -> dict:
        """What the engine reads of a dataset from the scene -> what a person calls it."""
        names = {}
        for case, title in self.titles.items():
            files = [path.name for path in self.images(case)]
            named = _("the labels of {case}").format(case=title)
            names |= {case: title, case + ENDING: named, **dict.fromkeys(files, title)}
        return names

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
            self._engine.cancel()  # it may have been something else that failed
            self._drop()
            self._save(FAILED if not self.runFolder.exists() else PAUSED)
            raise
        result = self._engine.result
        self._drop()
        if self._transferring:
            self.start(self._onEvent)
            return True
        if result.get("state", FINISHED) != FINISHED:
            self._save(PAUSED)
            return False
        if self.holdsOut:
            self.figures = result.get("dice") or {}
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
        if self._pausing and not self.runFolder.is_dir():
            self.cancel()  # nothing is lost: the training proper has not begun

    def cancel(self) -> None:
        """End the engine at once; the last checkpoint stays."""
        if self._engine is not None:
            self._engine.cancel()
            self._drop()
            self._save(PAUSED)

    def _drop(self) -> None:
        """The engine has ended; what it said stays for the log."""
        self._engine, self._lines = None, self._engine.lines

    def discard(self) -> None:
        """End it for good and delete its data; without its record the rest is no training."""
        self.cancel()
        (self.folder / STATE).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

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
            "titles": self.titles,
            "pid": self._engine.pid if self.running else None,
            "started": self._engine.started if self.running else "",  # numbers are used again
            "parameters": asdict(self.parameters),
            "rows": self.rows,
        }
        scratch = self.folder / (STATE + ".part")
        scratch.write_text(json.dumps(record, indent=1), encoding="utf-8")
        os.replace(scratch, self.folder / STATE)


def unfinished() -> list:
    """Trainings that nothing works on: paused, cut off, or finished without becoming a model.

    Broken records are passed over.
    """
    found = []
    folder = paths.trainingsFolder()
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not (path / STATE).is_file():
            continue
        try:
            training = Training.load(path)
        except Refused:
            continue
        if training.state != RUNNING:
            found.append(training)
    return found
