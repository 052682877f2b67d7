"""Models the panel offers: shipped ones, imported ones, and those in a folder of the user's."""

import contextlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.refusal import Refused
from E2ENetSegmentationLib.words import plain, spoken


@dataclass(frozen=True)
class Model:
    """What the panel shows of a bundle, read without torch.

    Attributes:
        path: The bundle's folder.
        content: Its model.json.
        origin: "shipped", "imported" or "folder".
        channels: Names of the input channels, at least one.
        labels: Of the engine's `Label`: value, name, color (0-255), terminology.
    """

    path: Path
    content: dict
    origin: str
    channels: list = field(default_factory=list)
    labels: list = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def title(self) -> str:
        return str(self.content.get("title") or self.content.get("name") or self.name)

    @property
    def hasLocator(self) -> bool:
        return bool(self.content.get("locator"))

    @property
    def sides(self) -> list:
        """What comes before the names of its labels in a whole image, such as Left and Right."""
        boxes = (self.content.get("locator") or {}).get("boxes") or []
        return [str(box["name"]) for box in boxes if isinstance(box, dict) and box.get("name")]

    @property
    def date(self) -> str:
        return str((self.content.get("provenance") or {}).get("date", ""))[:10]

    @property
    def unfinished(self) -> str:
        """A sentence about a model from before its training's end, or nothing."""
        found = (self.content.get("provenance") or {}).get("unfinished")
        if not isinstance(found, dict):
            return ""
        return _("Epoch {n} of {total}; its training was not finished.").format(
            n=found.get("epoch"), total=found.get("epochs")
        )

    def summary(self) -> list:
        """Lines for a person: modality, anatomy, date and licence, those that are known."""
        entries = [
            (_("Unfinished"), self.unfinished),
            (_("Modality"), self.content.get("modality")),
            (_("Anatomy"), self.content.get("anatomy")),
            (_("Date"), self.date),
            (_("Licence"), self.content.get("licence")),
        ]
        return [f"{name}: {value}" for name, value in entries if value]

    @property
    def weightsSha256(self) -> str:
        """Tells versions of a model apart."""
        entry = (self.content.get("files") or {}).get("weights.safetensors") or {}
        return str(entry.get("sha256", ""))

    @property
    def picture(self):
        """The file of its picture, or None."""
        path = self.path / "picture.png"
        return path if path.is_file() else None

    @property
    def megabytes(self) -> float:
        """Size of its files."""
        files = (path for path in self.path.rglob("*") if path.is_file())
        return sum(path.stat().st_size for path in files) / 1e6

    def results(self) -> list:
        """Lines about evaluations that were measured on other cases and written into it."""
        found = self.content.get("results")
        lines = []
        for entry in found if isinstance(found, list) else []:
            try:
                means = entry["mean_by_label"].items()
                figures = [f"{n} {m['Dice']:.3f}" for n, m in means if m.get("Dice") is not None]
                how = _("with mirroring") if entry["tta"] else _("without mirroring")
                if "folds" in entry:
                    how = _("in {count} folds").format(count=int(entry["folds"]))
                lines.append(
                    _("Dice on {count} cases of {references}, {how}: {figures}").format(
                        count=len(entry["cases"]),
                        how=how,
                        references=entry["references"],
                        figures=", ".join(figures),
                    )
                )
            except (KeyError, TypeError, ValueError, AttributeError):
                continue  # a sentence somebody typed is no result
        return lines

    def metrics(self) -> str:
        """The model's own figures on one line and what they are of, or nothing."""
        found = (self.content.get("provenance") or {}).get("metrics") or {}
        parts = []
        for name, value in found.items():
            inner = value.items() if isinstance(value, dict) else [("", value)]
            parts += [
                f"{name.replace('_', ' ')} {label}".strip() + f" {number:.3f}"
                for label, number in inner
                if isinstance(number, (int, float)) and not isinstance(number, bool)
            ]
        text = ", ".join(parts)
        of = found.get("of")
        return f"{text} ({plain(of)})" if text and isinstance(of, str) else text

    def fieldOfView(self):
        """Size in mm along (R, A, S) of one patch, or None for a plan that does not say.

        The plan is in transposed (D, H, W) order of the canonical (S, P, L) axes.
        """
        plan = self.content.get("plan") or {}
        try:
            size = [
                float(p) * float(s) for p, s in zip(plan["patch"], plan["spacing"], strict=True)
            ]
            order = [int(i) for i in plan.get("transpose", (0, 1, 2))]
            canonical = [0.0, 0.0, 0.0]
            for place, axis in enumerate(order):
                canonical[axis] = size[place]
        except (KeyError, TypeError, ValueError, IndexError):
            return None
        return canonical[2], canonical[1], canonical[0]


