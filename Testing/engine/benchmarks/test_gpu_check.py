"""The GPU check's own logic, where there is no GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without CUDA")
def test_without_a_gpu_it_says_so_and_checks_what_it_can(tmp_path: Path) -> None:
    report = tmp_path / "gpu-check.json"
    script = ROOT / "engine" / "benchmarks" / "gpu_check.py"
    names = ["tests", "parity", "out-of-memory", "benchmark"]
    done = subprocess.run(
        [sys.executable, script, "--only", *names, "--output", report],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "No CUDA device here" in done.stdout
    checks = json.loads(report.read_text(encoding="utf-8"))["checks"]
    states = {name: row["state"] for name, row in checks.items()}
    assert states == {**dict.fromkeys(names, "needs a GPU"), "parity": "passed"}
    assert 0 < checks["parity"]["sparse_float32_error"] < 1e-3


def test_what_fails_is_told_and_the_rest_still_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "engine" / "benchmarks")
    import gpu_check

    def broken(device: str) -> gpu_check.Found:
        raise RuntimeError(f"no {device}")

    checks = {"first": broken, "second": lambda device: (True, {"n": 1}), "third": _wrong}
    monkeypatch.setattr(gpu_check, "CHECKS", checks)
    report = gpu_check.check("cpu", list(checks))["checks"]
    assert [row["state"] for row in report.values()] == ["FAILED", "passed", "FAILED"]
    assert report["first"]["said"] == "RuntimeError: no cpu"
    assert report["third"]["differ"] == 7


def _wrong(device: str) -> tuple[bool, dict[str, int]]:
    return False, {"differ": 7}
