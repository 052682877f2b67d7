"""DICOM SEG: read back by highdicom and by pydicom alone, refused without a DICOM source."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from e2enet.cli.app import app
from e2enet.data.images.volume import Grid, read_image, write_label
from e2enet.events import BadInput
from e2enet.inference import segment
from e2enet.interop.dicom.writing import label_map_to_seg, segment_to_seg
from typer.testing import CliRunner

OBLIQUE = (0.8, 0.6, 0, 0, 0, -1)
Series = Callable[..., list[Path]]


@pytest.fixture
def study(tmp_path: Path, dicom_series: Series) -> Path:
    """Two series: a scout, and an MR of 20 oblique slices with its files in no order."""
    array = np.random.default_rng(5).integers(0, 500, (20, 24, 22)).astype(np.int16)
    array[5:15, 6:18, 6:18] += 400
    order = np.random.default_rng(3).permutation(20)
    folder = tmp_path / "study"
    dicom_series(
        folder, array[order], heights=1.5 * order, rows=OBLIQUE, spacing=(0.9, 1.1), uid="1.7",
        number=3, modality="MR", description="T1", patient="Ann", frame="1.2.9",
    )  # fmt: skip
    dicom_series(
        folder / "scout", array[:2], uid="1.8", modality="MR", patient="Ann",
        image_type="ORIGINAL\\PRIMARY\\LOCALIZER",
    )  # fmt: skip
    return folder


def rebuilt(path: Path, reference: Path) -> np.ndarray:
    """The label map of a SEG on the grid of an image, from its bits and positions alone."""
    seg = pydicom.dcmread(path)
    image = sitk.ReadImage(str(reference))
    label = np.zeros(image.GetSize()[::-1], np.uint8)
    count = seg.Rows * seg.Columns
    bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")
    for number, frame in enumerate(seg.PerFrameFunctionalGroupsSequence):
        plane = bits[number * count : (number + 1) * count].reshape(seg.Rows, seg.Columns)
        groups = [frame, seg.SharedFunctionalGroupsSequence[0]]  # where all frames have it
        identification = next(g for g in groups if "SegmentIdentificationSequence" in g)
        segment = identification.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        place = frame.PlanePositionSequence[0].ImagePositionPatient
        index = image.TransformPhysicalPointToContinuousIndex([float(v) for v in place])
        assert np.allclose(index[:2], 0, atol=1e-3)
        assert abs(index[2] - round(index[2])) < 1e-3
        label[round(index[2])][plane == 1] = segment
    return label


def test_a_segmentation_as_dicom_seg(study: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    arguments = ["--model", str(tiny_bundle), "--device", "cpu", "--progress", "json"]
    done = CliRunner().invoke(
        app, ["segment", str(study), "-o", str(tmp_path / "a.dcm"), *arguments]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.output.splitlines()[-1])["output"] == str(tmp_path / "a.dcm")
    reference = segment(study, tiny_bundle, output=tmp_path / "a.nii.gz", device="cpu")
    assert len(np.unique(reference.label)) == 3

    np.testing.assert_array_equal(
        rebuilt(tmp_path / "a.dcm", tmp_path / "a.nii.gz"), reference.label
    )
    seg = hd.seg.segread(tmp_path / "a.dcm")
    volume = seg.get_volume(combine_segments=True)
    assert set(np.unique(volume.array)) <= {0, 1, 2}
    for value in (1, 2):
        assert (volume.array == value).sum() == (reference.label == value).sum()

    assert (seg.PatientID, seg.StudyInstanceUID, seg.FrameOfReferenceUID) == (
        "Ann",
        "1.2.3",
        "1.2.9",
    )
    assert (seg.Modality, seg.SegmentationType, seg.SeriesNumber) == ("SEG", "BINARY", 1003)
    assert seg.SeriesInstanceUID not in ("1.7", "1.8")
    referred = seg.ReferencedSeriesSequence[0]
    assert referred.SeriesInstanceUID == "1.7"
    assert {one.ReferencedSOPInstanceUID for one in referred.ReferencedInstanceSequence} <= {
        f"1.7.{i}" for i in range(1, 21)
    }
    first = seg.SegmentSequence[0]
    assert (first.SegmentLabel, first.SegmentAlgorithmType) == ("sphere", "AUTOMATIC")
    assert first.SegmentedPropertyTypeCodeSequence[0].CodeValue == "85756007"
    made_by = first.SegmentationAlgorithmIdentificationSequence[0]
    assert made_by.AlgorithmName == "E2ENet tiny"
    assert made_by.AlgorithmFamilyCodeSequence[0].CodeMeaning == "Artificial Intelligence"
    # The colour (216, 101, 79), which is L* 56.4, a* 43.6, b* 34.4 (sRGB, D65), as DICOM scales it.
    scaled = np.array(first.RecommendedDisplayCIELabValue) / 65535
    np.testing.assert_allclose(
        scaled * (100, 255, 255) - (0, 128, 128), (56.4, 43.6, 34.4), atol=1.5
    )
    manifest = json.loads((tmp_path / "a.manifest.json").read_text(encoding="utf-8"))
    assert manifest["inputs"][0]["series_uid"] == "1.7"
    assert (tmp_path / "a.volumes.csv").is_file()


@pytest.fixture
def result(study: Path, tmp_path: Path) -> Path:
    """A label map with its manifest, as a run leaves them; value 5 and 2, with codes and not."""
    image = read_image(study, series="3")
    label = np.zeros(image.grid.shape, np.uint8)
    label[4:9, 5:12, 3:9], label[10:12, 2:6, 8:20] = 5, 2
    write_label(tmp_path / "r.nii.gz", label, image.grid)
    hippocampus = {"scheme": "SCT", "code": "5366008", "meaning": "Hippocampus"}
    left = {"scheme": "SCT", "code": "7771000", "meaning": "Left"}
    anatomy = {"scheme": "SCT", "code": "123037004", "meaning": "Anatomical Structure"}
    codes = {"category": anatomy, "type": hippocampus, "modifier": left}
    labels = [
        {"value": 2, "name": "uncoded", "color": [1, 2, 3], "terminology": {}},
        {"value": 4, "name": "absent", "color": [1, 2, 3], "terminology": {}},
        {"value": 5, "name": "Left hippocampus", "color": [230, 159, 0], "terminology": codes},
    ]
    model = {"name": "made", "title": "A made model", "weights_sha256": "ab" * 32}
    record = {"labels": labels, "model": model, "edited": True}
    (tmp_path / "r.manifest.json").write_text(json.dumps(record), encoding="utf-8")
    return tmp_path / "r.nii.gz"


def test_a_label_map_as_dicom_seg(study: Path, result: Path, tmp_path: Path) -> None:
    arguments = [str(result), str(study), "--series", "T1", "-o", str(tmp_path / "out" / "s.dcm")]
    done = CliRunner().invoke(app, ["dicom-seg", *arguments])
    assert done.exit_code == 0, done.output
    seg = pydicom.dcmread(tmp_path / "out" / "s.dcm")
    assert [one.SegmentLabel for one in seg.SegmentSequence] == ["uncoded", "Left hippocampus"]
    assert {one.SegmentAlgorithmType for one in seg.SegmentSequence} == {"SEMIAUTOMATIC"}
    kind = seg.SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0]
    assert kind.CodeMeaning == "Hippocampus"
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert (seg.SeriesDescription, seg.DeviceSerialNumber) == ("A made model", "ab" * 8)
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(result)))
    segments = np.zeros(6, np.uint8)
    segments[[2, 5]] = 1, 2
    np.testing.assert_array_equal(rebuilt(tmp_path / "out" / "s.dcm", result), segments[expected])


def test_a_label_map_that_counts_its_slices_from_the_other_end(
    study: Path, result: Path, tmp_path: Path
) -> None:
    expected = label_map_to_seg(result, study, tmp_path / "a.dcm", series="3")
    flipped = sitk.Flip(sitk.ReadImage(str(result)), (False, True, True))  # keeps every place
    sitk.WriteImage(flipped, str(result))
    written = label_map_to_seg(result, study, tmp_path / "b.dcm", series="3")
    one, other = (pydicom.dcmread(seg.path) for seg in (expected, written))
    assert one.PixelData == other.PixelData
    assert (other.SeriesInstanceUID, other.SOPInstanceUID) == (
        written.series_uid, written.sop_instance_uid,
    )  # fmt: skip


def test_the_series_that_the_manifest_names(
    study: Path, result: Path, dicom_series: Series, tmp_path: Path
) -> None:
    array = np.ones((20, 24, 22), np.int16)
    dicom_series(
        study / "T2", array, uid="1.9", number=4, modality="MR", description="T2", patient="Ann"
    )
    with pytest.raises(BadInput, match="2 DICOM series"):
        label_map_to_seg(result, study, tmp_path / "s.dcm")
    record = tmp_path / "r.manifest.json"
    content = json.loads(record.read_text(encoding="utf-8"))
    for uid, series in (("1.7", None), ("9.9", "T1")):  # another UID: made anonymous since
        content["inputs"] = [{"series_uid": uid}]
        record.write_text(json.dumps(content), encoding="utf-8")
        seg = label_map_to_seg(result, study, tmp_path / "s.dcm", series=series).path
        assert pydicom.dcmread(seg).ReferencedSeriesSequence[0].SeriesInstanceUID == "1.7"
    with pytest.raises(BadInput, match="2 DICOM series"):
        label_map_to_seg(result, study, tmp_path / "s.dcm")


def test_on_frames_in_no_order(dicom_frames: Callable[..., Path], tmp_path: Path) -> None:
    order = np.random.default_rng(3).permutation(8)
    array = np.random.default_rng(5).integers(0, 500, (8, 24, 22)).astype(np.int16)
    source = dicom_frames(tmp_path / "mr" / "a.dcm", array[order], heights=2.5 * order)
    image = read_image(source)
    label = np.zeros(image.grid.shape, np.uint8)
    label[1:3, 2:9, 3:20], label[5:8, 12:14, 3:5] = 1, 2
    write_label(tmp_path / "r.nii.gz", label, image.grid)
    labels = [
        {"value": value, "name": f"{value}", "color": [1, 2, 3], "terminology": {}}
        for value in (1, 2)
    ]
    record = {"labels": labels, "model": {"name": "made"}}
    (tmp_path / "r.manifest.json").write_text(json.dumps(record), encoding="utf-8")
    seg = label_map_to_seg(tmp_path / "r.nii.gz", source, tmp_path / "s.dcm").path
    np.testing.assert_array_equal(rebuilt(seg, tmp_path / "r.nii.gz"), label)


def test_no_seg_on_several_files_of_frames(
    dicom_frames: Callable[..., Path], result: Path, tmp_path: Path
) -> None:
    array = np.ones((8, 24, 22), np.int16)
    for number in range(2):
        heights = 2.5 * np.arange(8 * number, 8 * number + 8)
        dicom_frames(tmp_path / "mr" / f"{number}.dcm", array, heights=heights)
    with pytest.raises(BadInput, match=r"^mr is a volume in 2 files of several frames") as caught:
        label_map_to_seg(result, tmp_path / "mr", tmp_path / "s.dcm")
    assert caught.value.code == "dicom-several-files"


def test_what_anonymised_series_lack_is_left_empty(
    study: Path, result: Path, tmp_path: Path
) -> None:
    for path in study.glob("*.dcm"):
        source = pydicom.dcmread(path)
        for name in ("PatientName", "PatientBirthDate", "StudyDate", "StudyID", "SliceThickness"):
            if name in source:
                delattr(source, name)
        source.save_as(path)
    seg = pydicom.dcmread(label_map_to_seg(result, study, tmp_path / "s.dcm", series="3").path)
    assert seg.PatientBirthDate == ""
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert (measures.SpacingBetweenSlices, measures.PixelSpacing) == (1.5, [1.1, 0.9])


def test_a_source_without_frame_of_reference(study: Path, result: Path, tmp_path: Path) -> None:
    for path in study.glob("*.dcm"):
        source = pydicom.dcmread(path)
        del source.FrameOfReferenceUID
        source.save_as(path)
    with pytest.raises(BadInput, match="Frame Of Reference UID") as caught:
        label_map_to_seg(result, study, tmp_path / "s.dcm", series="3")
    assert caught.value.code == "dicom-incomplete"


def test_refused_when_the_source_is_no_dicom(
    result: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadInput, match=r"^r\.nii\.gz is no DICOM image") as caught:
        segment_to_seg(result, tiny_bundle, tmp_path / "s.dcm")
    assert caught.value.code == "not-dicom"
    with pytest.raises(BadInput, match="is no DICOM image"):
        label_map_to_seg(result, result, tmp_path / "s.dcm")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="holds no DICOM series"):
        label_map_to_seg(result, tmp_path / "empty", tmp_path / "s.dcm")
    (tmp_path / "empty").rmdir()
    assert sorted(tmp_path.rglob("*")) == before


def test_refused_on_another_grid(
    study: Path, result: Path, tmp_path: Path, dicom_series: Series
) -> None:
    image = read_image(study, series="3")
    label = np.ones(image.grid.shape, np.uint8) * 2
    grid = image.grid
    moved = Grid(grid.size_xyz, grid.spacing_xyz, (0.0, 0.0, 0.0), grid.direction)
    turned = Grid(grid.size_xyz, grid.spacing_xyz, grid.origin_xyz)
    for other in (moved, turned):
        write_label(result, label, other)
        with pytest.raises(BadInput, match="does not lie on the DICOM series in study") as caught:
            label_map_to_seg(result, study, tmp_path / "s.dcm", series="3")
        assert caught.value.code == "grid-mismatch"
    write_label(result, label[:5], Grid((22, 24, 5), grid.spacing_xyz, grid.origin_xyz))
    with pytest.raises(BadInput, match=r"voxels"):
        label_map_to_seg(result, study, tmp_path / "s.dcm", series="3")
    assert not (tmp_path / "s.dcm").exists()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"labels": []}, "unknown-label"),
        ({"labels": [{"value": 2}]}, "bad-manifest"),
        ({"model": None}, "bad-manifest"),
    ],
)
def test_a_manifest_that_does_not_fit(
    study: Path, result: Path, tmp_path: Path, change: dict, code: str
) -> None:
    path = tmp_path / "r.manifest.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**record, **change}), encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        label_map_to_seg(result, study, tmp_path / "s.dcm", series="3")
    assert caught.value.code == code
    path.unlink()
    with pytest.raises(BadInput, match=r"r\.manifest\.json does not exist"):
        label_map_to_seg(result, study, tmp_path / "s.dcm", series="3")


def test_regions_overlap(study: Path, result: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.manifest.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    entry = {"color": [9, 9, 9], "terminology": {}}
    regions = [
        {**entry, "value": 1, "name": "whole", "values": [2, 5]},
        {**entry, "value": 2, "name": "core", "values": [5]},
    ]
    path.write_text(json.dumps({**record, "labels": regions}), encoding="utf-8")
    seg = hd.seg.segread(label_map_to_seg(result, study, tmp_path / "s.dcm", series="3").path)
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(result)))
    for number, values in ((1, (2, 5)), (2, (5,))):
        frames = seg.get_volume(segment_numbers=[number]).array
        assert frames.sum() == np.isin(label, values).sum() > 0


def test_nothing_segmented_is_no_seg(study: Path, result: Path, tmp_path: Path) -> None:
    grid = read_image(study, series="3").grid
    write_label(result, np.zeros(grid.shape, np.uint8), grid)
    with pytest.raises(BadInput, match="no structure has a voxel"):
        label_map_to_seg(result, study, tmp_path / "s.dcm", series="3")


def test_the_real_series(shared: Path, tmp_path: Path) -> None:
    source = shared / "data" / "dicom_hippocampus_crop"
    grid = read_image(source).grid
    label = np.zeros(grid.shape, np.uint8)
    label[8:20, 10:30, 5:20] = 1
    write_label(tmp_path / "r.nii.gz", label, grid)
    entry = {"value": 1, "name": "box", "color": [9, 9, 9], "terminology": {}}
    record = {"labels": [entry], "model": {"name": "made"}}
    (tmp_path / "r.manifest.json").write_text(json.dumps(record), encoding="utf-8")
    label_map_to_seg(tmp_path / "r.nii.gz", source / "7.dcm", tmp_path / "s.dcm")
    np.testing.assert_array_equal(rebuilt(tmp_path / "s.dcm", tmp_path / "r.nii.gz"), label)
