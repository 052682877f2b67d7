"""What the engine says, and how a person reads it."""

import json

from E2ENetSegmentationLib.i18n import tr as _


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


def stageName(stage: str, device: str = "") -> str:
    """A stage of the engine in the user's language, and on what; an unknown one as it is."""
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
    text = names.get(stage, stage.replace("-", " ").replace("_", " ").capitalize())
    return _("{stage} on {device}").format(stage=text, device=device) if device else text


def deviceOf(event: dict) -> str:
    """What computes, where the event tells; "" otherwise."""
    tells = event["event"] == "metric" and event.get("name") in ("device", "summary")
    return str(event.get("device") or "") if tells else ""


def progressText(event: dict, device: str = "") -> str:
    """One line: the stage, on what, and the remaining time, as far as they are known."""
    text = stageName(str(event.get("stage", "")), device)
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
