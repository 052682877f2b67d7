"""Models from the internet: a real server on this computer that cuts, lies and redirects."""

import hashlib
import http.server
import threading
import time

import pytest
from E2ENetSegmentationLib.core import Core
from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.models.download import Download
from E2ENetSegmentationLib.models.panel import ModelsPanel
from E2ENetSegmentationLib.refusal import Refused
from harness.host import FakeHost
from harness.tabs import RESOURCES
from harness.widgets import Ui


@pytest.fixture
def archive(models, tmp_path, monkeypatch):
    """A sound model as a zip."""
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "data"))
    core = Core()
    return core.store.exportModel(core.store.open("tiny"), tmp_path / "tiny.zip").read_bytes()


@pytest.fixture
def server(archive):
    """It serves /model.zip, in parts if asked; `cut` bytes at most at a time; keeps `asked`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range")
            server.asked.append((self.path, asked))
            if self.path == "/away":
                self.send_response(302)
                self.send_header("Location", server.away)
                self.end_headers()
                return
            if not self.path.endswith("/model.zip"):
                self.send_error(404)
                return
            start = 0
            if asked and self.headers.get("If-Range") == server.version:
                start = int(asked[len("bytes=") :].rstrip("-"))
            body = server.body[start:]
            self.send_response(206 if start else 200)
            self.send_header("ETag", server.version)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: server.cut])
            if server.hold:
                self.wfile.flush()
                server.hold.wait(20)

        def log_message(self, *_args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.body, server.cut, server.asked, server.hold = archive, None, [], None
    server.version, server.away = '"1"', ""
    server.url = f"http://127.0.0.1:{server.server_port}/model.zip"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    if server.hold:
        server.hold.set()
    server.shutdown()
    server.server_close()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def finish(run):
    run.start()
    end = time.monotonic() + 60
    while run.poll():
        assert time.monotonic() < end
        time.sleep(0.02)
    return run


def test_what_was_cut_off_is_gone_on_with(server, archive):
    events = []
    server.cut = len(archive) // 2
    with pytest.raises(Refused, match=r"broke after|could not be fetched"):
        finish(Download(server.url, sha256(archive)))
    server.cut = None
    run = finish(Download(server.url, sha256(archive), events.append))
    assert run.path.read_bytes() == archive
    assert server.asked[1] == ("/model.zip", f"bytes={len(archive) // 2}-")
    progress = [event for event in events if event["event"] == "progress"]
    assert progress[0]["done"] > len(archive) // 2
    assert progress[-1]["done"] == progress[-1]["total"] == len(archive)
    assert [p.name for p in run.target.parent.iterdir()] == [run.target.name]
    run.clean()
    assert list(run.target.parent.iterdir()) == []


def test_another_file_by_now_is_fetched_from_its_start(server, archive):
    server.cut = 1000
    with pytest.raises(Refused):
        finish(Download(server.url, sha256(archive)))
    server.cut, server.version = None, '"2"'
    run = finish(Download(server.url, sha256(archive)))
    assert run.path.read_bytes() == archive


def test_cancel_keeps_what_came(server, archive):
    server.cut, server.hold = 2000, threading.Event()
    run = Download(server.url, sha256(archive))
    run.start()
    end = time.monotonic() + 30
    part = run.target.with_name(run.target.name + ".part")
    while run.poll() and not (part.exists() and part.stat().st_size >= 2000):
        assert time.monotonic() < end
        time.sleep(0.02)
        server.hold.set()
    run.cancel()
    server.cut, server.hold = None, None
    assert finish(Download(server.url, sha256(archive))).path.read_bytes() == archive


def test_another_file_than_was_meant(server, archive):
    with pytest.raises(Refused, match="not the one that was expected"):
        finish(Download(server.url, sha256(b"another")))
    part = Download(server.url, sha256(archive)).target
    assert not part.exists()
    assert finish(Download(server.url, sha256(archive))).path.read_bytes() == archive


@pytest.mark.parametrize("away", ["file:///etc/passwd", "ftp://127.0.0.1/model.zip"])
def test_redirection_leads_nowhere_else(server, archive, away):
    server.away = away
    with pytest.raises(Refused, match=r"not followed|not allowed|cannot be reached|answers 302"):
        finish(Download(server.url.replace("model.zip", "away"), sha256(archive)))


def test_what_is_not_there(server, archive):
    with pytest.raises(Refused, match="answers 404"):
        finish(Download(server.url.replace("model.zip", "other.zip"), sha256(archive)))
    server.shutdown()
    server.server_close()
    with pytest.raises(Refused, match="cannot be reached"):
        finish(Download(server.url, sha256(archive)))


def test_through_a_proxy(server, archive, monkeypatch):
    """The proxy is asked for an address that only it can reach."""
    monkeypatch.setenv("http_proxy", server.url.rsplit("/", 1)[0])
    monkeypatch.delenv("no_proxy", raising=False)
    run = finish(Download("http://models.invalid/model.zip", sha256(archive)))
    assert run.path.read_bytes() == archive
    assert server.asked == [("http://models.invalid/model.zip", None)]


@pytest.mark.parametrize(
    ("address", "digest", "sentence"),
    [
        ("/home/me/model.zip", "", "is no address"),
        ("file:///home/me/model.zip", "", "is no address"),
        ("https://host", "", "is no address"),
        ("https://host/model.zip", "12", "has 64 digits"),
        ("http://host/model.zip", "", "anybody on the way"),
    ],
)
def test_addresses(archive, address, digest, sentence):
    with pytest.raises(Refused, match=sentence):
        Download(address, digest)


class Tab:
    def __init__(self):
        self.ui, self.host, self.told = Ui(RESOURCES / "UI" / "ModelsTab.ui"), FakeHost(), []
        self.panel = ModelsPanel(self.ui, Core(), self.host, self.told.append)

    def install(self, address, digest):
        self.ui.addressEdit.text, self.ui.hashEdit.text = address, digest
        self.ui.installModelButton.click()
        self.host.pump(lambda: not self.panel.running)
        return self.ui.modelsStatusLabel.text


def test_click_path(server, archive):
    tab = Tab()
    assert not tab.ui.installModelButton.enabled
    assert tab.install(server.url, sha256(archive)) == "Imported Tiny model with random weights."
    assert tab.told == ["tiny"]
    assert (paths.modelsFolder() / "tiny").is_dir()
    assert list((paths.modelsFolder() / ".downloads").iterdir()) == []
    assert [m.name for m in tab.panel.models].count("tiny") == 1
    server.body = b"no zip at all"
    said = tab.install(server.url, sha256(server.body))
    assert "is not a readable zip" in said
    assert tab.ui.installModelButton.enabled
    assert list((paths.modelsFolder() / ".downloads").iterdir()) == []


def test_sample_of_a_model(archive):
    tab = Tab()
    names = [model.name for model in tab.panel.models]
    tab.ui.modelsTable.selectRow(names.index("tiny"))
    assert not tab.ui.sampleButton.enabled
    assert "Size: " in tab.ui.modelDetailsLabel.text
    tab.ui.modelsTable.selectRow(names.index("hippocampus-mr"))
    tab.ui.sampleButton.click()
    assert tab.host.opened == [("SampleData", "MNI152Head")]


def test_results_are_those_that_were_measured(archive):
    from dataclasses import replace

    model = Core().store.open("tiny")
    entry = {
        "references": "Task/labelsTs",
        "cases": ["a", "b"],
        "tta": True,
        "mean_by_label": {"sphere": {"Dice": 0.9123}, "cube": {"Dice": None}},
    }
    content = {**model.content, "results": [entry, "typed by hand", {"cases": 3}]}
    assert replace(model, content=content).results() == [
        "Dice on 2 cases of Task/labelsTs, with mirroring: sphere 0.912"
    ]
    assert replace(model, content={**content, "results": "very good"}).results() == []
