"""The lattice of a model, read without torch: its fused nodes and what each takes in."""

import functools
import math

from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.models.store import Model
from E2ENetSegmentationLib.refusal import Refused

DIRECTIONS = ("forward", "upward", "downward")  # of the engine, in its order
# Okabe and Ito's colours, those of the engine's figures.
COLORS = {
    "forward": (0.0, 0.620, 0.451),
    "upward": (0.835, 0.369, 0.0),
    "downward": (0.0, 0.447, 0.698),
}
DOMINANT, COMPARE = "dominant", "compare"


def stridesOf(model: Model) -> list:
    """By how much each level of the model's lattice is coarser than the one above: (D, H, W).

    Raises:
        Refused: The bundle does not say.
    """
    content = model.content
    for place in ((content.get("network") or {}).get("arguments"), content.get("plan")):
        strides = (place or {}).get("strides") if isinstance(place, dict) else None
        if isinstance(strides, list) and strides:
            return strides
    raise Refused(_("{model} does not say how many levels it has.").format(model=model.title))


def nodesOf(model: Model) -> dict:
    """(stage, level) of every fused node, by stage, then level, and where its input comes from.

    Raises:
        Refused: The bundle does not say.
    """
    bundle = paths.engineModule("bundle").Bundle(model.path, model.content)
    try:
        nodes = paths.engineModule("explain.nodes").nodes_of(bundle)
    except (KeyError, TypeError) as error:
        raise Refused(
            _("{model} does not say how many levels it has.").format(model=model.title)
        ) from error
    return {(node.stage, node.level): tuple(directions) for node, directions in nodes.items()}


def nodeName(node) -> str:
    """ "1:0" for stage 1, level 0."""
    return f"{node[0]}:{node[1]}"


def nodeTitle(node) -> str:
    """The node in words."""
    return _("stage {stage}, level {level}").format(stage=node[0], level=node[1])


def describe(model: Model, node) -> str:
    """One line about a node: its scale, and what it takes in."""
    stage, level = node
    factors = [math.prod(axis) for axis in zip(*stridesOf(model)[:level], strict=True)]
    if not level:
        scale = _("full resolution")
    elif (model.content.get("network") or {}).get("kind") == "DSNet":
        scale = _("coarser along depth")
    elif len(set(factors)) == 1:
        scale = _("{n} × coarser").format(n=factors[0])
    else:
        scale = _("{n} coarser (depth × height × width)").format(n=" × ".join(map(str, factors)))
    if "downward" in nodesOf(model)[tuple(node)]:
        taken = _("It reads the same, the coarser and the finer scale.")
    else:
        taken = _("It reads the same and the coarser scale.")
    return _("Stage {stage}, level {level}: {scale}. {taken}").format(
        stage=stage, level=level, scale=scale, taken=taken
    )


def directionName(direction: str) -> str:
    """A direction, or what else can be shown, for a person."""
    names = {
        "forward": _("Same scale"),
        "upward": _("Coarser scale"),
        "downward": _("Finer scale"),
        DOMINANT: _("Strongest scale"),
        COMPARE: _("All scales"),
    }
    return names[direction]


def flowOf(model: Model) -> dict:
    """What the training wrote down of a model's connections, as in the engine's flow.json.

    It stands in the bundle: nothing is computed, and nothing has to be installed.

    Raises:
        Refused: There is nothing, or it is damaged.
    """
    try:
        bundle = paths.engineModule("bundle").Bundle.open(model.path)
        flow = paths.engineModule("explain.flow").recorded_flow(bundle).to_dict()
    except paths.engineModule("events").BadInput as error:
        raise Refused(
            _("The record of {model} is damaged.").format(model=model.title),
            _("Install the model again in the tab Models."),
        ) from error
    if not any(record["nodes"] for record in flow["records"]):
        raise Refused(
            _("{model} carries no record of its training that could be drawn.").format(
                model=model.title
            )
        )
    return flow


def identityOf(model: Model) -> str:
    """The model by its name and its weights, so that one that was trained again is another one.

    Raises:
        Refused: Its weights are not there.
    """
    bundle = paths.engineModule("bundle")
    try:
        stat = (model.path / bundle.WEIGHTS).stat()
        return f"{model.name}@{_weights(model.path, stat.st_mtime_ns, stat.st_size)[:16]}"
    except (OSError, paths.engineModule("events").BadInput) as error:
        raise Refused(_("The weights of {model} are missing.").format(model=model.title)) from error


@functools.lru_cache(maxsize=64)
def _weights(path, _time: int, _size: int) -> str:
    return paths.engineModule("bundle").Bundle.open(path).weights_sha256()
