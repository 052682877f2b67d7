"""What the engine says, and how a person reads it."""

import json
import re

from E2ENetSegmentationLib.i18n import tr as _

_OPTION = re.compile(r"(^|[\s(])--[a-z]|`e2enet ")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


class EventReader:
    """Turns the engine's standard output into events; a line may arrive in pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes):
        """Events (dicts with "event") and other lines that are complete by now."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        events, other = [], []
        for line in lines:
            text = line.decode("utf-8", "replace").strip()
            event = _parsed(text)
            if event is not None:
                events.append(event)
            elif text:
                other.append(text)
        return events, other


def _parsed(text: str):
    if not text.startswith("{"):
        return None
    try:
        event = json.loads(text)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def stageName(stage: str) -> str:
    """A stage of the engine in the user's language; an unknown one as it is."""
    names = {
        "catalogue": _("Reading the list of models"),
        "download": _("Downloading"),
        "read": _("Reading"),
        "locate": _("Locating"),
        "preprocess": _("Preprocessing"),
        "preprocessing": _("Preprocessing"),
        "fingerprint": _("Analysing the data"),
        "inference": _("Segmenting"),
        "segment": _("Segmenting"),
        "training": _("Training"),
        "train": _("Training"),
        "epoch": _("Training"),
        "validation": _("Validating"),
        "write": _("Writing"),
        "upload": _("Sending"),
        "waiting": _("Waiting for the server"),
        "importance": _("Explaining"),
        "figures": _("Writing"),
    }
    return names.get(stage, stage.replace("-", " ").replace("_", " ").capitalize())


def progressText(event: dict) -> str:
    """One line: the stage and, once it is known, the remaining time."""
    text = stageName(str(event.get("stage", "")))
    remaining = event.get("eta_s")
    if isinstance(remaining, (int, float)) and event.get("done", 0) < event.get("total", 0):
        return _("{stage}, {time} left").format(stage=text, time=durationText(remaining))
    return text


def progressPercent(event: dict) -> int:
    """0 to 100 of the event's stage."""
    total = event.get("total") or 0
    return max(0, min(100, round(100 * event.get("done", 0) / total))) if total > 0 else 0


def durationText(seconds: float) -> str:
    """Seconds, minutes or hours, whatever a person would say."""
    seconds = max(0, int(seconds + 0.5))
    if seconds < 60:
        return _("{n} s").format(n=seconds)
    if seconds < 3600:
        return _("{n} min").format(n=round(seconds / 60))
    hours, minutes = divmod(round(seconds / 60), 60)
    return _("{h} h {m} min").format(h=hours, m=minutes)


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
