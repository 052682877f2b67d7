"""Tables of 100 columns with every group's rows, nothing cut off."""

from __future__ import annotations

import importlib
import io
from pathlib import Path

import pytest
from rich.console import Console

BENCHMARKS = Path(__file__).resolve().parents[3] / "engine" / "benchmarks"

FACTS = {
    "patch": [64, 128, 128], "cpu": "a processor", "cores": 2, "threads": 2, "capability": "AVX512",
    "bfloat16": True, "gpu": "none", "python": "3.12", "torch": "2", "numba": "1", "e2enet": "1",
    "seed": 0, "rounds": 3, "minutes": 15, "load_at_start": 0.1, "command": "run.py",
    "sparse_kernels": True,
}  # fmt: skip
ROWS = {
    "cpu_fp32_forward_nnunet": {"what": "nnU-Net, as shipped", "seconds": 3.5, "peak_mib": 911.0},
    "cpu_fp32_forward_s0.8": {
        "what": "E2ENet, S = 0.8", "seconds": 1.7, "peak_mib": 524.0, "time_vs_nnunet": 0.45,
        "time_vs_openvino": 0.75, "target_time_vs_openvino": 0.5, "target_memory_vs_nnunet": 0.45,
    },
    "cpu_16bit_forward_s0.8": {
        "what": "E2ENet, S = 0.8, 16 bit", "seconds": 1.1, "peak_mib": 424.0,
        "equal_labels": 0.99995, "target_equal_labels": 0.999,
    },
    "cpu_bf16_forward_openvino": {
        "what": "nnU-Net, OpenVINO, bfloat16", "seconds": 1.1, "peak_mib": 424.0,
        "time_vs_nnunet": 0.31, "time_vs_openvino": 0.47,
    },
    "cpu_int8_forward_openvino": {"what": "nnU-Net, OpenVINO, int8", "note": "not measured"},
    "cpu_training_step_s0.8": {
        "what": "E2ENet, S = 0.8", "seconds": 5.7, "peak_mib": 3171.0, "time_vs_nnunet": 0.48,
        "target_time_vs_nnunet": 0.55,
    },
    "segment_head_cold": {
        "what": "a process for a head", "seconds": 3.11, "processor_s": 3.95, "peak_mib": 358.0,
        "target_seconds": 2.5,
    },
    "segment_head_first": {
        "what": "a process without compiled kernels", "seconds": 9.1, "processor_s": 11.0,
        "peak_mib": 417.0, "extra_s": 5.99, "target_extra_s": 3.0,
    },
    "growth_compiled_1048576": {
        "what": "E2ENet, S = 0.8, 64 × 128 × 128", "seconds": 1.07, "peak_mib": 382.0,
        "voxels": 1 << 20,
    },
    "growth_volume_96": {
        "what": "segment, 256³, 16 classes", "seconds": 12.0, "peak_mib": 1417.0, "voxels": 1 << 24,
    },
    "growth_threads_2": {
        "what": "E2ENet, S = 0.8, threads: 2", "seconds": 2.0, "peak_mib": 400.0,
        "times_faster_than_1_thread": 1.9,
    },
}  # fmt: skip


def test_nothing_is_cut_off() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        report = importlib.import_module("report")
    told = io.StringIO()
    report.print_report(FACTS, ROWS, Console(file=told, width=100))
    text = told.getvalue()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 100
    for row in ROWS.values():
        assert row["what"] in text
    targets = text[text.index("Targets") :]
    assert [line.split()[-1] for line in targets.splitlines() if "≤" in line or "≥" in line] == [
        "missed",  # 0.75 of OpenVINO's time; the memory was not compared
        "met",
        "met",
        "missed",
        "missed",
    ]
    assert "E2ENet, S = 0.8, a training step" in targets
    assert "time / OpenVINO" in targets
