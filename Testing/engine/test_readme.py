"""README's commands, run as a newcomer runs them: installed from the folder, nothing around it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
# Added to the README's `train`, which would otherwise train for days.
SHORT = "--epochs 1 --iterations-per-epoch 1 --base-channels 4 --patch 16,16,16 --batch-size 2"


def blocks(heading: str, language: str) -> list[str]:
    """The code blocks of one section of the README."""
    section = README.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone has beside the tests; building in it leaves nothing in ours."""
    root = tmp_path_factory.mktemp("clone")
    nothing = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    shutil.copytree(REPOSITORY / "engine", root / "engine", ignore=nothing)
    shutil.copytree(REPOSITORY / "Resources" / "Models", root / "Resources" / "Models")
    return root


def install(source: Path, into: Path) -> Path:
    """`pip install SOURCE` without what it needs, which the tests have already."""
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(into)]
    command = [sys.executable, "-m", "pip", "install", "-q", *options, str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return into


@pytest.fixture(scope="module")
def installed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = install(source / "engine", tmp_path_factory.mktemp("site"))
    shutil.rmtree(source / "Resources")  # what is used from now on was installed
    return folder


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Path:
    """A folder with small files under the README's names."""
    folder = tmp_path_factory.mktemp("desk")
    head = sitk.ReadImage(str(REPOSITORY / "Resources" / "Samples" / "MNI152_T1_1mm.nii.gz"))
    crop = head[44:84, 90:140, 40:82]  # the right hippocampus
    sitk.WriteImage(crop, str(folder / "head.nii.gz"))
    shutil.copytree(tiny_dataset, folder / "Dataset004_Hippocampus")
    for name in ("predictions", "labels"):
        shutil.copytree(tiny_dataset / "labelsTs", folder / name)
    return folder


def run(words: list[str], site: Path, desk: Path) -> str:
    path = os.pathsep.join([str(site / "bin"), os.environ["PATH"]])
    environment = {**os.environ, "PYTHONPATH": str(site), "PATH": path, "PYTHONUTF8": "1"}
    environment.pop("E2ENET_MODELS", None)
    words = [shutil.which(words[0], path=path) or words[0], *words[1:]]
    done = subprocess.run(
        words, cwd=desk, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_commands_of_the_terminal(installed: Path, desk: Path) -> None:
    (block,) = blocks("From a terminal", "sh")
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert commands.pop(0) == ["pip", "install", "./engine"]  # `installed`
    assert {words[0] for words in commands} == {"e2enet"}
    printed = {}
    for words in commands:
        more = shlex.split(SHORT) if words[1] == "train" else []
        printed[words[1]] = run([*words, *more], installed, desk)
    assert {"segment", "evaluate", "train", "profile"} <= printed.keys()
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(desk / "hippocampi.nii.gz")))
    millilitres = np.count_nonzero(labels) / 1000
    assert 1.0 < millilitres < 6.0  # a hippocampus
    assert "1.0000" in printed["evaluate"]
    assert (
        json.loads((desk / "my-model" / "model.json").read_text(encoding="utf-8"))["name"]
        == "my-model"
    )


def test_the_examples_in_python(installed: Path, desk: Path) -> None:
    for example in blocks("From Python", "python"):
        run([sys.executable, "-c", example], installed, desk)


def test_shipped_models_come_out_of_a_source_distribution(
    source: Path, installed: Path, tmp_path: Path
) -> None:
    code = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    clone = tmp_path / "clone"
    shutil.copytree(source / "engine", clone / "engine")
    shutil.copytree(REPOSITORY / "Resources" / "Models", clone / "Resources" / "Models")
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        check=True, capture_output=True, cwd=clone / "engine",
    )  # fmt: skip
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    site = install(next(tmp_path.glob("e2enet-*[0-9]")), tmp_path / "site")
    names = {path.parent.name for path in (REPOSITORY / "Resources/Models").glob("*/model.json")}
    for folder in (installed, site):
        assert (folder / "e2enet" / "py.typed").is_file()
        assert {path.name for path in (folder / "e2enet" / "models").iterdir()} == names
    listed = json.loads(run(["e2enet", "models", "--json"], site, tmp_path))["models"]
    assert {model["name"] for model in listed} == names


def test_the_licence_travels_with_the_engine() -> None:
    ours, engines = REPOSITORY / "LICENSE", REPOSITORY / "engine" / "LICENSE"
    assert ours.read_bytes() == engines.read_bytes()


def test_every_file_that_the_engines_readme_names_is_there() -> None:
    text = (REPOSITORY / "engine" / "README.md").read_text(encoding="utf-8")
    package = REPOSITORY / "engine" / "e2enet"
    rooms = re.search(r"\| room \| holds \|.*?\n\n", text, re.DOTALL)
    steps = re.search(r"\| step \| file \|.*", text.split("## The sparse")[0], re.DOTALL)
    assert rooms
    assert steps
    for line in (rooms[0] + steps[0]).splitlines():
        folders = [package]  # a name alone is one beside those before it
        for name in re.findall(r"`([a-z_/]+(?:\.py|/))`", line):
            path = next((f / name for f in folders if (f / name).exists()), None)
            assert path, f"{name} in {line}"
            folders.append(path.parent if path.is_file() else path)
    listed = set(re.findall(r"`([a-z_]+)/`", rooms[0]))
    assert {path.name for path in package.iterdir() if (path / "__init__.py").is_file()} <= listed
