"""Every door on a made folder of its layout, and folders that cannot be imported."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.data.datasets.importing.importing import DOORS, import_dataset
from e2enet.data.datasets.importing.pattern import read_pattern
from e2enet.data.datasets.raw import read_case, read_dataset
from e2enet.events import BadInput

SHAPE = (4, 6, 8)


def save(path: Path, array, spacing=(1.0, 1.0, 1.0), dtype=np.float32) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(np.asarray(array, dtype), isVector=False)
    if image.GetDimension() == 3:
        image.SetSpacing(spacing)
    sitk.WriteImage(image, os.fspath(path))
    return path


def ramp(offset=0):
    return np.arange(np.prod(SHAPE)).reshape(SHAPE) + offset


def blocks(*values):
    """A label map with a block of each value."""
    label = np.zeros(SHAPE)
    for number, value in enumerate(values):
        label[1:3, 1:5, 2 * number : 2 * number + 2] = value
    return label


def imported(kind, source, tmp_path, **counts):
    found = DOORS[kind](source)
    assert import_dataset(found, source, tmp_path / "Dataset001_Made", workers=0) == counts
    info = read_dataset(tmp_path / "Dataset001_Made")
    cases = {case.name: read_case(info, case) for case in (*info.cases, *info.test_cases)}
    return info, cases


def test_decathlon_with_two_channels_in_a_file(tmp_path):
    source = tmp_path / "Task05_Prostate"
    for part, names in (("imagesTr", ["p_1"]), ("imagesTs", ["p_2"])):
        for name in names:
            save(source / part / f"{name}.nii.gz", np.stack([ramp(), ramp(1000)]))
            save(source / part / f"._{name}.nii.gz", ramp())
    save(source / "labelsTr" / "p_1.nii.gz", blocks(1, 2))
    record = {
        "modality": {"0": "T2", "1": "ADC"}, "labels": {"0": "background", "1": "PZ", "2": "TZ"},
        "licence": "CC-BY-SA 4.0",
    }  # fmt: skip
    (source / "dataset.json").write_text(json.dumps(record), encoding="utf-8")
    info, cases = imported("msd", source, tmp_path, training=1, test=1)
    assert info.channel_names == ("T2", "ADC")
    assert info.labels == {"background": 0, "PZ": 1, "TZ": 2}
    volumes, label = cases["p_1"]
    np.testing.assert_array_equal(volumes[1].array, ramp(1000))
    np.testing.assert_array_equal(label.array, blocks(1, 2))
    assert cases["p_2"][1] is None
    record = json.loads((tmp_path / "Dataset001_Made" / "dataset.json").read_text(encoding="utf-8"))
    assert record["licence"] == "CC-BY-SA 4.0"


@pytest.mark.parametrize(
    ("kind", "wanted"), [("amos-ct", ["amos_0001"]), ("amos-mr", ["amos_0507"])]
)
def test_amos_by_modality(tmp_path, kind, wanted):
    source = tmp_path / "amos22"
    for part, numbers in (("Tr", ("0001", "0507")), ("Va", ("0008", "0540"))):
        for number in numbers:
            save(source / f"images{part}" / f"amos_{number}.nii.gz", ramp())
            save(source / f"labels{part}" / f"amos_{number}.nii.gz", blocks(1, 2))
    labels = {"0": "background", "1": "spleen", "2": "right kidney"}
    (source / "dataset.json").write_text(json.dumps({"labels": labels}), encoding="utf-8")
    info, _ = imported(kind, source, tmp_path, training=1, test=1)
    assert list(info.case_names) == wanted
    assert info.test_cases[0].label is not None
    assert info.channel_names == ("CT",) if kind == "amos-ct" else ("MRI",)


def test_amos_with_a_label_map_missing(tmp_path):
    source = tmp_path / "amos22"
    for number in ("0001", "0002", "0507"):
        save(source / "imagesTr" / f"amos_{number}.nii.gz", ramp())
    save(source / "labelsTr" / "amos_0001.nii.gz", blocks(1))
    (source / "dataset.json").write_text('{"labels": {"0": "background", "1": "spleen"}}')
    with pytest.raises(BadInput, match=r"amos_0002\.nii\.gz has no label map .*labelsTr"):
        DOORS["amos-ct"](source)


def test_btcv(tmp_path):
    source = tmp_path / "Abdomen"
    save(source / "RawData" / "Training" / "img" / "img0001.nii.gz", ramp())
    save(source / "RawData" / "Training" / "label" / "label0001.nii.gz", blocks(1, 13))
    save(source / "RawData" / "Testing" / "img" / "img0061.nii.gz", ramp())
    info, cases = imported("btcv", source, tmp_path, training=1, test=1)
    assert info.num_classes == 14
    assert set(np.unique(cases["img0001"][1].array)) == {0, 1, 13}


TO_2022, FROM_2023 = ("_flair", "_t1", "_t1ce", "_t2"), ("-t2f", "-t1n", "-t1c", "-t2w")


def brats_case(folder, label=None, *, endings=TO_2022, seg=None, dtype=np.float32):
    for number, ending in enumerate(endings):
        save(folder / f"{folder.name}{ending}.nii.gz", ramp(100 * number))
    if label is not None:
        seg = seg or f"{folder.name}{endings[0][0]}seg.nii.gz"
        save(folder / seg, label, dtype=dtype)


@pytest.mark.parametrize(
    ("name", "endings", "enhancing"),
    [
        ("Brats18_2013_0_1", TO_2022, 4),
        ("BraTS2021_00000", TO_2022, 4),
        ("BraTS-GLI-00000-000", FROM_2023, 3),
    ],
)
def test_brats_of_two_generations(tmp_path, name, endings, enhancing):
    dtype = np.float32 if enhancing == 4 else np.uint8
    label = blocks(1, 2, enhancing)
    brats_case(tmp_path / "BraTS" / name, label, endings=endings, dtype=dtype)
    info, cases = imported("brats", tmp_path / "BraTS", tmp_path, training=1, test=0)
    assert info.channel_names == ("FLAIR", "T1", "T1c", "T2")
    volumes, label = cases[name]
    assert [volume.array.min() for volume in volumes] == [0, 100, 200, 300]
    np.testing.assert_array_equal(label.array, blocks(2, 1, 3))


@pytest.mark.parametrize(
    ("name", "endings", "values", "odd"),
    [
        ("BraTS-GLI-00005-100", FROM_2023, (2, 3, 4), 4),  # enhancing tumour and cavity
        ("BraTS-GLI-00005-101", FROM_2023, (1, 2, 4), 4),  # cavity, no enhancing tumour
        ("BraTS-GLI-00005-102", TO_2022, (1, 2, 4), 4),
        ("patient_1", TO_2022, (1, 2, 4), 4),
        ("BraTS20_Training_001", TO_2022, (1, 3, 4), 3),
        ("BraTS20_Training_001", TO_2022, (1, 7), 7),
        ("BraTS20_Training_001", TO_2022, (1, 1.5), 1.5),
    ],
)
def test_brats_takes_no_cavity_for_tumour(tmp_path, name, endings, values, odd):
    brats_case(tmp_path / "BraTS" / name, blocks(*values), endings=endings)
    found = DOORS["brats"](tmp_path / "BraTS")
    with pytest.raises(
        BadInput, match=rf"{name}.seg\.nii\.gz holds {odd}, which is none"
    ) as caught:
        import_dataset(found, "BraTS", tmp_path / "D", workers=0)
    assert "resection cavity" in caught.value.help
    assert not (tmp_path / "D").exists()


@pytest.mark.parametrize(
    ("training", "validation"),
    [
        (("HGG/Brats18_1", "LGG/Brats18_2"), ()),
        (("MICCAI_BraTS_2018_Data_Training/HGG/Brats18_1",), ()),
        (("TrainingData/BraTS20_Training_001",), ("ValidationData/BraTS20_Validation_001",)),
    ],
)
def test_brats_as_downloaded(tmp_path, training, validation):
    source = tmp_path / "BraTS"
    (source / "TrainingData" / ".hidden").mkdir(parents=True)
    for case in training:
        brats_case(source / case, blocks(1, 2, 4))
    for case in validation:
        brats_case(source / case)
    info, _ = imported("brats", source, tmp_path, training=len(training), test=len(validation))
    assert sorted(info.case_names) == [Path(case).name for case in training]


def test_brats_355_of_2020(tmp_path):
    source = tmp_path / "BraTS"
    for name, seg in (("354", None), ("355", "W39_1998.09.19_Segm.nii")):
        brats_case(source / f"BraTS20_Training_{name}", blocks(1, 2, 4), seg=seg)
    imported("brats", source, tmp_path, training=2, test=0)


def test_brats_with_something_missing(tmp_path):
    source = tmp_path / "BraTS"
    brats_case(source / "BraTS20_Training_001", blocks(1, 2, 4))
    case = source / "BraTS20_Training_002"
    brats_case(case)
    with pytest.raises(BadInput, match="holds label maps, but none of BraTS20_Training_002"):
        DOORS["brats"](source)
    save(case / f"{case.name}_seg.nii.gz", blocks(1))
    save(case / "old_seg.nii", blocks(1))
    with pytest.raises(BadInput, match=r"002 holds two files for its label map: .*old_seg\.nii"):
        DOORS["brats"](source)
    (case / f"{case.name}_t1ce.nii.gz").unlink()
    (case / "old_seg.nii").unlink()
    with pytest.raises(BadInput, match=r"BraTS20_Training_002 has no T1c image") as caught:
        DOORS["brats"](source)
    assert "t1ce or t1c" in caught.value.help


@pytest.mark.parametrize("ending", [".mhd", ".nii.gz"])
def test_camus(tmp_path, ending):
    root = tmp_path / "camus" / ("training" if ending == ".mhd" else "database_nifti")
    for view in ("2CH", "4CH"):
        for phase in ("ED", "ES"):
            name = root / "patient0001" / f"patient0001_{view}_{phase}"
            save(name.with_name(name.name + ending), ramp()[0])
            save(name.with_name(f"{name.name}_gt{ending}"), blocks(1, 2, 3)[1])
    info, cases = imported("camus", tmp_path / "camus", tmp_path, training=4, test=0)
    volumes, label = cases["patient0001_4CH_ES"]
    assert volumes[0].array.shape == (1, 6, 8)
    np.testing.assert_array_equal(label.array[0], blocks(1, 2, 3)[1])
    assert info.labels["left atrium"] == 3


def test_camus_with_something_missing(tmp_path):
    source = tmp_path / "CAMUS_public"
    for part, patient in (("training", "1"), ("training", "2"), ("testing", "3")):
        for phase in ("ED", "ES"):
            name = f"patient{patient}_2CH_{phase}"
            save(source / part / f"patient{patient}" / f"{name}.mhd", ramp()[0])
            if part == "training":
                save(source / part / f"patient{patient}" / f"{name}_gt.mhd", blocks(1)[1])
    patient = source / "training" / "patient2"
    imported("camus", source, tmp_path, training=4, test=2)
    (patient / "patient2_2CH_ES_gt.mhd").rename(patient / "gt.mhd")
    with pytest.raises(BadInput, match="training holds label maps, but none of patient2_2CH_ES"):
        DOORS["camus"](source)
    (patient / "patient2_2CH_ED.mhd").unlink()
    with pytest.raises(BadInput, match=r"2CH_ED_gt\.mhd has no patient2_2CH_ED\.mhd beside it"):
        DOORS["camus"](source)


def dicom(folder, array, *, downwards):
    """One file a slice; by name from the first slice, which may lie on top."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, plane in enumerate(array):
        image = sitk.GetImageFromArray(plane[None].astype(np.int16))
        image.SetSpacing((1.5, 1.5, 1.0))
        z = 5.0 * (-number if downwards else number)
        tags = {
            "0008|0060": "MR", "0020|000d": "1.2.3", "0020|000e": "1.2.3.4",
            "0008|0018": f"1.2.3.4.{number + 1}", "0020|0013": str(number + 1),
            "0020|0032": f"0\\0\\{z}", "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|1052": "0", "0028|1053": "1",
        }  # fmt: skip
        for key, value in tags.items():
            image.SetMetaData(key, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / f"IMG-{number:04d}.dcm"))
        writer.Execute(image)


