"""The rows of a benchmark for a person: tables of 100 columns, and time drawn against sparsity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

Rows = dict[str, dict[str, Any]]
Column = tuple[str, str, str]  # header, key of a row, format

HEADS = (
    "segment_head_cold",
    "segment_head_warm",
    "segment_head_first",
    "segment_head_hippodeep",
)
MORE_IS_BETTER = ("times_faster_than_released", "equal_labels")
_NAMES = {"nnunet": "nnU-Net", "openvino": "OpenVINO", "extra s": "seconds more"}

_TIME: list[Column] = [
    ("time (s)", "seconds", ".2f"),
    ("/ nnU-Net", "time_vs_nnunet", ".2f"),
    ("target", "target_time_vs_nnunet", ".2f"),
    ("peak (MiB)", "peak_mib", ".0f"),
    ("/ nnU-Net", "memory_vs_nnunet", ".2f"),
    ("target", "target_memory_vs_nnunet", ".2f"),
]
_EQUAL: list[Column] = [("same label", "equal_labels", ".4%")]
_BF16: list[Column] = [
    ("time (s)", "seconds", ".2f"),
    ("/ shipped", "time_vs_nnunet", ".2f"),
    ("/ ch.-last", "time_vs_nnunet_channels_last", ".2f"),
    ("MiB", "peak_mib", ".0f"),
    *_EQUAL,
]
_DEPLOYED: list[Column] = [
    ("time (s)", "seconds", ".2f"),
    ("/ nnU-Net", "time_vs_nnunet", ".2f"),
    ("/ OpenVINO¹", "time_vs_openvino", ".2f"),
    ("peak (MiB)", "peak_mib", ".0f"),
    *_EQUAL,
]
_HEADS: list[Column] = [
    ("time (s)", "seconds", ".2f"),
    ("CPU (s)", "processor_s", ".2f"),
    ("more (s)", "extra_s", ".2f"),
    ("locate", "locate_s", ".2f"),
    ("peak (MiB)", "peak_mib", ".0f"),
]
_GROWTH: list[Column] = [
    ("time (s)", "seconds", ".2f"),
    ("µs / voxel", "microseconds_a_voxel", ".2f"),
    ("peak (MiB)", "peak_mib", ".0f"),
    ("B / voxel", "bytes_a_voxel", ".0f"),
    ("/ 1 thread", "times_faster_than_1_thread", ".2f"),
]
_GPU = [("time (ms)", "milliseconds", ".1f"), *_TIME[1:-1], *_EQUAL]
_SWEEP: list[Column] = [
    ("time (s)", "seconds", ".2f"),
    ("/ nnU-Net", "time_vs_nnunet", ".2f"),
    ("multiply-adds (G)", "multiply_adds_g", ".1f"),
    ("G a second", "rate_g", ".0f"),
    ("floor (s)", "floor_s", ".2f"),
    ("/ floor", "time_vs_floor", ".1f"),
]
_SEGMENT: list[Column] = [
    ("process (s)", "seconds", ".2f"),
    ("/ ref.", "time_vs_reference", ".2f"),
    ("inference (s)", "inference_s", ".2f"),
    ("/ ref.", "inference_vs_reference", ".2f"),
    ("voxels differ", "differing_voxels", "d"),
]


def print_report(facts: dict[str, Any], rows: Rows, console: Console) -> None:
    """Machine, tables, notes."""
    size = " × ".join(map(str, facts["patch"]))
    paper = "cpu_fp32_forward_s0.8"
    forward = [
        "cpu_fp32_forward_nnunet",
        "cpu_fp32_forward_nnunet_channels_last",
        paper,
        "cpu_fp32_forward_s0.8_reference",
        "cpu_fp32_forward_s0.8_released",
    ]
    sweep = [name for name, row in rows.items() if "sparsity" in row]
    console.print()
    _print_facts(facts, rows, console)
    if sweep:
        _print(f"Forward, {size}, 16 classes, CPU, float32", _TIME, rows, forward, console)
        _print_notes(rows[paper], rows["cpu_fp32_forward_s0.8_released"], console)
    title = "Time against feature sparsity S (the same forward)"
    _print(title, _SWEEP, rows, sweep, console)
    bf16 = [n for n in rows if n.startswith("cpu_bf16") and "openvino" not in n]
    title = "Forward, CPU, against nnU-Net in bfloat16 (as shipped; channels-last)"
    _print(title, _BF16, rows, bf16, console)
    step = [name for name in rows if name.startswith("cpu_training")]
    title = f"Training step, {size}, batch 1, CPU, float32"
    _print(title, _TIME, rows, step, console)
    gpu = [name for name in rows if name.startswith("gpu")]
    _print(f"Forward, {size}, GPU, float16", _GPU, rows, gpu, console)
    others = ("_openvino", "_onnxruntime", "_torch_compile")
    deployed = [name for name in rows if name.endswith(others)]
    if deployed:
        shown = ["cpu_fp32_forward_nnunet", paper, "cpu_16bit_forward_s0.8", *deployed]
        _print(f"Forward, {size}, CPU, as deployed", _DEPLOYED, rows, shown, console)
        console.print("  ¹ 16 bit against OpenVINO's bfloat16, all others against float32\n")
    heads = [name for name in rows if name in HEADS]
    segment = [name for name in rows if name.startswith("segment") and name not in HEADS]
    _print("e2enet segment, CPU, cold process", _SEGMENT, rows, segment, console)
    _print("e2enet segment, a head of 256³ voxels", _HEADS, rows, heads, console)
    growth = [name for name in rows if name.startswith("growth")]
    _print("Growth with voxels, threads and volume", _GROWTH, rows, growth, console)
    _print_targets(rows, console)


def _print(
    title: str, columns: Sequence[Column], rows: Rows, names: Sequence[str], console: Console
) -> None:
    shown = [name for name in names if name in rows]
    if not shown:
        return
    if not any("seconds" in rows[name] for name in shown):
        console.print(title, style="bold", highlight=False)
        for name in shown:
            console.print(f"  {rows[name]['what']}: {rows[name]['note']}", highlight=False)
        console.print()
        return
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("", no_wrap=True)
    for header, _, _ in columns:
        table.add_column(header, justify="right", no_wrap=True)
    notes = {}
    for name in shown:
        row = _with_units(rows[name])
        cells = [_cell(row, key, style) for _, key, style in columns]
        mark = ""
        if note := row.get("note"):
            mark = notes.setdefault(note, "*" * (len(notes) + 1))
        table.add_row(f"{row.get('what', '')}{mark}", *cells)
    console.print(table)
    for note, mark in notes.items():
        console.print(f"  {mark} {note}\n", highlight=False)


def _print_targets(rows: Rows, console: Console) -> None:
    """Every target of a row that was measured, and what was reached."""
    table = Table(
        title="Targets", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD,
        pad_edge=False,
    )  # fmt: skip
    for header, side in (("", "left"), ("of", "left"), ("target", "right"), ("reached", "right")):
        table.add_column(header, justify=side, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("", no_wrap=True)
    for name, row in rows.items():
        subject = row.get("what", "") + (", a training step" if "training" in name else "")
        for key, aim in row.items():
            what = key.removeprefix("target_")
            if what == key or what not in row:
                continue
            more = what in MORE_IS_BETTER
            met = row[what] >= aim if more else row[what] <= aim
            sign = "≥" if more else "≤"
            shown = what.replace("_vs_", " / ").replace("_", " ")
            for plain, name_of in _NAMES.items():
                shown = shown.replace(plain, name_of)
            reached, verdict = f"{row[what]:.4g}", "met" if met else "missed"
            table.add_row(subject, shown, f"{sign} {aim:g}", reached, verdict)
    if table.row_count:
        console.print(table)


def _with_units(row: dict[str, Any]) -> dict[str, Any]:
    found = dict(row)
    if "multiply_adds" in row:
        found["multiply_adds_g"] = row["multiply_adds"] / 1e9
        found["rate_g"] = row["multiply_adds"] / row["seconds"] / 1e9
    if "voxels" in row and "seconds" in row:
        found["microseconds_a_voxel"] = 1e6 * row["seconds"] / row["voxels"]
        found["bytes_a_voxel"] = 2**20 * row["peak_mib"] / row["voxels"]
    if "seconds" in row:
        found["milliseconds"] = 1000 * row["seconds"]
    return found


def _cell(row: dict[str, Any], key: str, style: str) -> str:
    if key not in row:
        return ""
    return ("≤ " if key.startswith("target") else "") + format(row[key], style)


def _print_facts(facts: dict[str, Any], rows: Rows, console: Console) -> None:
    lines = [
        f"{facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads, "
        f"{facts['capability']}, bfloat16: {'yes' if facts['bfloat16'] else 'no'}; "
        f"GPU: {facts['gpu']}",
        f"Python {facts['python']}, torch {facts['torch']}, numba {facts['numba']}, "
        f"e2enet {facts['e2enet']}",
        f"seed {facts['seed']}, {facts['rounds']} rounds, {facts['minutes']} minutes, "
        f"load at start {facts['load_at_start']}",
        facts["command"],
    ]
    if not facts["sparse_kernels"]:
        lines.append("The sparse kernels do not work here: E2ENet ran as a plain network.")
    if peak := rows.get("machine_peak"):
        lines.append(
            f"at best: {peak['multiply_adds_per_s'] / 1e9:.0f} G multiply-adds/s (dense float32), "
            f"{peak['bytes_per_s'] / 1e9:.1f} GB/s (copy)"
        )
    for line in lines:
        console.print(line, highlight=False)
    console.print()


def _print_notes(row: dict[str, Any], released: dict[str, Any], console: Console) -> None:
    lines = (
        f"S = 0.8 is {row['times_faster_than_released']:.1f} × faster than the released semantics "
        f"(target ≥ {row['target_times_faster_than_released']}) and needs "
        f"{row['memory_vs_released']:.2f} × its memory;",
        f"against nnU-Net in channels-last {row['time_vs_nnunet_channels_last']:.2f} × the time, "
        f"{row['memory_vs_nnunet_channels_last']:.2f} × the memory.",
        f"Logits within {row['max_abs_logit_difference']:.1e} of the plain network, "
        f"{row['equal_labels']:.4%} equal labels "
        f"(released semantics: {released['max_abs_logit_difference']:.1e}).",
    )
    for line in lines:
        console.print(f"  {line}", highlight=False)
    console.print()


def draw_sweep(facts: dict[str, Any], rows: Rows, path: Path) -> None:
    """Time (left) and live multiply-adds (right) against S, both scaled to meet at S = 0."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points = [row for row in rows.values() if "sparsity" in row]
    sparsity = [row["sparsity"] for row in points]
    seconds = [row["seconds"] for row in points]
    adds = [row["multiply_adds"] / 1e9 for row in points]
    nnunet = rows["cpu_fp32_forward_nnunet"]["seconds"]
    top = 1.12 * max(seconds[0], nnunet)

    figure = Figure((7.2, 4.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    left = figure.subplots()
    right = left.twinx()
    left.axhline(nnunet, color="0.55", linewidth=1)
    left.annotate(
        f"nnU-Net, as shipped: {nnunet:.2f} s", (0.005, nnunet), (0, 4),
        textcoords="offset points", color="0.35",
    )  # fmt: skip
    time = left.plot(sparsity, seconds, "o-", color="#1f5fa8", label="time, measured")
    counted = right.plot(
        sparsity, adds, "s--", color="#c2571a", markersize=4, label="live multiply-adds"
    )
    floor = left.plot(
        sparsity, [row["floor_s"] for row in points], ":", color="0.35", label="floor of this CPU"
    )
    for x, y in zip(sparsity, seconds, strict=True):
        left.annotate(
            f"{y:.2f} s", (x, y), (6, 6), textcoords="offset points", color=time[0].get_color()
        )
    left.set(xlabel="feature sparsity S", ylabel="time of a forward (s)", ylim=(0, top))
    left.set_xlim(-0.03, 0.99)
    right.set(ylabel="live multiply-adds (G)", ylim=(0, top * adds[0] / seconds[0]))
    left.yaxis.label.set_color(time[0].get_color())
    right.yaxis.label.set_color(counted[0].get_color())
    for axes in (left, right):
        axes.spines["top"].set_visible(False)
    lines = [*time, *counted, *floor]
    left.legend(lines, [line.get_label() for line in lines], frameon=False, loc="lower left")
    size = " × ".join(map(str, facts["patch"]))
    left.set_title(
        f"{size}, float32, {facts['cpu']}, {facts['threads']} threads", fontsize=9, loc="left"
    )
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path)
