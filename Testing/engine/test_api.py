"""What a Python program imports from the package itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import e2enet
import numpy as np
import pytest
import SimpleITK as sitk
from e2enet import BadInput, Cancelled, Reporter, evaluate, segment, train


def test_everything_that_is_promised_is_there() -> None:
    for name in e2enet.__all__:
        assert getattr(e2enet, name) is not None
        assert name in dir(e2enet)
    with pytest.raises(AttributeError, match="no attribute 'segmnt'"):
        e2enet.segmnt  # noqa: B018


def test_the_package_loads_nothing_until_it_is_used() -> None:
    code = (
        "import sys, e2enet; before = {m.split('.')[0] for m in sys.modules};"
        "assert not before & {'numpy', 'torch', 'SimpleITK', 'typer'}, before;"
        "from e2enet import BadInput; assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_types_travel_with_the_package() -> None:
    assert (Path(e2enet.__file__).parent / "py.typed").is_file()


class Listener(Reporter):
    """What a program writes to hear how far the work is; raising Cancelled stops it."""

    def __init__(self, stop_at: str = "") -> None:
        self.stages: list[str] = []
        self.stop_at = stop_at

    def progress(self, stage: str, done: int, total: int) -> None:
        self.stages.append(stage)
        if stage == self.stop_at:
            raise Cancelled


def test_a_model_from_training_to_evaluation(tiny_dataset: Path, tmp_path: Path) -> None:
    listener = Listener()
    trained = train(
        tiny_dataset, tmp_path / "model", epochs=1, iterations_per_epoch=1, base_channels=4,
        patch=(16, 16, 16), batch_size=2, workers=0, device="cpu", reporter=listener,
    )  # fmt: skip
    assert trained.bundle == tmp_path / "model"
    case = tiny_dataset / "imagesTs" / "tiny_006_0000.nii.gz"
    result = segment(case, trained.bundle, output=tmp_path / "out.nii.gz", reporter=listener)
    assert result.label.shape == result.grid.shape
    assert list(result.volumes_ml) == ["sphere", "cube"]
    found = evaluate(tmp_path / "out.nii.gz", tiny_dataset / "labelsTs" / "tiny_006.nii.gz")
    assert list(found.cases) == ["tiny_006"]
    assert {"read", "inference", "write"} <= set(listener.stages)


def test_a_reporter_can_cancel_and_nothing_is_left(
    tiny_dataset: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    case = tiny_dataset / "imagesTs" / "tiny_006_0000.nii.gz"
    with pytest.raises(Cancelled):
        segment(case, tiny_bundle, output=tmp_path / "out.nii.gz", reporter=Listener("inference"))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BadInput, match="does not exist"):
        segment(tmp_path / "none.nii.gz", tiny_bundle)


def test_images_in_memory_and_back(tiny_bundle: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    """The same labels as from the file, in each form; what is saved as well."""
    import nibabel

    path = tiny_dataset / "imagesTs" / "tiny_006_0000.nii.gz"
    from_file = segment(path, tiny_bundle, device="cpu")
    image = sitk.ReadImage(path)
    grid = e2enet.Grid(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    volume = e2enet.Volume(sitk.GetArrayFromImage(image), grid, "case 6")
    for given in (image, nibabel.load(path), volume, [volume]):
        result = segment(given, tiny_bundle, device="cpu", output=tmp_path / "out.nii.gz")
        np.testing.assert_array_equal(result.label, from_file.label)
    assert result.manifest["case"] == "case 6"
    (described,) = result.manifest["inputs"]
    assert described["memory"] == "case 6"
    saved = sitk.ReadImage(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(result.image()), sitk.GetArrayFromImage(saved)
    )
    np.testing.assert_array_equal(result.nibabel().get_fdata().T, result.label)
    np.testing.assert_array_equal(result.metatensor()[0].numpy().T, result.label)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda v: v.array, "array-without-grid"),
        (lambda v: [v, v], "channel-count"),
        (lambda v: [v, "head.nii.gz"], "mixed-inputs"),
        (lambda v: e2enet.Volume(v.array.T, v.grid), "grid-mismatch"),
        (lambda v: e2enet.Volume(np.full_like(v.array, np.nan), v.grid), "not-finite"),
    ],
)
def test_images_in_memory_that_cannot_be_used(tiny_bundle: Path, spoil: Any, code: str) -> None:
    volume = e2enet.Volume(np.zeros((12, 14, 16), np.float32), e2enet.Grid((16, 14, 12), (1, 1, 1)))
    with pytest.raises(BadInput) as caught:
        segment(spoil(volume), tiny_bundle, device="cpu")
    assert caught.value.code == code