def pngs(folder, array):
    folder.mkdir(parents=True)
    for number, plane in enumerate(array):
        sitk.WriteImage(
            sitk.GetImageFromArray(plane.astype(np.uint8)), str(folder / f"m{number:03d}.png")
        )


@pytest.mark.parametrize("downwards", [False, True])
@pytest.mark.parametrize("kind", ["chaos-ct", "chaos-t1", "chaos-t2"])
def test_chaos(tmp_path, kind, downwards):
    """Each mask lies on the slice of its name, also where names run against space."""
    value = 255 if kind == "chaos-ct" else 252
    array = ramp()
    mask = np.where(array % 11 == 0, value, 0)
    if kind != "chaos-ct":
        mask[array % 11 == 1] = 63
    case = tmp_path / "CHAOS" / "Train_Sets" / ("CT" if kind == "chaos-ct" else "MR") / "7"
    case = case / {"chaos-ct": "", "chaos-t1": "T1DUAL", "chaos-t2": "T2SPIR"}[kind]
    phases = ("InPhase", "OutPhase") if kind == "chaos-t1" else ("",)
    for phase in phases:
        dicom(case / "DICOM_anon" / phase, array, downwards=downwards)
    pngs(case / "Ground", mask)
    _, cases = imported(kind, tmp_path / "CHAOS", tmp_path, training=1, test=0)
    volumes, label = cases[f"{kind.replace('-', '_')}_7"]
    assert len(volumes) == len(phases)
    image = volumes[0].array
    np.testing.assert_array_equal(label.array == (1 if kind == "chaos-ct" else 4), image % 11 == 0)
    if kind != "chaos-ct":
        np.testing.assert_array_equal(label.array == 1, image % 11 == 1)


