"""What a person reads about a result: doubts first, then what to do about them."""

from E2ENetSegmentationLib.i18n import tr as _


def headline(result) -> str:
    """The sentences below the button."""
    name, volume = result.segmentationNode.GetName(), result.volumeNode.GetName()
    if result.empty:
        parts = [_("Nothing was found in {volume}.").format(volume=volume), _remedy()]
    elif result.doubt:
        parts = [
            result.doubt,
            _("{name} can be corrected in Segment Editor. If it is wrong:").format(name=name),
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
            ("⚠ " if row.doubtful else "") + prefix + row.name,
            f"{row.millilitres:.2f}",
            "{:.2f} – {:.2f}".format(*row.usual) if row.usual else "",
        )
        for row in rows
    ]
