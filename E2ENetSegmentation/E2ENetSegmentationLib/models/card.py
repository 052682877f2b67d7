"""What a person reads of a model: picture, size, licence, figures on unseen cases."""

import re

from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.words import plain

PICTURE = re.compile(r"^!\[[^\]]*\]\([^)]*\)\s*$", re.MULTILINE)


def details(model) -> str:
    """The lines below the picture."""
    lines = [*model.summary(), _("Size: {n:.1f} MB").format(n=model.megabytes)]
    lines.append(_("Segments: {names}").format(names=", ".join(n.name for n in model.labels)))
    lines += model.results()
    if model.metrics() and not model.results():
        lines.append(_("Figures: {figures}").format(figures=model.metrics()))
    if model.content.get("attribution"):
        lines.append(str(model.content["attribution"]))
    if model.content.get("citation"):
        lines.append(_("Cite: {text}").format(text=model.content["citation"]))
    return "\n".join(lines)


def pictureStyle(path) -> str:
    """A label's style that shows a picture whole, as large as the label is, whatever its size."""
    name = path.as_posix().replace('"', '\\"')
    return f'image: url("{name}"); image-position: top left;'


def readme(text: str) -> str:
    """A model's README for a person, without its picture, which the card shows already."""
    return plain(PICTURE.sub("", text))
