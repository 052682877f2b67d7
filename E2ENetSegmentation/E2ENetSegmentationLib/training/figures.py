"""Loss and Dice of a training in numbers, and what they were measured on."""

from E2ENetSegmentationLib.i18n import tr as _


def figureRows(training) -> list:
    """Rows (figure, last, best) for a table; none before the first epoch is over."""
    rows = training.rows
    if not rows:
        return []
    figures = [(_("Loss"), [row.get("loss") for row in rows], min)]
    for label in rows[-1].get("dice") or {}:
        values = [(row.get("dice") or {}).get(label) for row in rows]
        figures.append((_("Dice {label}").format(label=label), values, max))
    table = []
    for name, values, best in figures:
        known = [value for value in values if value is not None]
        table.append((name, number(values[-1]), number(best(known) if known else None)))
    for label, value in training.figures.items():
        table.append((_("Dice {label}, whole cases").format(label=label), number(value), ""))
    return table


def measuredOn(training) -> str:
    """One sentence about the Dice in the table."""
    if training.holdsOut:
        return _("Dice of the held-out cases:")
    return _("No case is held out: this is the Dice of training cases, new ones will have less.")


def number(value) -> str:
    """A figure as a person reads it."""
    return "–" if value is None else f"{value:.3f}"
