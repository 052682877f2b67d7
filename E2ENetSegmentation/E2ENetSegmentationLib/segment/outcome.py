"""What a person reads about a result: doubts first, then what to do about them."""

from E2ENetSegmentationLib.engine.events import durationText
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


def headlineOfSeveral(results, failed) -> str:
    """What came of several volumes: those that failed first, then those to look at.

    Args:
        failed: (name, sentence) of each that came to nothing.
    """
    parts = []
    if failed:
        text = _("{n} of {total} volumes could not be segmented.")
        parts.append(text.format(n=len(failed), total=len(failed) + len(results)))
        parts += [f"{name}: {sentence}" for name, sentence in failed]
    doubtful = [result.title for result in results if result.doubt or result.empty]
    if doubtful:
        parts.append(_("Look at {names} before use.").format(names=", ".join(doubtful)))
    if results:
        text = _("Done: {count} volumes.") if len(results) > 1 else _("Done: 1 volume.")
        parts.append(text.format(count=len(results)))
    warnings = [warning for result in results for warning in result.warnings]
    return " ".join([*parts, *dict.fromkeys(warnings)])


def headlineOfFolder(result) -> str:
    """What came of a folder, and where it lies."""
    if not result.cases:
        return headlineOfSeveral([], result.failed)
    where = _("The results lie in {folder}.").format(folder=result.output)
    return " ".join([headlineOfSeveral(result.cases, result.failed), where])


def summary(result, model: str) -> str:
    """One line for the log: what was done, on which device, how long, with which versions."""
    record = result.record
    versions = [f"{name} {text}" for name, text in (record.get("versions") or {}).items() if text]
    device = record.get("device") or {}
    parts = [
        f"{result.title}: {model}",
        str(device.get("name") or device.get("used") or ""),
        durationText(record["seconds"]) if "seconds" in record else "",
        ", ".join(versions),
    ]
    return "; ".join(part for part in parts if part)


def _remedy() -> str:
    return _(
        "See whether the volume is what the model is for, and put a region around the structure "
        "with Place box before you segment again."
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
