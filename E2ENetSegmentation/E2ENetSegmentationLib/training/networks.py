"""Which networks a training can have: any from scratch, those a model of slices can become."""

from dataclasses import dataclass

from E2ENetSegmentationLib.i18n import tr as _


@dataclass(frozen=True)
class Choice:
    """One network.

    Attributes:
        text: For a person.
        network: Of `e2enet train`, from scratch.
        transfer: What `e2enet transfer` makes of the model to start from, or "" to keep it.
    """

    text: str
    network: str = "e2enet"
    transfer: str = ""


def choices(base) -> list:
    """What can be chosen; a model of volumes keeps its network.

    Args:
        base: The `Model` to start from, or None.
    """
    if base is None:
        return [
            Choice(_("E2ENet (volumes, sparse)")),
            Choice(_("Omnia-Net (slice by slice)"), "omnia"),
            Choice(_("DS-Net (many slices; costs most)"), "ds"),
            Choice(_("DX-Net (volumes, dense)"), "dx"),
        ]
    kept = Choice(_("As it is"))
    if not learntOnSlices(base):
        return [kept]
    found = [kept, Choice(_("To volumes: E2ENet"), transfer="e2enet")]
    if base.content["network"]["kind"] != "E2ENet":  # it has no encoder that these could take
        found += [
            Choice(_("To volumes: DS-Net"), transfer="ds"),
            Choice(_("To volumes: DX-Net"), transfer="dx"),
        ]
    return found


def learntOnSlices(base) -> bool:
    """Whether a model has learnt on the slices of volumes, whose distance it therefore knows."""
    plan, network = base.content["plan"], base.content["network"]
    try:
        neighbours = int(network["arguments"].get("input_slices", 1)) > 1
        return (plan["patch"][0] == 1 or neighbours) and not plan.get("flat", False)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return False  # a damaged model; the engine says what is wrong with it
