"""An evaluation as one page, with every picture inside it: no network, no other file."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

import numpy as np

from e2enet.data.images.orientation import to_canonical
from e2enet.data.images.volume import read_image
from e2enet.evaluation.evaluate import Evaluation, Interval, read_pair
from e2enet.evaluation.metrics.measures import CONVENTIONS, METRICS
from e2enet.evaluation.pairs import Pair, label_files
from e2enet.evaluation.report import figures
from e2enet.evaluation.report.folder import new_folder
from e2enet.evaluation.report.html import document, figure, table
from e2enet.evaluation.report.tables import write_tables
from e2enet.events import BadInput, Reporter

WORST = 6


def write_report(folder: Path, found: Evaluation, reporter: Reporter | None = None) -> None:
    """Write metrics.json, summary.json, metrics.csv and report.html into a new folder.

    Args:
        folder: made; nothing is left of it when something fails.
        found: what was measured; the worst cases are read again, one at a time.
        reporter: gets progress as stage "report".

    Raises:
        BadInput: the folder exists or cannot be written.
    """
    with new_folder(folder) as temporary:
        write_tables(temporary, found)
        page = _page(found, reporter or Reporter())
        (temporary / "report.html").write_text(page, encoding="utf-8")


def _page(found: Evaluation, reporter: Reporter) -> str:
    count = len(found.cases)
    title = f"{count} case{'s' if count != 1 else ''}, Dice {_number(found.mean())}"
    parts = [
        f"<h1>{title}</h1>",
        f'<p class="faint">Predictions: {escape(str(found.pairs[0].prediction.parent))}<br>'
        f"References: {escape(str(found.pairs[0].reference.parent))}</p>",
        "<h2>Means</h2>",
        _means(found),
        "<h2>Distribution over the cases</h2>",
        figure(figures.box_plots(found), "Box: quartiles and median; whiskers: 1.5 times the "
                "box; each dot is a case."),
        "<h2>Volume against Dice</h2>",
        figure(figures.volume_against_dice(found), "Small structures lose more Dice to the same "
                "error at their surface."),
        _worst(found, reporter),
        "<h2>Every case</h2>",
        _cases(found),
        "<h2>What was computed</h2>",
        _definitions(found),
    ]  # fmt: skip
    return document(title, parts)


def _means(found: Evaluation) -> str:
    by_metric = {metric: found.intervals(metric) for metric in METRICS}
    rows = []
    for name in (*found.names, None):
        cells = "".join(f'<td class="n">{_spread(by_metric[m][name])}</td>' for m in METRICS)
        mark = ' class="all"' if name is None else ""
        rows.append(f"<tr{mark}><td>{escape(name or 'Mean')}</td>{cells}</tr>")
    return table(["", *(_headed(metric) for metric in METRICS)], rows) + (
        '<p class="faint">Below each mean its 95 % interval over the cases.</p>'
    )


def _worst(found: Evaluation, reporter: Reporter) -> str:
    scores = [
        (measured.values["Dice"], pair, name)
        for pair in found.pairs
        for name, measured in found.cases[pair.case].items()
        if not math.isnan(measured.values["Dice"])
    ]
    worst = sorted(scores, key=lambda entry: entry[0])[:WORST]
    if not worst:
        return ""
    shown = []
    for number, (score, pair, name) in enumerate(worst):
        reporter.progress("report", number, len(worst))
        # Seen as radiologists see it, however the file stores its axes.
        prediction, reference = (
            to_canonical(volume)[0] for volume in read_pair(pair, found.structures)[:2]
        )
        values = found.structures.values[name]
        picture = figures.disagreement(
            np.isin(prediction.array, values),
            np.isin(reference.array, values),
            reference.grid.spacing_zyx,
            _image(pair, reference.array.shape),
        )
        caption = f"{escape(pair.case)}, {escape(name)}: Dice {score:.3f}"
        shown.append(figure(picture, caption))
    reporter.progress("report", len(worst), len(worst))
    keys = "".join(
        f'<span class="key" style="background:{color}"></span>{word}'
        for word, color in (("reference", figures.REFERENCE), ("prediction", figures.PREDICTION))
    )
    return (
        f'<h2>The lowest Dice</h2>\n<p class="faint">Each on the slice where both disagree most.'
        f'{keys}</p>\n<div class="worst">\n' + "\n".join(shown) + "\n</div>"
    )


def _image(pair: Pair, shape: tuple[int, ...]) -> np.ndarray | None:
    """The case's first channel in nnU-Net's raw layout: imagesTr beside labelsTr."""
    folder = pair.reference.parent
    images = folder.with_name(folder.name.replace("labels", "images", 1))
    if images == folder or not images.is_dir():
        return None
    try:
        path = label_files(images).get(f"{pair.case}_0000")
        array = to_canonical(read_image(path))[0].array if path is not None else None
    except BadInput:  # a picture without its image still shows both outlines
        return None
    return array if array is not None and array.shape == shape else None


def _cases(found: Evaluation) -> str:
    rows = []
    for case, structures in found.cases.items():
        for number, (name, one) in enumerate(structures.items()):
            cells = "".join(f'<td class="n">{_number(one.values[m])}</td>' for m in METRICS)
            volume = f'<td class="n">{_number(one.reference_ml)}</td>'
            first = escape(case) if number == 0 else ""
            rows.append(f"<tr><td>{first}</td><td>{escape(name)}</td>{cells}{volume}</tr>")
    heads = ["Case", "Structure", *(_headed(metric) for metric in METRICS), "Volume<br>mL"]
    return table(heads, rows, words=2)


def _definitions(found: Evaluation) -> str:
    rows = [
        f"<tr><td>{key}</td><td>{escape(metric.name)}{f' ({metric.unit})' if metric.unit else ''}"
        f"</td><td>{escape(metric.definition)}</td></tr>"
        for key, metric in METRICS.items()
    ]
    tolerances = ", ".join(f"{escape(n)} {t:g} mm" for n, t in found.tolerances.items())
    points = "".join(f"<li>{escape(sentence)}</li>" for sentence in CONVENTIONS)
    return (
        table(["", "Metric", "Definition"], rows, words=3)
        + f"<ul><li>Tolerance of the NSD: {tolerances}.</li>{points}</ul>"
    )


def _headed(metric: str) -> str:
    unit = METRICS[metric].unit
    return f"{metric}<br><small>{unit or '&nbsp;'}</small>"


def _spread(interval: Interval) -> str:
    if math.isnan(interval.low):
        return _number(interval.mean)
    low, high = _number(interval.low), _number(interval.high)
    return f"{_number(interval.mean)}<br><small>{low} – {high}</small>"


def _number(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
