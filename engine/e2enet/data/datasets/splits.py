"""Which cases train and which are held out: a dataset's own `splits_final.json`, or five folds."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from e2enet.data.datasets.raw import Dataset
from e2enet.events import BadInput

SPLITS = "splits_final.json"
FOLDS = 5

Split = tuple[tuple[str, ...], tuple[str, ...]]


def split(dataset: Dataset, fold: int | str) -> Split:
    """Training and held-out cases of a fold.

    Where the dataset's folder holds nnU-Net's `splits_final.json`, a list of
    `{"train": [names], "val": [names]}`, a fold is an entry of that list; otherwise it is one of
    nnU-Net's five (`five_folds`).

    Args:
        dataset: its folder and its training cases.
        fold: a number from 0, or "all": every case trains and none is held out, whatever the file.

    Returns:
        (training, held out), each sorted.

    Raises:
        BadInput: no such fold, a single case, or a file that does not fit the dataset.
    """
    path = dataset.folder / SPLITS
    if fold == "all" or not path.exists():
        return five_folds(dataset.case_names, fold)
    splits = _read(dataset)
    return splits[_number(fold, len(splits), f"{path} has")]


def all_splits(dataset: Dataset) -> list[Split]:
    """Every fold of a dataset: those of its `splits_final.json`, or nnU-Net's five.

    Raises:
        BadInput: as `split`; fewer than five cases and no such file.
    """
    if (dataset.folder / SPLITS).exists():
        return _read(dataset)
    if len(dataset.cases) < FOLDS:
        raise BadInput(
            f"{dataset.folder} has {len(dataset.cases)} cases; {FOLDS} folds need at least "
            f"{FOLDS}.",
            help=f"Give it more cases, or a {SPLITS} that says the folds.",
            code="too-few-cases",
        )
    return [five_folds(dataset.case_names, fold) for fold in range(FOLDS)]


def five_folds(case_names: Sequence[str], fold: int | str, *, seed: int = 12345) -> Split:
    """Training and held-out cases of a fold, the same as nnU-Net's.

    nnU-Net sorts the names, shuffles their indices with numpy's RandomState(12345) and cuts them
    into five parts that differ by at most one case (scikit-learn's KFold). With fewer than five
    cases there are as many folds as cases.

    Args:
        case_names: all training cases.
        fold: 0 … 4, or "all": every case trains and none is held out.
        seed: of the shuffle.

    Returns:
        (training, held out), each sorted. None is held out for "all".

    Raises:
        BadInput: no such fold, or a single case.
    """
    names = sorted(case_names)
    if fold == "all":
        return tuple(names), ()
    folds = min(FOLDS, len(names))
    if folds < 2:
        raise BadInput(
            "The dataset has a single case, which cannot both train and validate.",
            help="Use --fold all.",
            code="too-few-cases",
        )
    number = _number(fold, folds, f"{len(names)} cases have")
    order = np.arange(len(names))
    np.random.RandomState(seed).shuffle(order)
    held_out = {int(i) for i in np.array_split(order, folds)[number]}
    training = tuple(name for i, name in enumerate(names) if i not in held_out)
    return training, tuple(names[i] for i in sorted(held_out))


def _number(fold: int | str, folds: int, who: str) -> int:
    try:
        number = int(fold)
    except ValueError:
        number = -1
    if not 0 <= number < folds:
        last = f"the folds 0 … {folds - 1}" if folds > 1 else "the fold 0"
        raise BadInput(f"There is no fold {fold}; {who} {last} and all.", code="no-such-fold")
    return number


def _read(dataset: Dataset) -> list[Split]:
    path = dataset.folder / SPLITS
    try:
        record = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise _bad(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(record, list) or not record:
        raise _bad(f"{path} holds no list of folds.")
    return [
        _fold(dataset, entry, f"Fold {number} of {path}") for number, entry in enumerate(record)
    ]


def _fold(dataset: Dataset, entry: object, which: str) -> Split:
    if not isinstance(entry, dict):
        raise _bad(f'{which} is not an object with "train" and "val".')
    parts = []
    for key in ("train", "val"):
        names = entry.get(key)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise _bad(f'"{key}" of {which[0].lower() + which[1:]} is not a list of case names.')
        if unknown := sorted(set(names) - set(dataset.case_names)):
            raise _bad(f"{which} names {unknown[0]}, which is no case in imagesTr.")
        parts.append(tuple(sorted(set(names))))
    training, held_out = parts
    if both := sorted(set(training) & set(held_out)):
        raise _bad(f"{which} has {both[0]} in both train and val.")
    if not training:
        raise _bad(f"{which} has no case that trains.")
    return training, held_out


def _bad(message: str) -> BadInput:
    return BadInput(
        message,
        help='It has to be a list of {"train": [names], "val": [names]}; correct it or take it '
        "away.",
        code="bad-splits",
    )
