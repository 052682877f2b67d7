"""What an index offers: read by `fetch.py`, shown beside the models that are here."""

from dataclasses import dataclass, field
from pathlib import Path

from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.models.store import Model


@dataclass(frozen=True)
class Offer(Model):
    """A model that can be had; with the same words as one that is here.

    Attributes:
        entry: Of the index: name, file, bytes, weights_sha256, sample.
        picturePath: Where its picture was put, or "".
    """

    entry: dict = field(default_factory=dict)
    picturePath: str = ""

    @property
    def name(self) -> str:
        return str(self.entry["name"])

    @property
    def megabytes(self) -> float:
        return self.entry["bytes"] / 1e6

    @property
    def picture(self):
        return Path(self.picturePath) if self.picturePath else None


def offers(entries: list) -> list:
    """The entries of an index as offers; one that cannot be shown is left out."""
    make = paths.engineModule("bundle").Label
    found = []
    for entry in entries:
        content = entry["model"]
        try:
            labels = [
                make(int(label["value"]), str(label["name"]), tuple(label["color"]), {})
                for label in content["labels"]
            ]
            channels = [str(channel["name"]) for channel in content["channels"]]
        except (KeyError, TypeError, ValueError):
            continue
        found.append(
            Offer(
                path=None,
                content=content,
                origin="online",
                channels=channels,
                labels=labels,
                entry=entry,
                picturePath=entry["picture"],
            )
        )
    return found


def newOnes(found: list, models: list) -> list:
    """The offers that are not here in just this version."""
    here = {model.name: model.weightsSha256 for model in models}
    return [offer for offer in found if here.get(offer.name) != offer.entry["weights_sha256"]]
