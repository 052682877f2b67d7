"""`e2enet models` lists what --model takes by name, and lets models come and go."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile

import pytest
from e2enet.bundle.archive import pack
from e2enet.bundle.install import installed_folder
from e2enet.cli.app import app
from harness.server import serving
from typer.testing import CliRunner


@pytest.fixture
def folder(tmp_path, tiny_bundle, monkeypatch):
    shutil.copytree(tiny_bundle, tmp_path / "tiny")
    monkeypatch.setenv("E2ENET_MODELS", str(tmp_path))
    return tmp_path


def test_json(folder):
    outcome = CliRunner().invoke(app, ["models", "--json"])
    assert outcome.exit_code == 0
    models = {model["name"]: model for model in json.loads(outcome.stdout)["models"]}
    tiny = models["tiny"]
    assert tiny["channels"] == ["MRI"]
    assert [label["name"] for label in tiny["labels"]] == ["sphere", "cube"]
    assert tiny["modality"] == "MR"
    assert tiny["regions"] == []


def test_table(folder):
    outcome = CliRunner().invoke(app, ["models"])
    assert outcome.exit_code == 0
    assert "tiny" in outcome.stdout


def test_a_damaged_model_does_not_hide_the_others(folder):
    (folder / "broken").mkdir()
    (folder / "broken" / "model.json").write_text("{", encoding="utf-8")
    outcome = CliRunner().invoke(app, ["models", "--json"])
    models = {model["name"]: model for model in json.loads(outcome.stdout)["models"]}
    assert "title" in models["tiny"]
    assert "model.json" in models["broken"]["error"]


@pytest.fixture
def home(folder, tmp_path, monkeypatch):
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return installed_folder()


def models(*arguments) -> tuple[int, str]:
    outcome = CliRunner().invoke(app, ["models", *map(str, arguments)])
    assert "Traceback" not in outcome.output
    return outcome.exit_code, outcome.output


def test_list_is_what_the_bare_verb_says(folder):
    assert models("list", "--json") == models("--json")
    assert models("list") == models()


def test_from_one_computer_to_another_by_a_pack(home, tmp_path):
    status, said = models("pack", "all.zip", "tiny", "hippocampus-mr")
    assert status == 0
    digest = hashlib.sha256((tmp_path / "all.zip").read_bytes()).hexdigest()
    assert f"SHA-256: {digest}" in said
    assert models("pack", "all.zip")[0] == 2  # never overwritten
    assert models("pack", "all.tar")[0] == 2
    assert models("pack", "new.zip", "tiny", "tiny")[0] == 2
    assert models("install", "all.zip", "--sha256", "0" * 64)[0] == 2
    status, said = models("install", "all.zip", "--sha256", digest)
    assert status == 0
    assert "tiny is installed in" in said
    assert sorted(path.name for path in home.iterdir()) == ["hippocampus-mr", "tiny"]
    assert models("install", "all.zip")[0] == 2
    assert models("install", "all.zip", "--replace")[0] == 0
    assert models("verify", "tiny", "hippocampus-mr") == (
        0, "tiny: sound\nhippocampus-mr: sound\n",
    )  # fmt: skip
    assert models("remove", "tiny")[0] == 0
    assert models("remove", "tiny")[0] == 2  # the other one was not installed
    assert [path.name for path in home.iterdir()] == ["hippocampus-mr"]


def test_a_damaged_model_is_named(home, folder):
    for number, change in enumerate(("README.md", "weights.safetensors", "model.json")):
        copy = folder / f"copy{number}"
        shutil.copytree(folder / "tiny", copy)
        (copy / change).write_bytes((copy / change).read_bytes()[:-3])
    model = json.loads((folder / "tiny" / "model.json").read_text(encoding="utf-8"))
    shutil.copytree(folder / "tiny", folder / "other")  # sound files of another network
    model["network"]["arguments"]["base_channels"] = 5
    (folder / "other" / "model.json").write_text(json.dumps(model), encoding="utf-8")
    status, said = models("verify")
    assert status == 2
    assert "tiny: sound" in said
    assert "copy0: " in said
    assert "README.md was changed or damaged." in said
    assert "weights.safetensors was changed or damaged." in said
    assert "4 of " in said
    for name in ("copy0", "copy1", "copy2", "other"):
        assert f"{name}: sound" not in said
    assert models("pack", "all.zip", "copy0")[0] == 2


def test_an_index_that_is_hosted(home, folder, tmp_path, monkeypatch):
    www = tmp_path / "www"
    shutil.copytree(folder / "tiny", www / "tiny")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # where "tiny" is no folder
    (www / "head.nii.gz").write_bytes(b"head")
    assert models("index", www, "--sample", f"tiny={www / 'head.nii.gz'}")[0] == 0
    assert models("index", www, "--sample", "tiny")[0] == 2
    with serving(www) as server:
        monkeypatch.setenv("E2ENET_INDEX", server.at("index.json"))
        status, said = models("available", "--json")
        assert status == 0
        (offered,) = json.loads(said)["models"]
        assert offered["name"] == "tiny"
        assert offered["title"] == "Tiny model with random weights"
        assert "CC0-1.0" in models("available")[1]
        outcome = CliRunner().invoke(app, ["models", "install", "tiny", "--progress", "json"])
        events = [json.loads(line) for line in outcome.stdout.splitlines()]
        assert outcome.exit_code == 0
        assert events[-1] == {
            "event": "result",
            "models": [{"name": "tiny", "path": str(home / "tiny")}],
        }
        assert {event["stage"] for event in events[:-1]} == {"download"}
        assert events[-2]["done"] == events[-2]["total"] == offered["bytes"]
        index = server.at("index.json")
    status, said = models("install", "tiny", "--replace", "--index", index)
    assert status == 2
    assert "cannot be reached" in " ".join(said.split())


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_killed_while_it_downloads(home, folder, tmp_path):
    www = tmp_path / "www"
    www.mkdir()
    pack(folder / "tiny", www / "tiny.zip")
    size = (www / "tiny.zip").stat().st_size
    command = [sys.executable, "-m", "e2enet", "models", "install", "--progress", "json"]
    with serving(www) as server:
        server.cuts, server.hold = [size - 1000], threading.Event()
        process = subprocess.Popen([*command, server.at("tiny.zip")], stdout=subprocess.PIPE)
        assert b'"download"' in process.stdout.readline()
        time.sleep(0.3)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        server.hold.set()
        server.hold = None
        assert not (home / "tiny").exists()
        assert subprocess.run([*command, server.at("tiny.zip")], check=True)
        assert str(server.asked[-1][1]).startswith("bytes=")
    assert models("verify", "tiny") == (0, "tiny: sound\n")
    assert [path.name for path in home.iterdir() if path.name != ".downloads"] == ["tiny"]


@pytest.mark.skipif(os.name != "posix", reason="limits are POSIX")
def test_a_full_disk_is_one_sentence(home, folder, tmp_path):
    """A limit on the size of files fails where a full disk would; then there is room again."""
    import resource

    www = tmp_path / "www"
    www.mkdir()
    pack(folder / "tiny", www / "tiny.zip")

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))

    with serving(www) as server:
        for source in (server.at("tiny.zip"), str(www / "tiny.zip"), str(folder / "tiny")):
            process = subprocess.run(
                [sys.executable, "-m", "e2enet", "models", "install", source, "--progress=json"],
                preexec_fn=small_files, stdout=subprocess.PIPE, check=False,
            )  # fmt: skip
            assert process.returncode == 2
            said = json.loads(process.stdout.splitlines()[-1])
            assert said["code"] == "output-not-writable"
            assert "cannot be written" in said["message"]
            assert not (home / "tiny").exists()
            assert [path.name for path in home.glob("*") if path.name != ".downloads"] == []
        assert models("install", server.at("tiny.zip"))[0] == 0
        assert server.asked[-1][1] == "bytes=9000-"


def test_a_zip_bomb(home, tmp_path):
    """A megabyte that would be eight gigabytes; looked at by its directory alone."""
    from e2enet.bundle.archive import MAX_BYTES

    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("model.json", "{}")
        for number in range(100):
            opened.writestr(f"zeros{number}", bytes(1 << 20))
        for info in opened.infolist():
            info.file_size = max(info.file_size, MAX_BYTES // 50)
    status, said = models("install", tmp_path / "bomb.zip")
    assert status == 2
    assert "more than a model ever holds" in " ".join(said.split())
    assert not home.exists() or list(home.iterdir()) == []


def test_a_narrow_terminal_cuts_no_column_off(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    told = CliRunner().invoke(app, ["models"]).stdout
    assert max(map(len, told.splitlines())) <= 80
    for word in ("hippocampus-mr", "hemispheres", "cerebellum,", "RightParotid,", "Apache-2.0"):
        assert word in told