def test_chaos_with_a_mask_missing(tmp_path):
    case = tmp_path / "CHAOS" / "MR" / "1" / "T2SPIR"
    dicom(case / "DICOM_anon", ramp(), downwards=False)
    pngs(case / "Ground", ramp()[:3])
    with pytest.raises(BadInput, match="holds 3 masks for the 4 slices"):
        import_dataset(DOORS["chaos-t2"](tmp_path / "CHAOS"), "CHAOS", tmp_path / "out", workers=0)
    assert not (tmp_path / "out").exists()


def test_chaos_with_something_missing(tmp_path):
    root = tmp_path / "CHAOS" / "Train_Sets" / "MR"
    for name in "12":
        dicom(root / name / "T2SPIR" / "DICOM_anon", ramp(), downwards=False)
        pngs(root / name / "T2SPIR" / "Ground", ramp())
    (root / "2" / "T2SPIR" / "Ground").rename(tmp_path / "masks")
    with pytest.raises(BadInput, match="MR holds label maps, but none of chaos_t2_2"):
        DOORS["chaos-t2"](tmp_path / "CHAOS")
    (root / "2" / "T2SPIR" / "DICOM_anon").rename(tmp_path / "images")
    with pytest.raises(BadInput, match="DICOM_anon does not exist"):
        DOORS["chaos-t2"](tmp_path / "CHAOS")


