"""The engine's warnings and errors for a person at the panel: whole texts by their code.

The engine speaks to somebody at a terminal, of options and files. Where a code has a text here, it
takes the place of the engine's; of other texts, sentences about a terminal are left out.
"""

import re

from E2ENetSegmentationLib.i18n import tr as _

_OPTION = re.compile(r"(?<![\w-])--([a-z][a-z-]*)")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
# What nobody at the panel has before them.
_TERMINAL = re.compile(
    r"(?<![\w-])--[a-z]|`|\bpip\b|\be2enet (?:segment|train|plan|export|models|runs|cross)"
    r"|\bTMPDIR\b|\bE2ENET_[A-Z]|\b(?:labels|images)T[rs]\b|\bINPUT\b|\bOUTPUT\b"
)


def spoken(code: str, message: str, help: str = "", names=None):
    """(message, help) of the engine for a person at the panel.

    Args:
        code: The engine's stable identifier.
        message: What is wrong.
        help: What would help.
        names: What the engine read -> what a person calls it.
    """
    message = _messages().get(code, message)
    help = _helps().get(code, help)
    for written, name in sorted((names or {}).items(), key=lambda entry: -len(entry[0])):
        message, help = message.replace(written, name), help.replace(written, name)
    kept = _kept(message) or _OPTION.sub(lambda match: match[1].replace("-", " "), message)
    return kept, _kept(help)


def plain(text: str) -> str:
    """What the engine wrote of a model, such as its README, without the engine's shorthand."""
    said = {
        "patches of training cases": _("cases it was trained on"),
        "patches of held-out cases": _("parts of held-out cases"),
    }
    for written, words in said.items():
        text = text.replace(written, words)
    return text


def _kept(text: str) -> str:
    """The sentences that are not about a terminal."""
    return " ".join(s for s in _SENTENCE.split(text) if not _TERMINAL.search(s))


def _messages() -> dict:
    """Whole sentences by their code."""
    missing = _("A Python package that this needs is not installed.")
    return {
        "bad-roi": _("The region cannot be used."),
        "diverged": _("The training became unstable and was stopped."),
        "half-precision": _("The graphics card computes with full precision, which takes longer."),
        "licence-replaced": _("Licence or citation of the base model are replaced by new ones."),
        "location-unsure": _(
            "The structure was found with little certainty: look at the result, or put a region "
            "around it with Place box and segment again."
        ),
        "missing-extra": missing,
        "needs-monai": missing,
        "no-fusion": _("Training removed no connections of this model: there is no flow to show."),
        "no-held-out-cases": _(
            "No case is held out: the Dice shown is that of cases it learns from, new ones will "
            "have less."
        ),
        "no-torch": missing,
        "re-initialised": _("A part of the base model does not fit and is learnt anew."),
        "roi-outside": _("The region lies outside the volume."),
        "slow-runtime": _("The fast computation does not run on this computer: it takes longer."),
        "step-left-out": _("One step of the training gave no numbers and was left out."),
    }


def _helps() -> dict:
    """What helps, by the code."""
    region = _(
        "Put a region around the structure with Place box, or take a volume that shows all of it."
    )
    again = _("Install the model again in the tab Models.")
    anew = _("Discard this training and start it again.")
    space = _("Free some disk space, or choose another temporary folder in Slicer's settings.")
    repair = _("Install the packages with PyTorch again, under Advanced.")
    labels = _("See whether the segmentations lie where the structures are.")
    return {
        "bad-locator": again,
        "bad-roi": _("Place the region again."),
        "channel-count": _("Choose one volume a channel of the model."),
        "damaged-cache": anew,
        "damaged-checkpoint": anew,
        "damaged-model": again,
        "damaged-run": anew,
        "disk-full": space,
        "diverged": _("Start again with a lower learning rate, under Advanced."),
        "exists": _("Choose another name."),
        "long-training": _("Fewer epochs or a graphics card shorten it."),
        "missing-extra": repair,
        "needs-monai": repair,
        "no-device": _("Choose CPU as the device, under Advanced."),
        "no-foreground": labels,
        "no-fusion": _("Name an image: then it is shown what the model reads there."),
        "no-torch": repair,
        "not-located": region,
        "other-settings": anew,
        "out-of-memory": _("Close other programs and try again, or take the CPU."),
        "output-not-writable": _("See whether the disk has space and may be written."),
        "roi-outside": _("Move the region, place it again, or choose none."),
        "run-exists": _("Choose another name, or resume or discard the training that is there."),
        "too-little-memory": _("Close other programs, or train on a computer with more memory."),
    }
