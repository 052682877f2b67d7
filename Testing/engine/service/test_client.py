"""`e2enet segment --server`: the same result as here, whatever happens on the way."""

from __future__ import annotations

import csv
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.cli.app import app
from e2enet.events import BadInput, Reporter
from e2enet.inference.case.inputs import InputCase
from e2enet.service.client import _with_our_names, segment_on_server
from e2enet.service.connection import Server, read_token
from typer.testing import CliRunner

from .conftest import Served, another_model


def segment(*words: object, token: str = "", monkeypatch: pytest.MonkeyPatch) -> tuple[int, list]:
    monkeypatch.setenv("E2ENET_TOKEN", token)
    done = CliRunner().invoke(app, ["segment", *map(str, words), "--progress", "json"])
    return done.exit_code, [json.loads(line) for line in done.stdout.splitlines()]


def test_the_same_as_here(
    served: Served, volume: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch
) -> None:
    here, there = tmp_path / "here.nrrd", tmp_path / "there.nrrd"
    roi = ["--roi", "-30,0,0,8,30,30"]
    words = [volume, "--model", tiny_bundle, "--output", here, *roi]
    assert segment(*words, monkeypatch=monkeypatch)[0] == 0
    status, events = segment(
        volume, "--model", "tiny", "--server", served.url, "--output", there, *roi,
        token=served.token(), monkeypatch=monkeypatch,
    )  # fmt: skip
    assert status == 0, events
    labels = [sitk.ReadImage(os.fspath(path)) for path in (here, there)]
    np.testing.assert_array_equal(*map(sitk.GetArrayFromImage, labels))
    assert len(np.unique(sitk.GetArrayFromImage(labels[0]))) > 1
    for read in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert getattr(labels[0], read)() == getattr(labels[1], read)()
    tables = [
        list(csv.reader((tmp_path / f"{name}.volumes.csv").open())) for name in ("here", "there")
    ]
    assert [row[:2] for row in tables[0]] == [row[:2] for row in tables[1]]
    result = events[-1]
    assert (result["event"], Path(result["output"])) == ("result", there)
    stages = {event["stage"] for event in events if event["event"] == "progress"}
    assert {"read", "upload", "write"} <= stages
    manifest = json.loads((tmp_path / "there.manifest.json").read_text(encoding="utf-8"))
    assert manifest["server"] == served.url
    assert manifest["inputs"][0]["path"] == os.fspath(volume)
    assert manifest["case"] == "head"
    assert served.ask("GET", "/jobs")[1]["jobs"] == []  # nothing stays there


def test_a_study_with_a_scout_and_another_modality_as_here(
    served: Served, dicom_series: Any, tiny_bundle: Path, tmp_path: Path, monkeypatch
) -> None:
    """The model's modality chooses, and the record says what was read and what of it was odd."""
    study = tmp_path / "study"
    array = np.random.default_rng(0).normal(100, 20, (16, 16, 18)).astype(np.int16)
    dicom_series(
        study / "scout", array, uid="1.1", modality="MR", image_type="ORIGINAL\\PRIMARY\\LOCALIZER"
    )
    dicom_series(study / "T1", array, number=2, uid="1.2", modality="MR", heights=range(16))
    dicom_series(study / "CT", array, number=3, uid="1.3", modality="CT")
    manifests, warned = [], []
    with another_model(tiny_bundle, "other"):
        for name, where in (
            ("here", ["--model", tiny_bundle.with_name("other"), "--device", "cpu"]),
            ("there", ["--model", "other", "--server", served.url]),
        ):
            status, events = segment(
                study, *where, "--output", tmp_path / f"{name}.nii.gz",
                token=served.token(), monkeypatch=monkeypatch,
            )  # fmt: skip
            assert status == 0, events
            text = (tmp_path / f"{name}.manifest.json").read_text(encoding="utf-8")
            manifests.append(json.loads(text))
            warned.append([e for e in events if e["event"] == "warning"])
    here, there = manifests
    assert there["inputs"] == here["inputs"]
    assert there["inputs"][0]["series_uid"] == "1.2"
    assert "series-chosen" in [warning["code"] for warning in here["warnings"]]
    assert there["warnings"] == here["warnings"]
    assert warned[1] == warned[0]


