"""A CPU needs no PyTorch: what runs without it, and the sentence where it is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import e2enet
import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.cli.app import app
from typer.testing import CliRunner

# As if neither were installed: the import fails, and nothing is found by looking for it.
HIDE = """
import importlib.machinery, sys
HIDDEN = ("torch", "monai")
find = importlib.machinery.PathFinder.find_spec
def hiding(name, path=None, target=None):
    return None if name.partition(".")[0] in HIDDEN else find(name, path, target)
importlib.machinery.PathFinder.find_spec = hiding
"""
# What the doors to other programs stand on, which none of the main commands waits for.
HEAVY = (
    "torch", "monai", "ray", "fastapi", "uvicorn", "highdicom", "pydicom", "onnx", "onnxscript",
    "nibabel", "ignite", "tensorboard",
)  # fmt: skip
RUN = (
    f"HEAVY = {HEAVY}"
    + """
from e2enet.cli.app import app
for arguments in json.loads(sys.argv[1]):
    status = app(arguments, standalone_mode=False) or 0  # typer returns the status of an Exit
    print("STATUS", status, sep="\\t", flush=True)
print("IMPORTED", *[name for name in HEAVY if name in sys.modules], sep="\\t")
"""
)


def run(*verbs: list[str], hidden: bool = True) -> subprocess.CompletedProcess[str]:
    """Run verbs one after the other in a process of their own."""
    code = "import json, sys\n" + (HIDE if hidden else "") + RUN
    return subprocess.run(
        [sys.executable, "-c", code, json.dumps(verbs)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def told(done: subprocess.CompletedProcess[str], what: str) -> list[list[str]]:
    return [line.split("\t")[1:] for line in done.stdout.splitlines() if line.startswith(what)]


@pytest.fixture
def image(tmp_path: Path) -> str:
    array = np.random.default_rng(0).normal(100, 20, (12, 18, 16)).astype(np.float32)
    path = tmp_path / "case.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(array), path)
    return os.fspath(path)


def test_what_runs_without_it(tiny_bundle: Path, image: str, tmp_path: Path) -> None:
    model, output = os.fspath(tiny_bundle), tmp_path / "out.nii.gz"
    wanted = tmp_path / "wanted.nii.gz"
    with_it = ["segment", image, "--model", model, "--runtime", "reference", "--output"]
    assert CliRunner().invoke(app, [*with_it, os.fspath(wanted)]).exit_code == 0
    for name in ("labels", "predictions"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.nii.gz").write_bytes(wanted.read_bytes())
    done = run(
        ["segment", image, "--model", model, "--output", os.fspath(output), "--tta"],
        ["segment", image, "--model", model, "--output", os.fspath(output)],
        ["evaluate", os.fspath(tmp_path / "predictions"), os.fspath(tmp_path / "labels")],
        ["models"],
        ["profile", "--levels", "3"],
        ["profile", "--model", model],
        ["explain", "--model", model, "--output", os.fspath(tmp_path / "why")],
    )
    assert told(done, "STATUS") == [["0"]] * 7, done.stdout + done.stderr
    assert told(done, "IMPORTED") == [[]]
    labels = [sitk.GetArrayFromImage(sitk.ReadImage(path)) for path in (output, wanted)]
    assert len(np.unique(labels[1])) > 1
    np.testing.assert_array_equal(*labels)
    assert (tmp_path / "why" / "flow.json").is_file()
    manifest = json.loads((tmp_path / "out.manifest.json").read_text(encoding="utf-8"))
    assert manifest["runtime"]["name"] == "sparse"
    assert "numba" in manifest["runtime"]


def test_what_it_is_missing_for(tiny_bundle: Path, image: str, tmp_path: Path) -> None:
    model, output = os.fspath(tiny_bundle), os.fspath(tmp_path / "out.nii.gz")
    base = ["segment", image, "--model", model, "--output", output, "--progress", "json"]
    why = os.fspath(tmp_path / "why")
    done = run(
        [*base, "--device", "cuda"],
        [*base, "--runtime", "reference"],
        ["explain", image, "--model", model, "--output", why, "--progress", "json"],
        ["train", os.fspath(tmp_path), "--output", why, "--progress", "json"],
    )
    assert told(done, "STATUS") == [["2"]] * 4, done.stdout + done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    errors = [event for event in events if event["event"] == "error"]
    assert [error["code"] for error in errors] == ["no-torch"] * 4
    assert errors[-1]["message"].startswith("e2enet train needs")
    for error in errors:
        assert error["message"].endswith("needs PyTorch, which is not installed.")
        assert "e2enet[torch]" in error["help"]
    assert not Path(output).exists()
    assert not Path(why).exists()


def test_a_cpu_imports_it_not_even_where_it_is_installed(
    tiny_bundle: Path, image: str, tmp_path: Path
) -> None:
    output = os.fspath(tmp_path / "out.nii.gz")
    base = ["segment", image, "--model", os.fspath(tiny_bundle), "--output", output]
    done = run([*base, "--device", "cpu"], hidden=False)
    assert told(done, "STATUS") == [["0"]], done.stderr
    assert told(done, "IMPORTED") == [[]]


def test_python_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(e2enet, "import_module", missing)
    with pytest.raises(ModuleNotFoundError, match=r"e2enet\.train needs PyTorch: pip install"):
        _ = e2enet.train