class ModelStore:
    """Lists, imports, exports and deletes models.

    Args:
        extraFolder: A folder of the user's that is searched as well; a path or "".
    """

    def __init__(self, extraFolder: str = "") -> None:
        self.extraFolder = extraFolder
        self.problems = []  # one sentence a model that was left out

    def models(self) -> list:
        """Every model that can be read; fills `problems` with those that cannot."""
        self.problems = []
        found = {}
        for path in self._candidates():
            if path.name in found:
                continue
            try:
                found[path.name] = self.open(path)
            except Refused as refusal:
                self.problems.append(str(refusal))
        return list(found.values())

    def open(self, nameOrPath) -> Model:
        """A model by name or path.

        Raises:
            Refused: There is none, or it is damaged.
        """
        bundle = paths.engineModule("bundle")
        if self.extraFolder and (Path(self.extraFolder) / str(nameOrPath)).is_dir():
            nameOrPath = Path(self.extraFolder) / str(nameOrPath)
        try:
            opened = bundle.Bundle.open(nameOrPath)
            labels, channels = opened.labels, opened.channels
        except paths.engineModule("events").BadInput as error:
            raise Refused(error.message, error.help, error.code) from error
        if not labels or not channels:
            raise Refused(_("{path} names no labels or no channels.").format(path=opened.path))
        return Model(opened.path, opened.model, self._origin(opened.path), channels, labels)

    def importModels(self, source, overwrite: bool = False) -> list:
        """Copy a bundle (zip or folder), or all of a pack, to the user's models; checked whole.

        Raises:
            Refused: Something in it is not sound, or one of its name is there; nothing was written.
        """
        try:
            placed = paths.engineModule("bundle.install").install(source, replace=overwrite)
        except paths.engineModule("events").BadInput as error:
            raise Refused(*spoken(error.code, error.message, error.help), error.code) from error
        return [self.open(path) for path in placed]

    def importTrained(self, bundle) -> Model:
        """Copy what a training made; under the next free name where its own was taken meanwhile.

        Raises:
            Refused: It is not sound, or cannot be written.
        """
        content = self.open(bundle).content
        name = folderName(content["name"])
        number = _firstFree(name)
        if number > 1:
            title = content.get("title") or content["name"]
            renamed = {"name": f"{name}-{number}", "title": f"{title} {number}"}
            with _writing(bundle):
                paths.engineModule("bundle.description").write_json(
                    Path(bundle) / "model.json", {**content, **renamed}
                )
        (model,) = self.importModels(bundle)
        return model

    def exportModel(self, model: Model, archive) -> Path:
        """Write a model as a zip.

        Raises:
            Refused: The file cannot be written.
        """
        archive = Path(archive)
        if archive.suffix.lower() != ".zip":
            archive = archive.with_name(archive.name + ".zip")
        with _writing(archive):
            paths.engineModule("bundle.archive").pack(model.path, archive)
        return archive

    def canDelete(self, model: Model) -> bool:
        return model.origin == "imported"

    def delete(self, model: Model) -> None:
        """Remove an imported or trained model.

        Raises:
            Refused: It is shipped, lies in the user's own folder, or cannot be removed.
        """
        if not self.canDelete(model):
            raise Refused(
                _("{name} was not imported here and is left alone.").format(name=model.name)
            )
        try:
            shutil.rmtree(model.path)
        except OSError as error:
            raise Refused(
                _("{name} cannot be deleted: {reason}.").format(
                    name=model.name, reason=error.strerror or error
                )
            ) from error

    def _candidates(self) -> list:
        candidates = list(paths.engineModule("bundle").list_models())
        if self.extraFolder:
            folder = Path(self.extraFolder)
            inside = sorted(folder.iterdir()) if folder.is_dir() else []
            candidates += [p for p in (folder, *inside) if (p / "model.json").is_file()]
        return candidates

    def _origin(self, path: Path) -> str:
        path = path.resolve()
        if path.is_relative_to(paths.modelsFolder().resolve()):
            return "imported"
        if path.is_relative_to(paths.extensionResources().resolve()):
            return "shipped"
        return "folder"


@contextlib.contextmanager
def _writing(path):
    """What cannot be written is refused in one sentence."""
    try:
        yield
    except OSError as error:
        raise Refused(
            _("{name} cannot be written: {reason}.").format(
                name=path, reason=error.strerror or error
            )
        ) from error


def _firstFree(name: str) -> int:
    """1 if no installed model has the name, else the first number that makes it free."""
    folder, number = paths.modelsFolder(), 1
    while (folder / (f"{name}-{number}" if number > 1 else name)).exists():
        number += 1
    return number


def folderName(name: str) -> str:
    """What a model's folder is called."""
    return paths.engineModule("bundle.install").folder_name(name)
