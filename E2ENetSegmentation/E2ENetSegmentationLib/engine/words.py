"""The engine's sentences as the panel says them: buttons for options, names for files."""

import re

from E2ENetSegmentationLib.i18n import tr as _

_OPTION = re.compile(r"(^|[\s(])--[a-z]")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def _helps() -> dict:
    """What helps by the error's code, where the engine's advice is for a terminal."""
    region = _(
        "Put a region around the structure with Place, or take a volume that shows all of it."
    )
    device = _("Choose CPU as the device, under Advanced.")
    again = _("Install the model again in the tab Models.")
    name = _("Choose another name, or resume or discard the training that is there.")
    return {
        "not-located": region,
        "roi-outside": _("Move the region, place it again, or choose none."),
        "bad-roi": _("Place the region again."),
        "no-device": device,
        "bad-locator": again,
        "damaged-model": again,
        "channel-count": _("Choose one volume a channel of the model."),
        "run-exists": name,
        "diverged": _("Start again with a lower learning rate, under Advanced."),
        "damaged-checkpoint": _("Discard this training and start it again."),
        "other-settings": _("Discard this training and start it again."),
    }


def _warnings() -> dict:
    """Whole warnings by their code."""
    return {
        "location-unsure": _(
            "The structure was found with little certainty: look at the result, or put a region "
            "around it with Place and segment again."
        ),
    }


def spoken(code: str, message: str, help: str = "", names=None):
    """(message, help) of the engine for a person at the panel.

    Args:
        code: The engine's stable identifier.
        message: What is wrong.
        help: What would help.
        names: What the engine read -> what a person calls it.
    """
    message = _warnings().get(code, message)
    help = _helps().get(code, help)
    for written, name in sorted((names or {}).items(), key=lambda entry: -len(entry[0])):
        message, help = message.replace(written, name), help.replace(written, name)
    return message, " ".join(s for s in _SENTENCE.split(help) if not _OPTION.search(s))