def test_warnings_are_those_of_a_run_here(
    served: Served, tiny_bundle: Path, tmp_path: Path, monkeypatch
) -> None:
    """Of reading here and of segmenting there, about the file by its own name."""
    array = np.random.default_rng(0).normal(100, 20, (12, 18, 16)).astype(np.float32)
    array[3, 4, 5] = np.nan
    path = tmp_path / "DOE.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(array), os.fspath(path))
    far = ["--roi", "0,0,0,0.1,0.1,0.1"]
    manifests = []
    for name, where in (
        ("here", ["--model", tiny_bundle, "--device", "cpu"]),
        ("there", ["--model", "tiny", "--server", served.url]),
    ):
        status, events = segment(
            path, *where, *far, "--output", tmp_path / f"{name}.nii.gz",
            token=served.token(), monkeypatch=monkeypatch,
        )  # fmt: skip
        assert status == 0, events
        text = (tmp_path / f"{name}.manifest.json").read_text(encoding="utf-8")
        manifests.append(json.loads(text))
    here, there = manifests
    assert [one["code"] for one in here["warnings"]] == ["not-finite", "nothing-found"]
    assert "found in DOE." in here["warnings"][1]["message"]
    assert there["warnings"] == here["warnings"]


def test_names_in_what_the_server_says() -> None:
    case = InputCase("DOE", (Path("x/DOE_0000.nii.gz"), Path("x/case_0000.nii.gz")))
    for theirs, ours in (
        ("None of the model's structures was found in case.",
         "None of the model's structures was found in DOE."),
        ("case_0000.nii.gz and case_0001.nii.gz lie on different grids.",
         "DOE_0000.nii.gz and case_0000.nii.gz lie on different grids."),
        ("case_0002.nii.gz is none of ours, in any case of these.",
         "case_0002.nii.gz is none of ours, in any case of these."),
    ):  # fmt: skip
        assert _with_our_names(theirs, case) == ours


