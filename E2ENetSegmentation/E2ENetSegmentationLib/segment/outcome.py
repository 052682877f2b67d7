"""What a person reads about a result: doubts first, then what to do about them."""

from E2ENetSegmentationLib.i18n import tr as _

IN_THE_ROWS = ("unusual-volume", "nothing-found")  # warnings of the engine that are told here


def headline(result) -> str:
    """The sentences below the button."""
    name, volume = result.segmentationNode.GetName(), result.volumeNode.GetName()
    if result.empty:
        parts = [_("Nothing was found in {volume}.").format(volume=volume), _remedy()]
    elif result.doubtful:
        text = _("Check {name} before use: {n} of {total} volumes are far from any in training.")
        parts = [
            text.format(name=name, n=len(result.doubtful), total=len(result.rows)),
            _("Look at it in the slices, or correct it in Segment Editor. If it is wrong:"),
            _remedy(),
        ]
    else:
        parts = [_("Done: {name}.").format(name=name)]
    return " ".join([*parts, *dict.fromkeys(result.warnings)])


def _remedy() -> str:
    return _(
        "See whether the volume is what the model is for, and put a region around the structure "
        "with Place before you segment again."
    )


def cells(rows, prefix: str = "") -> list:
    """Texts of the table's columns: segment, volume, usual volume."""
    return [
        (
            ("⚠ " if row.unusual else "") + prefix + row.name,
            f"{row.millilitres:.2f}",
            "{:.2f} – {:.2f}".format(*row.usual) if row.usual else "",
        )
        for row in rows
    ]