def paired(source, **changes):
    given = {
        "images": ["scans/{case}_t1.nii.gz", "scans/{case}_t2.nii.gz"],
        "labels": "masks/{case}.nrrd",
        "names": ["tumour"], "channels": ["T1", "T2"],
    }  # fmt: skip
    return read_pattern(source, **{**given, **changes})


@pytest.fixture
def source(tmp_path):
    for case in ("a 1", "b_t1"):
        for channel in ("t1", "t2"):
            save(tmp_path / "src" / "scans" / f"{case}_{channel}.nii.gz", ramp())
    save(tmp_path / "src" / "masks" / "a 1.nrrd", blocks(1))
    return tmp_path / "src"


def test_any_folder_by_pattern(source, tmp_path):
    assert import_dataset(paired(source), source, tmp_path / "D", workers=0) == {
        "training": 1, "test": 1,
    }  # fmt: skip
    info = read_dataset(tmp_path / "D")
    assert info.case_names == ("a_1",)
    assert [case.name for case in info.test_cases] == ["b_t1"]
    assert info.labels == {"background": 0, "tumour": 1}


def test_a_file_belongs_to_the_longest_pattern(tmp_path):
    source = tmp_path / "flat"
    save(source / "a.nii.gz", ramp())
    save(source / "a_seg.nii.gz", blocks(1))
    found = paired(source, images=["{case}.nii.gz"], labels="{case}_seg.nii.gz", channels=["MRI"])
    assert [(case.name, case.test) for case in found.cases] == [("a", False)]


def test_a_label_map_without_an_image(source):
    save(source / "masks" / "c.nrrd", blocks(1))
    with pytest.raises(BadInput, match=r"masks/c\.nrrd has no scans/c_t1\.nii\.gz to it"):
        paired(source)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": "/masks/{case}.nrrd"}, "/masks/{case}.nrrd is absolute"),
        ({"names": ["tumour", "cyst", "tumour"]}, "label name tumour is given twice"),
        ({"names": ["background"]}, "label name background is given twice"),
        ({"labels": "masks/x.nrrd"}, "has to hold {case} once"),
        ({"channels": ["T1"]}, "2 image patterns and 1 channel names"),
        ({"images": ["scans/{case}_t1.nii.gz", "scans/{case}_t3.nii.gz"]}, "has no scans/a 1_t3"),
    ],
)
def test_patterns_that_do_not_fit(source, changes, words):
    with pytest.raises(BadInput) as caught:
        paired(source, **changes)
    assert words in caught.value.message


def test_what_cannot_be_imported(source, tmp_path):
    found = paired(source)
    with pytest.raises(BadInput, match="exists"):
        import_dataset(found, source, tmp_path, workers=0)
    with pytest.raises(BadInput, match="no case with a label map"):
        import_dataset(DOORS["btcv"](source), source, tmp_path / "D", workers=0)
    save(source / "masks" / "a 1.nrrd", blocks(1, 2.5))
    with pytest.raises(BadInput, match=r"holds 2\.5"):
        import_dataset(found, source, tmp_path / "D", workers=0)
    save(source / "masks" / "a 1.nrrd", blocks(1, 7))
    with pytest.raises(BadInput, match="holds 7"):
        import_dataset(found, source, tmp_path / "D", workers=0)
    save(source / "masks" / "a 1.nrrd", blocks(1), spacing=(2.0, 1.0, 1.0))
    with pytest.raises(BadInput, match="another grid"):
        import_dataset(found, source, tmp_path / "D", workers=0)
    assert not (tmp_path / "D").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["src"]
