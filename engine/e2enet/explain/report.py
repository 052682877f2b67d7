"""One page that says what was found, with every picture inside it: no network, no other file."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from e2enet.explain.flow import Flow
from e2enet.explain.nodes import COLORS, DIRECTIONS

_STYLE = """
:root { color-scheme: light; --ink: #1d2430; --faint: #5d6673; --line: #dfe3e8; }
body { margin: 0 auto; max-width: 70rem; padding: 2rem 1.5rem 4rem; color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; background: #fff; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; padding-top: 1.2rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
p, ul { max-width: 46rem; } .faint, figcaption, caption { color: var(--faint); font-size: .9rem; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; display: block; }
figcaption { margin-top: .4rem; max-width: 46rem; }
.dark img { border-radius: 6px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; margin: .8rem 0; }
caption { text-align: left; padding-bottom: .3rem; }
th, td { padding: .3rem .8rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line); }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.bar { display: flex; width: 12rem; height: .8rem; border-radius: 2px; overflow: hidden; }
.bar i { display: block; height: 100%; }
.key { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px;
  margin: 0 .35rem 0 0; vertical-align: -1px; }
.key + span { margin-right: 1.1rem; }
.half img { max-width: 36rem; width: 100%; }
.keys span.pair { white-space: nowrap; display: inline-block; }
.warn { background: #fff6df; padding: .5rem .8rem; border-radius: 4px; max-width: 46rem; }
@media print { body { max-width: none; padding: 0; } h2 { break-after: avoid; }
  figure, table { break-inside: avoid; } }
"""

_RULES = {
    "importance-high": "the most important where the model finds structures",
    "importance-low": "the least important there",
    "image-high": "the most important over the whole image",
    "centred-high": "the most important where it finds structures, constants left out",
    "gradient-high": "the largest first-order effect on the labels",
    "l1-high": "the largest kernels, image not looked at",
    "random": "drawn at random",
}


_E2ENET = "Wu et al., E2ENet, arXiv 2312.04727 (NeurIPS 2024)."
_TRANSFER = "Messaoudi et al., Cross-dimensional transfer learning, Medical Image Analysis 2023."
_LATTICE = """An E2ENet is a lattice of nodes. Each node fuses up to three inputs, and training
decides which single connections of each input stay alive. So one can read off the model how much
every node takes from which scale, and measure on an image where it does."""
_DECODER = """The decoder of a U-Net is a chain of nodes. Each joins the encoder's maps of its own
level, by the skip, with what comes from the coarser level. All connections are alive, so that there
is no fusion flow to read off the model; how much every node takes from which side is measured on an
image."""


def write_report(folder: Path, index: Mapping[str, Any], flow: Flow | None) -> None:
    """Write report.html.

    Args:
        folder: Where the index's files lie.
        index: As explain.json.
        flow: The fusion flow; None for a network without DSFF.
    """
    parts = [_head(index)]
    if flow is not None:
        parts.append(_flow(folder, index, flow))
    if index["figures"]:
        parts.append(_importance(folder, index, with_label=False))
        if any(entry["label"] for entry in index["figures"]):
            parts.append(_importance(folder, index, with_label=True))
        parts.append(_shares(index))
        if index["scales"]:
            parts.append(_scales(index))
    if index["faithfulness"]:
        parts.append(_faithfulness(index["faithfulness"]))
    parts.append(_limits(index))
    title = escape(f"Fusion of {index['model']['title']}")
    page = (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )
    (folder / str(index["report"])).write_text(page, encoding="utf-8")


def _head(index: Mapping[str, Any]) -> str:
    model = index["model"]
    source = f"image <b>{escape(index['input']['case'])}</b>, " if index["input"] else ""
    notes = "".join(f'<p class="warn">{escape(w["message"])}</p>' for w in index["warnings"])
    keys = "".join(
        f'<span class="pair"><i class="key" style="background:{COLORS[d]}"></i>'
        f"<span>{text}</span></span>"
        for d, text in (
            (
                "forward",
                "<b>forward</b>: the same level"
                + (", one stage before" if index["flow"] else ", by the skip"),
            ),
            ("upward", "<b>upward</b>: the coarser level"),
            ("downward", "<b>downward</b>: the finer level"),
        )
        if any(d in node["directions"] for node in index["nodes"])
    )
    what = _LATTICE if index["flow"] else _DECODER
    return f"""<h1>Which scales the network fused</h1>
<p class="faint">Model <b>{escape(model["title"])}</b> ({escape(model["name"])}), {source}
{escape(index["created"][:10])}</p>{notes}
<p>{what} A node is written stage:level; level 0 is full resolution.</p>
<p class="keys">{keys}</p>"""


def _flow(folder: Path, index: Mapping[str, Any], flow: Flow) -> str:
    files = index["flow"]
    history = ""
    if files["history_figure"]:
        history = _figure(
            folder / files["history_figure"],
            "The same shares of connections at every evolution of the training.",
            kind="half",
        )
    else:
        history = "<p>The model carries no history of its training: only its end is shown.</p>"
    end = flow.end
    rows = []
    for node in end["nodes"]:
        flows = node["flows"]
        rows.append(
            f"<tr><td>{node['stage']}:{node['level']}</td>"
            + "".join(_share_cells(flows, d) for d in DIRECTIONS)
            + f"<td>{_bar({d: v['share'] for d, v in flows.items()})}</td>"
            f"<td>{_bar({d: v['l1_share'] for d, v in flows.items()})}</td></tr>"
        )
    live = 100 * end["live"] / end["total"]
    return f"""<h2>Fusion flow: the model alone</h2>
{
        _figure(
            folder / files["figure"],
            "Arrows are as thick as their share of what enters the node; "
            "numbers are percent. Grey circles are the levels of the backbone. Upper row: share of "
            "live connections. Lower row: share of their L1 mass.",
        )
    }
{history}
<div class="scroll"><table><caption>The end: live connections of each direction (of those possible)
in the first convolution of each node. {end["live"]} of {end["total"]} connections of the whole
network are alive ({live:.0f} %).</caption>
<tr><th>node</th>{"".join(f'<th class="n">{d}</th>' for d in DIRECTIONS)}
<th>share of connections</th><th>share of L1 mass</th></tr>
{"".join(rows)}</table></div>"""


def _importance(folder: Path, index: Mapping[str, Any], *, with_label: bool) -> str:
    entries = [e for e in index["figures"] if bool(e["label"]) == with_label]
    if with_label:
        title = "What a label rests on"
        text = """Gradient times input at each node: to first order, how much the label's summed
score hangs on the input from this side at this place. It is 0 where the rest of the network does
not care."""
    else:
        title = "Fusion importance: this image"
        text = """How much signal each node takes in from which side, at every voxel: the
absolute input maps, weighted with the L1 norm of their live kernels. Directions of one node share
one scale; different nodes do not."""
    figures = "".join(_figure(folder / e["path"], "", kind="dark") for e in entries)
    return f"<h2>{title}</h2>\n<p>{text}</p>\n{figures}"


def _shares(index: Mapping[str, Any]) -> str:
    rows = []
    for entry in index["shares"]:
        about = escape(entry["label"]["name"]) if entry["label"] else "importance"
        cells = "".join(
            f'<td class="n">{_percent(entry["directions"].get(d))}</td>' for d in DIRECTIONS
        )
        rows.append(
            f"<tr><td>{entry['stage']}:{entry['level']}</td><td>{about}</td>"
            f"<td>{escape(entry['where'])}</td>{cells}<td>{_bar(entry['directions'])}</td></tr>"
        )
    return f"""<h2>In numbers</h2>
<div class="scroll"><table><caption>Share of each direction in the sum over some voxels: all
that the maps show, or those of a structure as it was segmented.</caption>
<tr><th>node</th><th>map of</th><th>where</th>
{"".join(f'<th class="n">{d}</th>' for d in DIRECTIONS)}<th></th></tr>
{"".join(rows)}</table></div>"""


def _scales(index: Mapping[str, Any]) -> str:
    nodes = index["scales"][0]["nodes"]
    rows = "".join(
        f"<tr><td>{escape(entry['label']['name'])}</td>"
        + "".join(f'<td class="n">{_percent(node["share"])}</td>' for node in entry["nodes"])
        + "</tr>"
        for entry in index["scales"]
    )
    heads = "".join(f'<th class="n">level {node["level"]}</th>' for node in nodes)
    return f"""<h2>The encoder's scales</h2>
<div class="scroll"><table><caption>To first order (gradient times input, summed over the
voxels that the maps show): the share of each skip in what a label takes from these skips. Level 0
is full resolution.</caption>
<tr><th>label</th>{heads}</tr>{rows}</table></div>"""


def _faithfulness(check: Mapping[str, Any]) -> str:
    fractions = sorted({row["fraction"] for row in check["rows"]})
    losses = {(row["rule"], row["fraction"]): row["mean_loss"] for row in check["rows"]}
    rows = "".join(
        f"<tr><td>{text}</td>"
        + "".join(f'<td class="n">{_loss(losses[rule, f])}</td>' for f in fractions)
        + "</tr>"
        for rule, text in _RULES.items()
        if (rule, fractions[0]) in losses
    )
    top = fractions[-1]
    nodes = {
        row["rule"]: {f"{n['stage']}:{n['level']}": n["mean_loss"] for n in row["by_node"]}
        for row in check["rows"]
        if row["fraction"] == top
    }
    names = list(next(iter(nodes.values())))
    by_node = "".join(
        f"<tr><td>{text}</td>"
        + "".join(f'<td class="n">{_loss(nodes[rule][n])}</td>' for n in names)
        + "</tr>"
        for rule, text in _RULES.items()
        if rule in nodes
    )
    return f"""<h2>Does it mean anything? Deleting connections</h2>
<p>In the first convolution of each node, one node at a time, the same number of live connections is
deleted by different rules. If importance says something about the network, deleting what it calls
important has to cost more Dice than deleting others.</p>
<div class="scroll"><table><caption>Mean loss of Dice over {len(names)} nodes and
{len(check["cases"])} cases (intact: {check["mean_dice_intact"]:.3f}); random: mean of
{check["random_seeds"]} draws.</caption>
<tr><th>which live connections are deleted</th>
{"".join(f'<th class="n">{100 * f:.0f} %</th>' for f in fractions)}</tr>{rows}</table></div>
<div class="scroll"><table><caption>The same at {100 * top:.0f} %, for each node.</caption>
<tr><th>which live connections are deleted</th>
{"".join(f'<th class="n">{n}</th>' for n in names)}</tr>{by_node}</table></div>"""


def _limits(index: Mapping[str, Any]) -> str:
    image = """<li>Importance says how much signal a node takes in, not what the network decides
with it: what cancels, what a normalisation removes and what later nodes ignore all count.</li>
<li>The label form follows the gradient, so it is about small changes; it is not what would happen
without an input, and it has no sign.</li>
<li>Neither says where information came from: a map already sums up its surroundings, wider with
every stage and level. A voxel is where the network used it.</li>"""
    shift = """<li>Depth-shift moves two thirds of the maps by one slice.</li>"""
    flow = """<li>A share of connections says where training kept wires, a share of L1 mass how
strong they are; neither has seen this image.</li>"""
    source = _E2ENET if index["flow"] else _TRANSFER
    return f"""<h2>How to read this, and how not</h2>
<ul>{flow + shift if index["flow"] else ""}{image if index["input"] else ""}
<li>None of this shows a cause of a disease, and none of it is for clinical use.</li></ul>
<p class="faint">{source} Gradient times input: Shrikumar et al., arXiv 1605.01713.
Files and their meaning: explain.json.</p>"""


def _figure(path: Path, caption: str, *, kind: str = "") -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    note = f"<figcaption>{caption}</figcaption>" if caption else ""
    kind = f' class="{kind}"' if kind else ""
    text = escape(path.stem.replace("_", " "))
    return f'<figure{kind}><img alt="{text}" src="data:image/png;base64,{data}">{note}</figure>'


def _share_cells(flows: Mapping[str, Any], direction: str) -> str:
    if direction not in flows:
        return '<td class="n">–</td>'
    values = flows[direction]
    return f'<td class="n">{values["live"]} ({100 * values["density"]:.0f} %)</td>'


def _bar(shares: Mapping[str, float]) -> str:
    pieces = "".join(
        f'<i style="width:{100 * shares[d]:.1f}%;background:{COLORS[d]}" '
        f'title="{d} {100 * shares[d]:.0f} %"></i>'
        for d in DIRECTIONS
        if d in shares
    )
    return f'<div class="bar">{pieces}</div>'


def _loss(value: float) -> str:
    return f"{round(value, 3) + 0.0:.3f}"  # no minus before a zero


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"
