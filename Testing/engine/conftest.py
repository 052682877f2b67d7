"""What the engine's tests share: outside references, a tiny model and a tiny dataset."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def shared() -> Path:
    """References and data that lie beside the repository and do not come with a clone of it."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip("../shared is not beside this clone; it holds the outside references")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is read from or left in the folders of the person who runs the tests."""
    base = tmp_path_factory.mktemp("user")
    patch = pytest.MonkeyPatch()
    patch.setenv("E2ENET_CACHE", str(base / "cache"))
    patch.setenv("XDG_CACHE_HOME", str(base / "xdg-cache"))
    patch.setenv("XDG_DATA_HOME", str(base / "xdg-data"))
    patch.setenv("LOCALAPPDATA", str(base / "local"))
    patch.setenv("MPLBACKEND", "Agg")
    patch.delenv("E2ENET_MODELS", raising=False)
    yield
    patch.undo()


def tiny_model() -> dict[str, Any]:
    """model.json of the tiny bundle, as `write_bundle` takes it."""
    return {
        "name": "tiny",
        "title": "Tiny model with random weights",
        "plan": {
            "spacing": [1.0, 1.0, 1.0],
            "transpose": [0, 1, 2],
            "patch": [16, 16, 16],
            "strides": [[2, 2, 2], [2, 2, 2]],
            "batch_size": 2,
            "channels": [{"name": "MRI", "normalisation": "zscore"}],
            "mirror_axes": [0, 1, 2],
        },
        "labels": [
            {
                "value": value,
                "name": name,
                "color": color,
                "terminology": {
                    "category": {
                        "scheme": "SCT",
                        "code": "85756007",
                        "meaning": "Tissue",
                    },
                    "type": {"scheme": "SCT", "code": "85756007", "meaning": "Tissue"},
                },
            }
            for value, name, color in ((1, "sphere", [216, 101, 79]), (2, "cube", [128, 174, 128]))
        ],
        "channels": [{"name": "MRI"}],
        "modality": "MR",
        "anatomy": "Made shapes",
        "locator": None,
        "provenance": {"data": "none", "epochs": 0, "sparsity": 0.5},
        "licence": "CC0-1.0",
        "citation": "",
    }


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle folder, not to be written in: E2ENet with base 4, 3 levels, S = 0.5, random."""
    import torch
    from e2enet.bundle import write_bundle
    from e2enet.dsff import Connections
    from e2enet.networks import E2ENet

    model = tiny_model()
    with torch.random.fork_rng():
        torch.manual_seed(20)
        network = E2ENet(1, 3, model["plan"]["strides"], base_channels=4)
    connections = Connections.random(network, 0.5, seed=20)
    connections.apply()
    entry = {
        "iteration": 0,
        "zeta": 0.5,
        "live": connections.live,
        "total": connections.total,
        "turnover": None,
        "nodes": connections.shares(),
    }
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_bundle(
        folder,
        network=network,
        connections=connections,
        model=model,
        history={"history": [entry]},
        readme="# Tiny\n\nRandom weights, for tests.\n",
    )
    return folder


def tiny_case(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Image (z, y, x) float32 and labels uint8: a sphere (1) and a brighter cube (2) in noise."""
    random = np.random.default_rng(100 + index)
    shape = np.array([20, 28, 24]) + random.integers(-2, 3, 3)
    label = np.zeros(shape, np.uint8)
    z, y, x = np.indices(shape)
    centre = shape * (0.5, 0.3, 0.35) + random.uniform(-1, 1, 3)
    distance = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
    label[distance < random.uniform(4, 5.5) ** 2] = 1
    corner = np.rint(shape * (0.35, 0.6, 0.55) + random.uniform(-1, 1, 3)).astype(int)
    side = int(random.integers(5, 8))
    label[tuple(slice(start, start + side) for start in corner)] = 2
    image = np.array([100.0, 300.0, 500.0])[label] + random.normal(0, 25, shape)
    return image.astype(np.float32), label


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An nnU-Net raw dataset, not to be written in: 6 training and 2 test cases, 24 x 28 x 20 mm.

    Returns:
        Folder Dataset900_Tiny; labels sphere (1) and cube (2), channel "MRI", ".nii.gz".
    """
    import SimpleITK as sitk

    folder = tmp_path_factory.mktemp("raw") / "Dataset900_Tiny"
    for index in range(8):
        images, labels = ("imagesTr", "labelsTr") if index < 6 else ("imagesTs", "labelsTs")
        for name, array, part in zip(
            (f"tiny_{index:03d}_0000", f"tiny_{index:03d}"), tiny_case(index), (images, labels),
            strict=True,
        ):  # fmt: skip
            image = sitk.GetImageFromArray(array)
            image.SetSpacing((1.0, 1.0, 1.0))
            image.SetOrigin((-10.0, 5.0, 3.0 * index))
            (folder / part).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(image, os.fspath(folder / part / f"{name}.nii.gz"))
    record = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "sphere": 1, "cube": 2},
        "numTraining": 6,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def dicom_series() -> Callable[..., list[Path]]:
    """dicom_series(folder, array, …) writes one file a slice, named so that names do not sort."""

    def write(
        folder: Path,
        array: np.ndarray,
        *,
        heights: Sequence[float] | None = None,
        rows: Sequence[float] = (1, 0, 0, 0, 1, 0),
        spacing: Sequence[float] = (0.7, 0.9),
        uid: str = "1.2.3.4",
        number: int = 1,
        description: str = "thin",
        modality: str = "CT",
        patient: str = "P1",
        image_type: str = "ORIGINAL\\PRIMARY\\AXIAL",
        frame: str = "1.2.3.9",
        shift: float = 0.0,
        prefix: str = "",
    ) -> list[Path]:
        import SimpleITK as sitk

        folder.mkdir(parents=True, exist_ok=True)
        heights = heights if heights is not None else [2.5 * i - 7.0 for i in range(len(array))]
        x, y = np.reshape(rows, (2, 3)).astype(float)
        normal = np.cross(x, y)
        paths = []
        for i, (plane, height) in enumerate(zip(array, heights, strict=True)):
            image = sitk.GetImageFromArray(plane[None])
            image.SetSpacing((*spacing, 1.0))
            position = np.array([11.0, -5.0, 3.0]) + height * normal + i * shift * x
            tags = {
                "0008|0008": image_type,
                "0008|0016": f"1.2.840.10008.5.1.4.1.1.{2 if modality == 'CT' else 4}",
                "0008|0018": f"{uid}.{i + 1}",
                "0008|0060": modality,
                "0008|103e": description,
                "0010|0020": patient,
                "0020|000d": "1.2.3",
                "0020|000e": uid,
                "0020|0011": str(number),
                "0020|0013": str(i + 1),
                "0020|0032": "\\".join(f"{v:.6f}" for v in position),
                "0020|0037": "\\".join(f"{v:.6f}" for v in (*x, *y)),
                "0020|0052": frame,
                "0028|1052": "0",
                "0028|1053": "1",
            }
            for key, value in tags.items():
                image.SetMetaData(key, value)
            writer = sitk.ImageFileWriter()
            writer.KeepOriginalImageUIDOn()
            paths.append(folder / f"{prefix}{(i * 7) % 100:02d}.dcm")
            writer.SetFileName(os.fspath(paths[-1]))
            writer.Execute(image)
        return paths

    return write


@pytest.fixture(scope="session")
def dicom_frames() -> Callable[..., Path]:
    """dicom_frames(path, array, …) writes an Enhanced MR: one file, a frame a slice of the array.

    Its voxels measure 0.7 x 0.9 x 2.5 mm, and the slice of height 0 begins at (11, -5, 3). Where
    its frames are not placed, it is a secondary capture, for which they need not be.
    """

    def write(
        path: Path,
        array: np.ndarray,
        *,
        heights: Sequence[float] | None = None,
        rows: Sequence[Sequence[float]] = ((1, 0, 0, 0, 1, 0),),
        shift: float = 0.0,
        scales: Sequence[tuple[float, float]] = (),
        placed: bool = True,
        uid: str = "1.2.3.4",
        syntax: str = "1.2.840.10008.1.2.1",
    ) -> Path:
        pydicom = pytest.importorskip("pydicom")

        def item(**values: object) -> list:
            made = pydicom.Dataset()
            for name, value in values.items():
                setattr(made, name, value)
            return [made]

        heights = heights if heights is not None else [2.5 * i for i in range(len(array))]
        made = pydicom.Dataset()
        made.file_meta = pydicom.dataset.FileMetaDataset()
        made.file_meta.TransferSyntaxUID = syntax
        made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = (
            "1.2.840.10008.5.1.4.1.1.4.1" if placed else "1.2.840.10008.5.1.4.1.1.7.3"
        )
        made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = f"{uid}.1"
        made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.3", uid
        made.FrameOfReferenceUID = "1.2.3.9"
        made.Modality, made.SeriesNumber, made.PatientID = "MR", 1, "P1"
        made.SeriesDescription, made.InstanceNumber = "frames", 1
        made.Rows, made.Columns = array.shape[1:]
        made.NumberOfFrames = len(array)
        made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
        made.BitsAllocated, made.BitsStored, made.HighBit = 16, 16, 15
        made.PixelRepresentation = 0
        shared = item(PixelMeasuresSequence=item(PixelSpacing=[0.9, 0.7], SliceThickness=2.5))
        frames = []
        for i, height in enumerate(heights):
            x, y = np.reshape(rows[i % len(rows)], (2, 3)).astype(float)
            position = np.array([11.0, -5.0, 3.0]) + height * np.cross(x, y) + i * shift * x
            groups = {
                "PlanePositionSequence": item(ImagePositionPatient=position.tolist()),
                "PlaneOrientationSequence": item(ImageOrientationPatient=[*x, *y]),
            }
            if scales:
                slope, intercept = scales[i % len(scales)]
                groups["PixelValueTransformationSequence"] = item(
                    RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="US"
                )
            frames += item(**groups)
        if placed:
            made.SharedFunctionalGroupsSequence = shared
            made.PerFrameFunctionalGroupsSequence = frames
        made.PixelData = array.astype(np.uint16).tobytes()
        if syntax == pydicom.uid.RLELossless:
            made.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
            made.compress(syntax)
        path.parent.mkdir(parents=True, exist_ok=True)
        made.save_as(path, enforce_file_format=True)
        return path

    return write
