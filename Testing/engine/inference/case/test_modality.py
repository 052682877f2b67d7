"""Modality: a CT is told from MR by its unit, whatever part of a body it shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from e2enet.bundle import Bundle
from e2enet.data.images.volume import Grid, Volume
from e2enet.events import BadInput
from e2enet.inference.case.modality import check_modality, has_hounsfield_units, is_ct


def ct(air: float = 0.4, padding: float | None = None) -> np.ndarray:
    """Air, fat and soft tissue with noise, HU."""
    random = np.random.default_rng(0)
    values = random.normal(40, 20, (24, 32, 40))
    values[:, :4] = random.normal(-100, 15, (24, 4, 40))
    values[:, :, : int(40 * air)] = random.normal(-990, 12, (24, 32, int(40 * air)))
    values[0, 0, :8] = 1500  # bone
    if padding is not None:
        values[:, -3:] = padding
    return values.astype(np.float32)


def mr(scale: float = 1.0, offset: float = 0.0) -> np.ndarray:
    random = np.random.default_rng(1)
    values = np.abs(random.normal(300, 150, (24, 32, 40)))
    values[:, :8] = np.abs(random.normal(0, 10, (24, 8, 40)))
    return (values * scale + offset).astype(np.float32)


def zscored() -> np.ndarray:
    values = mr()
    return (values - values.mean()) / values.std()


@pytest.mark.parametrize(
    ("values", "is_one", "has_unit"),
    [
        (ct(), True, True),
        (ct(padding=-2000), True, True),
        (ct(air=0.1), True, True),
        (ct(air=0), False, True),  # nothing says that it cannot be CT, nothing that it must be
        (ct() + 1024, False, False),  # stored values without the rescaling to HU
        (mr(), False, False),
        (mr(scale=1000), False, False),
        (zscored(), False, False),
        (np.zeros((4, 4, 4), np.float32), False, False),
    ],
)
def test_hounsfield_units_are_recognised(values: np.ndarray, is_one: bool, has_unit: bool) -> None:
    assert is_ct(values) is is_one
    assert has_hounsfield_units(values) is has_unit


def volume(values: np.ndarray) -> Volume:
    size = values.shape[::-1]
    return Volume(
        values, Grid(size, (1.0,) * 3, (0.0,) * 3, (1, 0, 0, 0, 1, 0, 0, 0, 1)), "x.nii.gz"
    )


@pytest.mark.parametrize(
    ("modality", "values", "sentence"),
    [
        ("MR", ct(), "x.nii.gz looks like a CT, and made is a model for MR: 40% of its voxels"),
        ("CT", mr(), "x.nii.gz does not look like a CT, which made is made for: hardly a voxel"),
        ("CT", zscored(), "does not look like a CT"),
        ("CT", ct() + 1024, "does not look like a CT"),
        ("MR", mr(), None),
        ("CT", ct(), None),
        ("", ct(), None),
        ("", mr(), None),
    ],
)
def test_a_model_refuses_the_other_kind(
    make_bundle, modality: str, values: np.ndarray, sentence: str | None
) -> None:
    bundle = Bundle.open(make_bundle(modality=modality, name="made"))
    if sentence is None:
        check_modality([volume(values)], bundle)
        return
    with pytest.raises(BadInput, match=sentence) as caught:
        check_modality([volume(values)], bundle)
    assert caught.value.code == "wrong-modality"
    assert caught.value.help


def test_segment_writes_nothing_of_it(make_bundle, tmp_path: Path) -> None:
    import SimpleITK as sitk
    from e2enet.inference import segment

    sitk.WriteImage(sitk.GetImageFromArray(ct()), str(tmp_path / "ct.nii.gz"))
    with pytest.raises(BadInput, match="looks like a CT"):
        segment(tmp_path / "ct.nii.gz", make_bundle(modality="MR"), output=tmp_path / "out.nii.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["ct.nii.gz"]
