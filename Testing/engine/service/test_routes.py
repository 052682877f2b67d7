"""Jobs over HTTP: what is taken, what is answered, whose it is, and what stays on the disk."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.service.jobs.board import Board
from e2enet.service.jobs.database import Database
from e2enet.service.routes import changes

from .conftest import Served, ended


def test_a_job_from_its_file_to_its_results(served: Served, volume: Path, tmp_path: Path) -> None:
    id = served.send(volume.read_bytes())
    job = served.follow(id, ended)
    assert job["state"] == "done", job
    assert [label["name"] for label in job["result"]["labels"]] == ["sphere", "cube"]
    assert job["deleted_at"] - job["created"] > 23 * 3600
    status, content = served.ask("GET", f"/jobs/{id}/segmentation")
    assert status == 200
    (tmp_path / "labels.nii.gz").write_bytes(content)
    labels = sitk.ReadImage(os.fspath(tmp_path / "labels.nii.gz"))
    assert labels.GetSize() == sitk.ReadImage(os.fspath(volume)).GetSize()
    assert b"volume_ml" in served.ask("GET", f"/jobs/{id}/volumes")[1]
    manifest = served.ask("GET", f"/jobs/{id}/manifest")[1]
    # Nothing tells where on the server anything lies.
    assert str(served.folder) not in json.dumps([job, manifest])
    assert job["slices"] > 3
    picture = served.ask("GET", f"/jobs/{id}/slices/{job['slices'] - 1}")[1]
    (tmp_path / "slice.png").write_bytes(picture)
    pixels = sitk.GetArrayFromImage(sitk.ReadImage(os.fspath(tmp_path / "slice.png")))
    assert pixels.shape == (22, 16, 3)  # square pixels: 18 rows of 1.1 mm beside 0.9 mm
    assert served.ask("GET", f"/jobs/{id}/slices/{job['slices']}")[0] == 404
    # The volume has gone, and after a deletion everything.
    folder = served.folder / "jobs" / id
    assert [path.name for path in folder.iterdir()] == ["result-0"]
    assert served.ask("DELETE", f"/jobs/{id}")[0] == 200
    assert not folder.exists()
    assert served.ask("GET", f"/jobs/{id}")[0] == 404


def test_a_file_that_is_no_volume_of_the_model_fails_with_its_sentence(
    served: Served, tmp_path: Path
) -> None:
    path = tmp_path / "four.nii.gz"
    image = sitk.JoinSeries([sitk.GetImageFromArray(np.ones((5, 6, 7), np.float32))] * 3)
    sitk.WriteImage(image, os.fspath(path))
    id = served.send(path.read_bytes())
    job = served.follow(id, ended)
    assert job["state"] == "failed"
    assert job["error"]["code"] == "not-3d"
    assert "case_0000.nii.gz" in job["error"]["message"]
    status, answer = served.ask("GET", f"/jobs/{id}/segmentation")
    assert (status, answer["code"]) == (409, "job-state")
    served.ask("DELETE", f"/jobs/{id}")


def test_other_peoples_jobs_do_not_exist(served: Served) -> None:
    job = served.ask("POST", "/jobs", {"model": "tiny", "bytes": [10]})[1]["id"]
    for method, path in (("GET", ""), ("GET", "/events"), ("GET", "/manifest"), ("DELETE", "")):
        status, answer = served.ask(method, f"/jobs/{job}{path}", user="bob")
        assert (status, answer["code"]) == (404, "no-job")
    assert served.ask("PUT", f"/jobs/{job}/channels/0", b"0123456789", user="bob")[0] == 404
    assert served.ask("GET", "/jobs", user="bob")[1]["jobs"] == []
    assert served.ask("DELETE", f"/jobs/{job}")[0] == 200


def test_a_token_that_is_taken_back_ends_its_stream(served: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    headers = {"Authorization": f"Bearer {served.token('eve')}"}
    connection.request("GET", "/events", headers=headers)
    stream = connection.getresponse()
    assert stream.readline().startswith(b"data: ")
    database = Database(served.folder)
    database.set_token("eve", None)
    database.close()
    job = served.ask("POST", "/jobs", {"model": "tiny", "bytes": [10]})[1]["id"]  # a change
    assert (stream.readline(), stream.readline()) == (b"\n", b"")
    connection.close()
    served.ask("DELETE", f"/jobs/{job}")


def test_nothing_is_told_to_a_token_that_is_no_longer_taken() -> None:
    async def heard(allowed: bool) -> str:
        stream = changes(lambda: {"user": "eve"}, Board(), 60, lambda: allowed)
        return await anext(stream, "")

    assert asyncio.run(heard(True)) == 'data: {"user": "eve"}\n\n'
    assert asyncio.run(heard(False)) == ""


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"model": "../tiny"}, "no-model"),
        ({"model": "/etc"}, "no-model"),
        ({"bytes": [1, 2]}, "channel-count"),
        ({"bytes": []}, "bad-request"),
        ({"bytes": [0]}, "too-large"),
        ({"roi": ["/etc/passwd.json"]}, "bad-roi"),
        ({"roi": ["x:/etc/a.mrk.json"]}, "bad-roi"),
        ({"roi": ["1,2,3,4,5,6,7"]}, "bad-roi"),
        ({"output": "/a.nii.gz"}, "bad-request"),
    ],
)
def test_jobs_that_are_not_taken(served: Served, change: dict, code: str) -> None:
    status, answer = served.ask("POST", "/jobs", {"model": "tiny", "bytes": [100], **change})
    assert status in (400, 413)
    assert answer["code"] == code
    assert served.ask("GET", "/jobs")[1]["jobs"] == []


@pytest.mark.parametrize(
    "path",
    ["/jobs/../../etc/passwd", "/jobs/%2e%2e%2fjobs.sqlite", "/jobs/x/..%2f..%2fjobs.sqlite",
     "/..%2fguard.py", "//etc/passwd", "/jobs/%00", "/page/../guard.py"],
)  # fmt: skip
def test_no_path_reaches_a_file(served: Served, path: str) -> None:
    status, answer = served.ask("GET", path)
    assert status == 404
    assert set(answer) == {"code", "message", "help"}


def test_files_of_another_kind_or_length(served: Served, volume: Path) -> None:
    bomb = gzip.compress(bytes(10_000))
    for content, code in ((bomb, "not-nifti"), (volume.read_bytes()[:-30], "damaged-file")):
        new = {"model": "tiny", "bytes": [len(content)]}
        id = served.ask("POST", "/jobs", new)[1]["id"]
        status, answer = served.ask("PUT", f"/jobs/{id}/channels/0", content + b"more")
        assert (status, answer["code"]) == (400, "bad-request")
        status, answer = served.ask("PUT", f"/jobs/{id}/channels/0", content)
        assert (status, answer["code"]) == (400, code)
        assert served.ask("PUT", f"/jobs/{id}/channels/1", content)[0] == 409
        assert not list((served.folder / "jobs" / id).iterdir())
        served.ask("DELETE", f"/jobs/{id}")


def test_too_many_jobs_of_one_user(served: Served) -> None:
    new = {"model": "tiny", "bytes": [10]}
    made = [served.ask("POST", "/jobs", new, user="busy") for _ in range(21)]
    assert [status for status, _ in made] == [201] * 20 + [429]
    assert made[-1][1]["code"] == "queue-full"
    assert served.ask("POST", "/jobs", new, user="other")[0] == 201  # not the others' fault
    for user in ("busy", "other"):
        for job in served.ask("GET", "/jobs", user=user)[1]["jobs"]:
            served.ask("DELETE", f"/jobs/{job['id']}", user=user)