def test_only_voxels_and_geometry_are_sent(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a file says beside that stays here."""
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(9, 1, (8, 9, 10)))
    image.SetMetaData("descrip", "DOE^JANE")
    image.SetMetaData("aux_file", "1970-01-01")
    path = tmp_path / "DOE_JANE.nii.gz"
    sitk.WriteImage(image, os.fspath(path))
    sent = []
    send = Server.open

    def spy(self: Server, method: str, path: str, body: Any = None, **options: Any) -> Any:
        if body is not None:
            body = body if isinstance(body, bytes) else b"".join(body)
            sent.append(body)
            if method == "PUT":
                body, options = iter([body]), options
        return send(self, method, path, body, **options)

    monkeypatch.setattr(Server, "open", spy)
    output = tmp_path / "out.nii.gz"
    server = Server(served.url, served.token())
    segment_on_server([path], "tiny", server=server, output=output)
    assert len(sent) == 2
    (tmp_path / "sent.nii.gz").write_bytes(sent[1])
    again = sitk.ReadImage(os.fspath(tmp_path / "sent.nii.gz"))
    assert again.GetSize() == image.GetSize()
    assert again.GetMetaData("descrip") == ""
    assert again.GetMetaData("aux_file") == ""
    assert b"DOE" not in sent[0]


class Heard(Reporter):
    """Notes stages, and calls somebody at one of them."""

    def __init__(self, stage: str = "", call: Callable[[], Any] | None = None) -> None:
        self.codes: list[str] = []
        self._stage, self._call = stage, call

    def progress(self, stage: str, done: int, total: int) -> None:
        if stage == self._stage and self._call:
            call, self._call = self._call, None
            call()

    def warning(self, code: str, message: str) -> None:
        self.codes.append(code)


def test_a_server_that_vanishes_for_a_while(
    serving: Callable[..., Served], volume: Path, tmp_path: Path
) -> None:
    served = serving()
    server = Server(served.url, served.token())

    def crash() -> None:
        served.end(signal.SIGKILL)
        threading.Timer(1, served.start).start()

    heard = Heard("waiting", crash)
    output = tmp_path / "out.nii.gz"
    served.send(volume.read_bytes(), user="bob")  # so that there is something to wait for
    segment_on_server([volume], "tiny", server=server, output=output, reporter=heard)
    assert output.exists()
    assert "server-away" in heard.codes
    served.end()


def test_a_server_that_is_gone_for_good(
    serving: Callable[..., Served], volume: Path, tmp_path: Path
) -> None:
    served = serving()
    server = Server(served.url, served.token())
    heard = Heard("upload", lambda: served.end(signal.SIGKILL))
    with pytest.raises(BadInput, match="does not answer") as caught:
        segment_on_server(
            [volume], "tiny", server=server, output=tmp_path / "out.nii.gz", reporter=heard,
            patience_s=1,
        )  # fmt: skip
    assert caught.value.code == "server-away"
    assert list(tmp_path.glob("out*")) == []


def test_cancel_deletes_the_job(served: Served, long_volume: Path, tmp_path: Path) -> None:
    words = ["--model", "tiny", "--tta", "--output", str(tmp_path / "out.nii.gz")]
    process = subprocess.Popen(
        [sys.executable, "-m", "e2enet", "segment", str(long_volume), *words,
         "--server", served.url, "--progress", "json"],
        env={**os.environ, "E2ENET_TOKEN": served.token()}, stdout=subprocess.PIPE,
        encoding="utf-8",
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if '"inference"' in line:
            break
    process.terminate()
    assert json.loads(process.stdout.read().splitlines()[-1])["code"] == "cancelled"
    assert process.wait() == 130
    process.stdout.close()
    assert served.ask("GET", "/jobs")[1]["jobs"] == []
    for _ in range(100):
        if not list((served.folder / "jobs").iterdir()):
            break
        time.sleep(0.1)
    assert not list((served.folder / "jobs").iterdir())
    assert list(tmp_path.iterdir()) == []


def test_what_the_server_refuses_is_its_own_sentence(
    served: Served, tmp_path: Path, volume: Path, monkeypatch
) -> None:
    path = tmp_path / "ct.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((3, 3, 40), np.int16)), os.fspath(path))
    cases = [
        (volume, ["--model", "none"], served.token(), "no-model"),
        (volume, ["--model", "tiny"], "e2enet_wrong", "wrong-token"),
        (volume, ["--model", "tiny", "--device", "cpu"], served.token(), "not-on-a-server"),
        (volume, ["--model", "tiny", "--roi", "x"], served.token(), "bad-roi"),
        (volume, ["--model", "tiny", "--roi", "900,0,0,901,1,1"], served.token(), "roi-outside"),
        (tmp_path, ["--model", "tiny", "--resume"], served.token(), "not-on-a-server"),
        (tmp_path, ["--model", "none"], served.token(), "no-model"),
        (tmp_path, ["--model", "tiny"], "e2enet_wrong", "wrong-token"),
    ]
    for image, words, token, code in cases:
        status, events = segment(
            image, *words, "--server", served.url, "--output", tmp_path / "o" / "out.nii.gz",
            token=token, monkeypatch=monkeypatch,
        )  # fmt: skip
        assert (status, events[-1]["code"]) == (2, code)
        assert "case_0000" not in events[-1]["message"]
        assert not (tmp_path / "o").exists()
    assert served.ask("GET", "/jobs")[1]["jobs"] == []


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("file:///etc/passwd", "bad-url"),
        ("ftp://server", "bad-url"),
        ("https://", "bad-url"),
        ("https://[::1", "bad-url"),
        ("http://server:x", "bad-url"),
        ("http://10.0.0.1:8642", "no-encryption"),
        ("http://localhost.example", "no-encryption"),
        ("https://me:secret@server", "token-in-url"),
        ("https://server/?token=secret", "token-in-url"),
        ("https://server/secret", "token-in-url"),
    ],
)
def test_addresses_that_are_not_asked(url: str, code: str) -> None:
    with pytest.raises(BadInput) as caught:
        Server(url, "secret")
    assert caught.value.code == code


def test_where_a_token_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text("mine\n")
    monkeypatch.setenv("E2ENET_TOKEN", " other ")
    assert read_token(file) == "mine"
    assert read_token(None) == "other"
    monkeypatch.delenv("E2ENET_TOKEN")
    for content in ("", "two words", "ü"):
        file.write_text(content, encoding="utf-8")
        with pytest.raises(BadInput) as caught:
            read_token(file)
        assert caught.value.code == "no-token"
    for missing in (None, tmp_path / "none"):
        with pytest.raises(BadInput) as caught:
            read_token(missing)
        assert caught.value.code == "no-token"


@contextmanager
def answering(path: str, status: int, body: bytes, **headers: str) -> Iterator[Server]:
    """Another server, which says this at one address, and lists a model as one of ours does."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status if self.path == path else 200)
            for name, value in headers.items() if self.path == path else ():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body if self.path == path else b'{"models": [{"name": "tiny"}]}')

        do_POST = do_PUT = do_DELETE = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as other:
        thread = threading.Thread(target=other.serve_forever, daemon=True)
        thread.start()
        yield Server(f"http://127.0.0.1:{other.server_port}", "secret")
        other.shutdown()
    assert set(asked) <= {"/models", path}  # nobody was sent elsewhere


@pytest.mark.parametrize("path", ["/models", "/jobs"])
@pytest.mark.parametrize(
    ("status", "body", "headers", "code"),
    [
        (302, b"", {"Location": "file:///etc/passwd"}, "server-redirects"),
        (307, b"", {"Location": "http://localhost:1/jobs"}, "server-redirects"),
        (404, b"<html>", {}, "server-refused"),
        (200, b"<html>", {}, "server-away"),
        (200, b"[]", {}, "server-not-understood"),
        (200, b'{"id": 3, "models": [{}, []]}', {}, "server-not-understood"),
        (503, b"", {}, "server-away"),
    ],
)
def test_other_servers(
    path: str, status: int, body: bytes, headers: dict, code: str, volume: Path, tmp_path: Path
) -> None:
    with answering(path, status, body, **headers) as server, pytest.raises(BadInput) as caught:
        segment_on_server([volume], "tiny", server=server, output=tmp_path / "out.nii.gz")
    assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []
