"""What a training will mean, said before it starts: finding the region, and what is held out."""

import json
from pathlib import Path

from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.training.data import SPLITS

FIFTHS = 5
SHOWN = 4  # names in a sentence


def aboutRegion(base, labels) -> str:
    """Whether the new model will find its region in a whole image by itself.

    Args:
        base: The `Model` to start from, or None.
        labels: Names of the labels that will be taught.
    """
    if base is None or not base.hasLocator or not labels:
        return ""
    known = [label.name for label in base.labels]
    new = [name for name in dict.fromkeys(labels) if name not in known]
    if not new:
        return _("The new model will find its region by itself, as {base} does.").format(
            base=base.title
        )
    return _(
        "The new model will not find its region by itself: {base} has no label {new}, so nobody "
        "knows where that lies, and every volume will need a region. To keep that, choose "
        "{known} for each segment, or leave a segment out."
    ).format(new=_(" or ").join(new), base=base.title, known=_(" or ").join(known))


def aboutHeldOut(heldOut, count: int, trains: int) -> str:
    """What is kept away from the training.

    Args:
        heldOut: Names of the cases that are held out, as far as they are known.
        count: Their number.
        trains: Number of cases that train.
    """
    if count + trains == 0:
        return ""
    if count == 0:
        return _(
            "Nothing is held out: all cases train ({n}), and the Dice shown will be theirs, which "
            "new cases do not reach."
        ).format(n=trains)
    names = ", ".join([*heldOut[:SHOWN], *(["…"] if len(heldOut) > SHOWN else [])])
    text = _("Held out to measure on: {count} of {total} cases").format(
        count=count, total=count + trains
    )
    return f"{text} ({names})." if names else f"{text}."


def labelsOfFolder(folder) -> list:
    """Labels that a dataset folder teaches; [] where it cannot be read."""
    try:
        labels = json.loads((Path(folder) / "dataset.json").read_text(encoding="utf-8"))["labels"]
        return [name for name, value in labels.items() if value != 0]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def heldOutOfFolder(folder, fold: int):
    """(names, count, number that trains) of a dataset folder.

    Args:
        fold: A fold of its splits_final.json, or a fifth, from 0; -1 for none.
    """
    files = Path(folder).glob("labelsTr/*") if str(folder) else []
    total = len([path for path in files if not path.name.startswith(".")])
    if fold < 0 or total == 0:
        return [], 0, total
    try:
        split = json.loads((Path(folder) / SPLITS).read_text(encoding="utf-8"))[fold]
        return sorted(split["val"]), len(split["val"]), len(split["train"])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        folds = min(FIFTHS, total)  # nnU-Net's: parts that differ by at most one case
        count = total // folds + (fold < total % folds)
        return [], count, total - count
