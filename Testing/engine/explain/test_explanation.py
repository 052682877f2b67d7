"""From files to a folder that explains itself: files, index, report, and what is refused."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.events import BadInput, Reporter
from e2enet.explain.explanation import explain

LEFT_HANDED_OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, -1.0)


class Heard(Reporter):
    def __init__(self):
        self.warnings, self.stages = [], []

    def warning(self, code, message):
        self.warnings.append(code)

    def progress(self, stage, done, total):
        self.stages.append(stage)


@pytest.fixture(scope="module")
def written(tiny_bundle, tmp_path_factory) -> tuple[Path, Path, dict]:
    """An explanation of an oblique image: image, folder and index."""
    folder = tmp_path_factory.mktemp("explained")
    array = np.random.default_rng(0).normal(100, 20, (18, 16, 20)).astype(np.float32)
    array[4:12, 4:12, 5:14] += 150
    image = sitk.GetImageFromArray(array)
    image.SetDirection(LEFT_HANDED_OBLIQUE)
    image.SetOrigin((3.0, -40.0, 7.5))
    path = folder / "case.nii.gz"
    sitk.WriteImage(image, str(path))
    output = folder / "why"
    result = explain(path, tiny_bundle, output=output, nodes="2:0,1:1", labels=["sphere"])
    return path, output, {"index": result.index, "event": result.describe()}


def test_the_index_lists_every_file_and_no_other(written):
    _, folder, results = written
    index = json.loads((folder / "explain.json").read_text(encoding="utf-8"))
    assert index == results["index"]
    listed = {"explain.json", index["report"], index["segmentation"]}
    listed |= {name for name in index["flow"].values() if name}
    listed |= {entry["path"] for entry in (*index["volumes"], *index["figures"])}
    assert {path.name for path in folder.iterdir()} == listed


def test_the_event_names_the_same_files_absolutely(written):
    _, folder, results = written
    event = results["event"]
    json.dumps(event, allow_nan=False)
    assert Path(event["output"]) == folder
    assert Path(event["index"]) == folder / "explain.json"
    for entry in (*event["volumes"], *event["figures"]):
        assert Path(entry["path"]).is_file()
        assert Path(entry["path"]).is_absolute()
    for name in ("json", "csv", "figure"):
        assert Path(event["flow"][name]).is_file()


def test_volumes_say_what_they_are(written):
    _, _, results = written
    found = [
        (v["stage"], v["level"], v["label"] and v["label"]["name"], v["direction"], v["kind"])
        for v in results["index"]["volumes"]
    ]
    expected = [
        (stage, level, label, direction, kind)
        for label in (None, "sphere")
        for stage, level, directions in (
            (2, 0, ("forward", "upward")),
            (1, 1, ("forward", "upward", "downward")),
        )
        for direction, kind in [
            *((d, k) for d in directions for k in ("raw", "normalised")),
            (None, "dominant"),
        ]
    ]
    assert found == expected


def test_volumes_are_a_part_of_the_input_s_grid(written):
    path, folder, results = written
    image, index = sitk.ReadImage(str(path)), results["index"]
    label = sitk.ReadImage(str(folder / index["segmentation"]))
    part = sitk.RegionOfInterest(image, index["region"]["size"], index["region"]["first"])
    for like, names in (
        (image, [index["segmentation"]]),
        (part, [entry["path"] for entry in index["volumes"]]),
    ):
        for name in names:
            volume = sitk.ReadImage(str(folder / name))
            assert volume.GetSize() == like.GetSize()
            for what in ("GetOrigin", "GetSpacing", "GetDirection"):
                np.testing.assert_allclose(
                    getattr(volume, what)(), getattr(like, what)(), atol=1e-6
                )
    # 6 mm around what was found, and nothing beyond.
    assert index["region"]["margin_mm"] == 6
    inside = sitk.GetArrayFromImage(label) > 0
    far = (
        sitk.GetArrayFromImage(
            sitk.BinaryDilate(sitk.Cast(label > 0, sitk.sitkUInt8), (6, 6, 6), sitk.sitkBall)
        )
        == 0
    )
    shown = np.zeros(inside.shape, bool)
    i, j, k = index["region"]["first"]
    x, y, z = index["region"]["size"]
    for entry in index["volumes"]:
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / entry["path"])))
        shown[k : k + z, j : j + y, i : i + x] |= array != 0
    assert shown[inside].mean() > 0.9
    assert not shown[far].any()


def test_raw_normalised_and_dominant_belong_together(written):
    _, folder, results = written
    volumes = {
        (v["stage"], v["level"], v["label"] and v["label"]["name"], v["direction"], v["kind"]): (
            v,
            sitk.GetArrayFromImage(sitk.ReadImage(str(folder / v["path"]))),
        )
        for v in results["index"]["volumes"]
    }
    for entry, array in volumes.values():
        assert [float(array.min()), float(array.max())] == pytest.approx(entry["range"])
        assert entry["display"][1] > 0
    directions = ("forward", "upward", "downward")
    raw = np.stack([volumes[1, 1, None, d, "raw"][1] for d in directions])
    shown = np.stack([volumes[1, 1, None, d, "normalised"][1] for d in directions])
    np.testing.assert_allclose(shown, raw / raw.max(), rtol=1e-5)
    leading = volumes[1, 1, None, None, "dominant"][1]
    np.testing.assert_array_equal(leading, np.where(raw.any(0), raw.argmax(0) + 1, 0))


def test_shares_are_those_of_the_volumes(written):
    _, folder, results = written
    index = results["index"]
    label = sitk.ReadImage(str(folder / index["segmentation"]))
    region = index["region"]
    label = sitk.GetArrayFromImage(sitk.RegionOfInterest(label, region["size"], region["first"]))
    numbers = {entry["name"]: entry["value"] for entry in index["labels"]}
    sums = {}
    for v in index["volumes"]:
        if v["kind"] == "raw" and v["label"] is None and (v["stage"], v["level"]) == (2, 0):
            sums[v["direction"]] = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / v["path"])))
    wanted = [s for s in index["shares"] if s["label"] is None and s["stage"] == 2]
    assert wanted[0]["where"] == "region"
    for share in wanted:
        where = share["where"]
        inside = np.ones_like(label, bool) if where == "region" else label == numbers[where]
        masses = {d: one[inside].sum(dtype=np.float64) for d, one in sums.items()}
        total = sum(masses.values())
        expected = {d: mass / total for d, mass in masses.items()}
        assert share["directions"] == pytest.approx(expected, abs=1e-4)


def test_the_report_needs_nothing_else(written):
    _, folder, _ = written
    page = (folder / "report.html").read_text(encoding="utf-8")

    class Links(HTMLParser):
        def __init__(self):
            super().__init__()
            self.found, self.open = [], []

        def handle_starttag(self, tag, attributes):
            self.found += [v for k, v in attributes if k in ("src", "href")]
            if tag not in ("meta", "img", "br", "link"):
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    links = Links()
    links.feed(page)
    assert not links.open
    assert links.found
    for link in links.found:
        assert link.startswith("data:image/png;base64,")
        assert base64.b64decode(link.split(",")[1]).startswith(b"\x89PNG")
    assert not re.search(r"https?://", page)
    assert "2:0" in page
    assert "sphere" in page


def test_the_flow_needs_no_image(tiny_bundle, tmp_path):
    heard = Heard()
    result = explain(None, tiny_bundle, output=tmp_path / "flow", reporter=heard)
    assert result.index["input"] is None
    assert result.index["volumes"] == []
    assert result.index["segmentation"] is None
    assert result.index["region"] is None
    assert {path.name for path in result.folder.iterdir()} == {
        "explain.json", "report.html", "flow.json", "flow.csv", "flow.png", "flow_history.png",
    }  # fmt: skip


def test_a_model_without_history_says_so(make_bundle, tmp_path):
    heard = Heard()
    result = explain(None, make_bundle(), output=tmp_path / "out", reporter=heard)
    assert heard.warnings == ["no-history"]
    assert [w["code"] for w in result.index["warnings"]] == ["no-history"]
    assert result.index["flow"]["history_figure"] is None
    assert "no history" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_dense_model(make_bundle, write_case, tmp_path):
    image = write_case(shape=(16, 16, 16))
    result = explain(image, make_bundle(sparsity=0.0), output=tmp_path / "out", nodes="all")
    assert len(result.index["volumes"]) == 2 * 5 + 1 * 7
    assert all(v["range"][1] > 0 for v in result.index["volumes"] if v["kind"] == "raw")


def test_stages_are_told(tiny_bundle, write_case, tmp_path):
    heard = Heard()
    image = write_case(shape=(16, 16, 16))
    explain(image, tiny_bundle, output=tmp_path / "out", nodes="2:0", reporter=heard)
    stages = list(dict.fromkeys(heard.stages))
    assert stages == ["read", "inference", "importance", "write", "figures"]


def test_a_label_that_is_not_found_is_a_warning(tiny_bundle, write_case, tmp_path, monkeypatch):
    from e2enet.explain.volumes import Explainer

    monkeypatch.setattr(
        Explainer, "segment", lambda self, case: np.zeros(case.canonical_grid.shape, np.uint8)
    )
    heard = Heard()
    result = explain(
        write_case(shape=(16, 16, 16)), tiny_bundle, output=tmp_path / "out", nodes="2:0",
        labels=["cube"], reporter=heard,
    )  # fmt: skip
    assert heard.warnings == ["label-not-found"]
    # Nothing was found: the maps show all that the network looked at.
    assert result.index["region"] == {"first": [0, 0, 0], "size": [16, 16, 16], "margin_mm": None}


def test_an_earlier_explanation_is_replaced_and_nothing_else_is_touched(tiny_bundle, tmp_path):
    output = tmp_path / "out"
    explain(None, tiny_bundle, output=output)
    index = json.loads((output / "explain.json").read_text(encoding="utf-8"))
    (output / "old.nrrd").write_text("listed before")
    (output / "mine.txt").write_text("not listed")
    outside = tmp_path / "outside.txt"
    outside.write_text("not in the folder")
    index["volumes"] = [{"path": "old.nrrd"}, {"path": "../outside.txt"}]
    (output / "explain.json").write_text(json.dumps(index), encoding="utf-8")
    explain(None, tiny_bundle, output=output)
    assert not (output / "old.nrrd").exists()
    assert (output / "mine.txt").exists()
    assert outside.exists()


def refused(tmp_path, *arguments, **options) -> BadInput:
    """What is raised, after a look that nothing was written."""
    before = sorted(p for p in tmp_path.rglob("*") if "bundles" not in p.parts)
    with pytest.raises(BadInput) as caught:
        explain(*arguments, **options)
    assert sorted(p for p in tmp_path.rglob("*") if "bundles" not in p.parts) == before
    return caught.value


def test_what_is_refused(tiny_bundle, make_bundle, write_case, tmp_path):
    image = write_case(shape=(16, 16, 16))
    out = tmp_path / "out"
    error = refused(tmp_path, image, tiny_bundle, output=out, nodes="5:5")
    assert error.code == "no-node"
    assert "1:0, 1:1, 2:0" in error.help
    assert refused(tmp_path, image, tiny_bundle, output=out, labels=["liver"]).code == "no-label"
    assert refused(tmp_path, None, tiny_bundle, output=out, labels=["cube"]).code == "no-input"
    assert refused(tmp_path, tmp_path / "no.nii", tiny_bundle, output=out).code == "missing-file"
    assert refused(tmp_path, tmp_path, tiny_bundle, output=out).code == "several-cases"
    two = make_bundle(channels=2)
    assert refused(tmp_path, image, two, output=out).code == "channel-count"
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(image.read_bytes()[:200])
    assert refused(tmp_path, broken, tiny_bundle, output=out).code in (
        "damaged-file", "unreadable-image",
    )  # fmt: skip
    assert refused(tmp_path, image, "no-such-model", output=out).code == "no-model"
    assert refused(tmp_path, image, tiny_bundle, output=image).code == "output-not-folder"
    assert refused(tmp_path, image, tiny_bundle, output=tmp_path).code == "output-not-empty"
    assert refused(tmp_path, image, tiny_bundle, output=out, device="gpu").code == "no-device"


def test_the_input_is_never_replaced(tiny_bundle, write_case, tmp_path):
    output = tmp_path / "out"
    explain(None, tiny_bundle, output=output)
    image = write_case("out/segmentation.nrrd", shape=(16, 16, 16))
    content = image.read_bytes()
    with pytest.raises(BadInput) as caught:
        explain(image, tiny_bundle, output=output, nodes="2:0")
    assert caught.value.code == "output-is-input"
    assert image.read_bytes() == content
