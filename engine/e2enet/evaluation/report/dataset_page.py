"""A dataset's check as a page: what was found, with a picture of each case it was found in."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

import numpy as np

from e2enet.data.axes import times
from e2enet.data.datasets.checking import Checked
from e2enet.data.datasets.raw import read_case
from e2enet.data.images.orientation import to_canonical
from e2enet.evaluation.report import figures
from e2enet.evaluation.report.folder import new_folder
from e2enet.evaluation.report.html import document, figure, table
from e2enet.events import Reporter

_PICTURES = 12


def write_check(folder: Path, found: Checked, reporter: Reporter | None = None) -> None:
    """Write check.json and report.html into a new folder.

    Args:
        folder: made; nothing is left of it when something fails.
        found: the check; the cases that are shown are read again, one at a time.
        reporter: gets progress as stage "report".

    Raises:
        BadInput: the folder exists or cannot be written.
    """
    with new_folder(folder) as temporary:
        text = json.dumps(found.to_dict(), indent=1, ensure_ascii=False) + "\n"
        (temporary / "check.json").write_text(text, encoding="utf-8")
        page = _page(found, reporter or Reporter())
        (temporary / "report.html").write_text(page, encoding="utf-8")


def _page(found: Checked, reporter: Reporter) -> str:
    dataset = found.dataset
    title = f"{escape(dataset.name)}: {len(dataset.cases)} cases"
    doubts = len(found.findings) - len(found.errors)
    labels = ", ".join(escape(name) for name, value in dataset.labels.items() if value)
    parts = [
        f"<h1>{title}</h1>",
        f'<p class="faint">{len(found.errors)} errors and {doubts} doubts. '
        f"Channels: {escape(', '.join(dataset.channel_names))}. Labels: {labels}.</p>",
        "<h2>What was found</h2>",
        _findings(found),
        _gallery(found, reporter),
        "<h2>Every case</h2>",
        _cases(found),
    ]
    return document(title, parts)


def _findings(found: Checked) -> str:
    if not found.findings:
        return "<p>Nothing.</p>"
    rows = [
        f"<tr><td>{one.severity}</td><td>{escape(one.case)}</td><td>{escape(one.message)}</td></tr>"
        for one in found.findings
    ]
    return table(["", "Case", ""], rows, words=3)


def _gallery(found: Checked, reporter: Reporter) -> str:
    """The readable cases that something was found in; the first ones where there are none."""
    odd = {finding.case for finding in found.findings}
    names = [case.name for case in found.cases if case.name in odd]
    heading = "Cases with a doubt"
    if not names:
        names, heading = [case.name for case in found.cases], "The first cases"
    names = names[:_PICTURES]
    shown = []
    by_name = {case.name: case for case in found.dataset.cases}
    for number, name in enumerate(names):
        reporter.progress("report", number, len(names))
        volumes, label = read_case(found.dataset, by_name[name])
        assert label is not None
        image, classes = to_canonical(volumes[0])[0], to_canonical(label)[0]
        picture = figures.labelled(image.array, classes.array, image.grid.spacing_zyx)
        shown.append(figure(picture, escape(name)))
    reporter.progress("report", len(names), len(names))
    if not shown:
        return ""
    return f'<h2>{heading}</h2>\n<div class="worst">\n' + "\n".join(shown) + "\n</div>"


def _cases(found: Checked) -> str:
    names = {value: name for name, value in found.dataset.labels.items() if value}
    rows = []
    for case in found.cases:
        ml = float(np.prod(case.spacing)) / 1000
        volumes = "".join(
            f'<td class="n">{case.voxels.get(value, 0) * ml:.3g}</td>' for value in names
        )
        intensities = "".join(
            f'<td class="n">{middle:.3g}</td><td class="n">{spread:.3g}</td>'
            for middle, spread in zip(case.medians, case.spreads, strict=True)
        )
        spacing = times([round(step, 3) for step in case.spacing])
        rows.append(
            f'<tr><td>{escape(case.name)}</td><td class="n">{times(case.size)}</td>'
            f'<td class="n">{spacing}</td>{intensities}{volumes}</tr>'
        )
    heads = ["Case", "Voxels<br>z×y×x", "Spacing<br>mm"]
    for channel in found.dataset.channel_names:
        heads += [f"{escape(channel)}<br>median", "<br>1–99 %"]
    return table([*heads, *(f"{escape(name)}<br>mL" for name in names.values())], rows)
