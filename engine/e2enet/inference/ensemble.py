"""Several models that answer together: which ones they are, and whether they fit each other.

A folder with `ensemble.json`, as `e2enet cross-validate` leaves it, names its bundles and the
structures of which only the largest part is kept, each as its label values, in this order:
`{"models": ["fold_0", …], "keep_largest": [[1, 2], [1]]}`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2enet.bundle import Bundle
from e2enet.data.planning.plan import Plan
from e2enet.events import BadInput

ENSEMBLE = "ensemble.json"
PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Ensemble:
    """One model or several.

    Args:
        bundles: at least one; the first one's labels and plan hold for all.
        keep_largest: structures, each as its label values, of which only the largest connected
            part is kept.
    """

    bundles: tuple[Bundle, ...]
    keep_largest: tuple[tuple[int, ...], ...] = ()


def open_models(given: PathLike | Bundle | Sequence[PathLike | Bundle]) -> Ensemble:
    """Open a model, several, or a folder with `ensemble.json`.

    Raises:
        BadInput: there is no such model, or they have other labels, plans or locators.
    """
    several = isinstance(given, Sequence) and not isinstance(given, str)
    listed: list[Any] = list(given) if several else [given]  # type: ignore[arg-type]
    if not listed:
        raise BadInput("No model is given.", code="no-model")
    keep: tuple[tuple[int, ...], ...] = ()
    if len(listed) == 1 and not isinstance(listed[0], Bundle):
        folder = Path(listed[0])
        if (folder / ENSEMBLE).is_file():
            names, keep = _read(folder / ENSEMBLE)
            listed = [folder / name for name in names]
    elif len(listed) > 1:
        _check_single(listed)
    bundles = tuple(one if isinstance(one, Bundle) else Bundle.open(one) for one in listed)
    for other in bundles[1:]:
        _check_alike(bundles[0], other)
    named = {value for values in keep for value in values}
    if unknown := sorted(named - {label.value for label in bundles[0].labels}):
        raise _damaged(folder / ENSEMBLE, f"the model has no label {unknown[0]}")
    return Ensemble(bundles, keep)


def _check_single(listed: Sequence[Any]) -> None:
    for one in listed:
        if not isinstance(one, Bundle) and (Path(one) / ENSEMBLE).is_file():
            raise BadInput(
                f"{one} is a cross-validation, which answers as one model by itself.",
                help="Give it alone, or name the folds of all.",
                code="models-differ",
            )


def _read(path: Path) -> tuple[list[str], tuple[tuple[int, ...], ...]]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        # A number alone is a label by itself, as it was written before there were regions.
        names = record["models"]
        keep = [[one] if isinstance(one, int) else one for one in record["keep_largest"]]
        if not names or not all(isinstance(name, str) for name in names):
            raise ValueError('"models" is no list of names')
        if not all(values and all(isinstance(value, int) for value in values) for values in keep):
            raise ValueError('"keep_largest" is no list of labels')
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, str(error)) from error
    return names, tuple(tuple(values) for values in keep)


def _check_alike(first: Bundle, other: Bundle) -> None:
    """What is prepared for one has to be right for the other."""

    def seen(bundle: Bundle) -> dict[str, Any]:
        plan = Plan.from_dict(bundle.plan)
        return {
            "labels": [(label.value, label.name, label.values) for label in bundle.labels],
            "channels": [(c.name, c.normalisation, c.lower, c.upper, c.mean, c.std)
                         for c in plan.channels],
            "spacing": plan.spacing,
            "orientation": plan.transpose,
            "patch": plan.patch,
            "sides": (plan.left_right_axis, plan.left_right_pairs),
            "locator": bundle.locator,
        }  # fmt: skip

    ours, theirs = seen(first), seen(other)
    for name, value in ours.items():
        if value != theirs[name]:
            raise BadInput(
                f"The models {first.name} ({first.path}) and {other.name} ({other.path}) do not go "
                f"together: their {name} differ.",
                help="Average models that were trained with one plan, such as the folds of a "
                "cross-validation.",
                code="models-differ",
            )


def _damaged(path: Path, reason: str) -> BadInput:
    return BadInput(
        f"{path} is damaged: {reason}.",
        help="Make it again with e2enet cross-validate.",
        code="damaged-model",
    )
