"""The guides: their commands work as written, and what they take from the source is complete."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import SimpleITK as sitk
from e2enet.cli.app import app
from typer.testing import CliRunner

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "Resources" / "Documentation"
PAGES = FOLDER / "docs"
# Added to `train`, which would otherwise take days; a resumed run has its own settings.
SHORT = "--epochs 1 --iterations-per-epoch 1 --patch 16,16,16 --batch-size 2 --workers 0"
SMALL = "--base-channels 4 --levels 3"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(
        rf"```{language}\n(.*?)```", (PAGES / page).read_text(encoding="utf-8"), re.DOTALL
    )


@pytest.fixture(scope="module")
def desk(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_dataset: Path,
    dicom_series: Callable[..., list[Path]],
) -> Path:
    """A folder with small files under the guides' names; what one guide makes, the next uses."""
    folder = tmp_path_factory.mktemp("desk")
    head = sitk.ReadImage(str(REPOSITORY / "Resources" / "Samples" / "MNI152_T1_1mm.nii.gz"))
    crop = head[44:84, 90:140, 40:82]  # the right hippocampus
    (folder / "scans").mkdir()
    for name in ("head", "scans/a", "scans/b"):
        sitk.WriteImage(crop, str(folder / f"{name}.nii.gz"))
    shutil.copytree(
        REPOSITORY / "Resources" / "Models" / "abdomen-mr", folder / "shared-models" / "abdomen-mr"
    )
    shutil.copytree(tiny_dataset, folder / "Dataset004_Hippocampus")
    shutil.copy(Path(__file__).parent / "released" / "network_shift3.npz", folder / "released.npz")
    array = sitk.GetArrayFromImage(crop).astype("int16")
    dicom_series(
        folder / "study" / "S1", array, heights=range(len(array)), spacing=(1, 1), uid="1.3",
        number=3, modality="MR", description="T1 MPRAGE",
    )  # fmt: skip
    dicom_series(folder / "study" / "S2", array[:3], uid="1.4", number=4, modality="MR")
    shutil.make_archive(str(folder / "study"), "zip", folder / "study")
    return folder


def test_the_commands_of_the_guides(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA"):  # models are installed
        monkeypatch.setenv(name, str(desk / "home"))
    count = 0
    pages = ("segment", "models", "train", "fine-tune", "evaluate", "dicom", "exchange")
    for page in (f"{name}.md" for name in pages):
        for block in blocks(page, "sh"):
            for line in block.splitlines():
                program, *words = shlex.split(line, comments=True)
                if program == "pip":
                    continue  # what it installs is there
                assert program == "e2enet"
                if words[0] == "train":
                    words += shlex.split(SHORT)
                    words += [] if "--from" in words else shlex.split(SMALL)
                if words[0] in ("segment", "train", "explain"):
                    words += ["--device", "cpu"]
                if words[0] == "train" and "--resume" in words:  # the run above has come to its end
                    shutil.rmtree("my-model")
                result = CliRunner().invoke(app, words)
                assert result.exit_code == 0, f"{page}: {line}\n{result.output}"
                count += 1
    assert count >= 16
    for name in ("hippocampi.volumes.csv", "hippocampi.manifest.json", "explained/report.html"):
        assert (desk / name).is_file()
    assert "## Results" in (desk / "my-model" / "README.md").read_text(encoding="utf-8")


def test_the_examples_in_python(desk: Path) -> None:
    for page in ("python.md", "nnunet.md"):
        for example in blocks(page, "python"):
            subprocess.run([sys.executable, "-c", example], cwd=desk, check=True)


def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hooks", FOLDER / "hooks.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_message_of_the_source_is_listed() -> None:
    table = hooks().messages()
    sources = (path.read_text(encoding="utf-8") for path in hooks().PACKAGE.rglob("*.py"))
    codes = {code for text in sources for code in re.findall(r'\bcode="([a-z0-9-]+)"', text)}
    missing = {code for code in codes if f"`{code}`" not in table}
    assert len(codes) > 60
    assert not missing
    assert "| `missing-file` | … does not exist. |" in table


def test_the_functions_of_the_package_are_described() -> None:
    text = hooks().functions()
    for name in ("segment", "train", "evaluate", "Bundle", "Result", "Reporter"):
        assert f"## `{name}`" in text
    assert "save_probabilities" in text


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-f", "mkdocs.yml",
         "-d", str(tmp_path / "site")],
        cwd=FOLDER, check=True,
    )  # fmt: skip
    page = (tmp_path / "site" / "messages" / "index.html").read_text(encoding="utf-8")
    assert "does not exist" in page
    # Nothing is loaded from elsewhere when the page is read.
    assert not re.findall(r'(?:src|href)="https?://[^"]*\.(?:js|css|woff2?)"', page)


def test_the_notebook(tmp_path: Path) -> None:
    """Cell after cell in a fresh Python, with what a notebook shows of each told as a line."""
    notebook = json.loads((PAGES / "first_model.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["metadata"]["kernelspec"]["name"]) == (4, "python3")
    cells = [
        "".join(cell["source"]).rstrip(";")
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]
    assert not any(cell.get("outputs") for cell in notebook["cells"])
    (tmp_path / "cells.json").write_text(json.dumps(cells), encoding="utf-8")
    run = """
import ast, json
scope = {}
for cell in json.load(open("cells.json", encoding="utf-8")):
    *before, last = ast.parse(cell).body
    value = isinstance(last, ast.Expr)
    exec(compile(ast.Module([*before, *([] if value else [last])], []), "cell", "exec"), scope)
    print(json.dumps(repr(eval(ast.unparse(last), scope)) if value else None))
"""
    done = subprocess.run(
        [sys.executable, "-c", run], cwd=tmp_path, capture_output=True, encoding="utf-8"
    )
    assert not done.returncode, done.stderr[-2000:]
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    assert "'finished'" in shown[1]
    scores = ast.literal_eval(shown[-1])
    assert set(scores) == {"ball", "box"}
    assert min(scores.values()) > 0.5
    assert (tmp_path / "first_model" / "segmentation.png").stat().st_size > 5000
