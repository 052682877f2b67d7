"""Files that are not a whole, scalar image: one sentence with the file's name, no crash."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.data.images import reading
from e2enet.data.images.volume import Grid, read_image, read_label, write_image, write_label
from e2enet.events import BadInput


def noise(shape: tuple[int, ...], seed: int = 0, dtype: type = np.int16) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 200, shape).astype(dtype)


FORMATS = (".nii", ".nii.gz", ".mha", ".nrrd")


def refused(path: Path) -> BadInput:
    with pytest.raises(BadInput) as caught:
        read_image(path)
    error = caught.value
    assert path.name in error.message
    assert error.message.endswith(".")
    assert "\n" not in error.message
    return error


def test_missing_and_empty(tmp_path: Path) -> None:
    assert refused(tmp_path / "no.nii.gz").code == "missing-file"
    (tmp_path / "empty.nii.gz").touch()
    assert refused(tmp_path / "empty.nii.gz").code == "damaged-file"


@pytest.mark.parametrize("name", ["a.txt", "a.nii.gz", "a.nii", "a.mha", "a.nrrd", "a.dcm", "a"])
def test_not_an_image(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_text("Dear reader,\nthis is no image = at all.\n" * 40)
    refused(tmp_path / name)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("keep", [0.5, 0.95])
def test_cut_off(tmp_path: Path, save: Callable[..., Path], ending: str, keep: float) -> None:
    path = save(tmp_path / f"cut{ending}", noise((20, 30, 40)))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    assert refused(path).code in ("damaged-file", "unreadable-image")


def test_gzip_of_too_little(tmp_path: Path, save: Callable[..., Path]) -> None:
    whole = save(tmp_path / "a.nii", noise((20, 30, 40))).read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(whole[: len(whole) // 2]))
    assert refused(tmp_path / "b.nii.gz").code == "damaged-file"


@pytest.mark.parametrize("place", [-8, -4])
def test_a_wrong_checksum_or_length(tmp_path: Path, save: Callable[..., Path], place: int) -> None:
    path = save(tmp_path / "a.nii.gz", noise((20, 30, 40)))
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert refused(path).code in ("damaged-file", "unreadable-image")


def test_a_whole_file_is_decompressed_once(
    tmp_path: Path, save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checksum is that of its voxels; in several pieces of gzip it has to be read again."""
    voxels = noise((20, 30, 40))
    path = save(tmp_path / "a.nii.gz", voxels)
    whole = gzip.decompress(path.read_bytes())
    pieces = tmp_path / "b.nii.gz"
    pieces.write_bytes(gzip.compress(whole[:5000]) + gzip.compress(whole[5000:]))
    assert np.array_equal(read_image(pieces).array, read_image(path).array)
    monkeypatch.setattr(reading, "_length", lambda path: -1)
    assert np.allclose(read_image(path).array, voxels)
    assert refused(pieces).code == "damaged-file"


def test_header_without_data(tmp_path: Path, save: Callable[..., Path]) -> None:
    save(tmp_path / "pair.hdr", noise((5, 6, 7)))
    assert read_image(tmp_path / "pair.hdr").array.shape == (5, 6, 7)
    data = tmp_path / "pair.img"
    data.write_bytes(data.read_bytes()[:100])
    refused(tmp_path / "pair.hdr")
    data.unlink()
    refused(tmp_path / "pair.hdr")


def test_header_that_promises_too_much(tmp_path: Path, save: Callable[..., Path]) -> None:
    path = save(tmp_path / "huge.nii", noise((5, 6, 7)))
    header = bytearray(path.read_bytes())
    header[42:48] = struct.pack("<3h", 30000, 30000, 30000)
    path.write_bytes(header)
    assert "promises" in refused(path).message


@pytest.mark.parametrize("bad", ["NDims = -3", "NDims = 99", "NDims = x", "DimSize = 1 -1 2"])
def test_meta_image_header_that_would_crash(
    tmp_path: Path, save: Callable[..., Path], bad: str
) -> None:
    path = save(tmp_path / "bad.mha", noise((5, 6, 7)))
    field = bad.split(" = ")[0].encode()
    lines = [bad.encode() if s.startswith(field) else s for s in path.read_bytes().split(b"\n")]
    path.write_bytes(b"\n".join(lines))
    assert refused(path).code == "bad-header"


def test_bytes_at_random_never_end_the_process(tmp_path: Path, save: Callable[..., Path]) -> None:
    random = np.random.default_rng(0)
    for ending in FORMATS:
        whole = save(tmp_path / f"whole{ending}", noise((6, 7, 8))).read_bytes()
        for i in range(25):
            broken = bytearray(whole)
            for at in random.integers(0, min(352, len(whole)), 4):
                broken[at] = random.integers(256)
            (tmp_path / f"{i}{ending}").write_bytes(broken)
    code = (
        "import sys, pathlib\nfrom e2enet.data.images.volume import read_image\n"
        "from e2enet.events import BadInput\n"
        "for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):\n"
        "    try: read_image(path)\n    except BadInput: pass\n"
        "print('through')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("through\n", "", 0)


def test_dimensions(tmp_path: Path, save: Callable[..., Path]) -> None:
    image = sitk.JoinSeries([sitk.GetImageFromArray(noise((5, 6, 7), s)) for s in range(3)])
    sitk.WriteImage(image, str(tmp_path / "series.nii.gz"))
    error = refused(tmp_path / "series.nii.gz")
    assert error.code == "not-3d"
    assert "7×6×5×3" in error.message

    sitk.WriteImage(image[..., :1], str(tmp_path / "one.nrrd"))
    volume = read_image(tmp_path / "one.nrrd")
    np.testing.assert_array_equal(volume.array, noise((5, 6, 7), 0))
    assert len(volume.grid.direction) == 9

    assert refused(save(tmp_path / "line.nii.gz", noise((1, 1, 7)))).code == "too-small"


@pytest.mark.parametrize("name", ["flat.nii.gz", "plane.mha", "plane.nii", "photo.png"])
def test_an_image_of_two_dimensions_is_a_volume_of_one_slice(
    tmp_path: Path, save: Callable[..., Path], name: str
) -> None:
    pixels = noise((6, 7), dtype=np.uint8)
    path = save(tmp_path / name, pixels[None] if name == "flat.nii.gz" else pixels)
    volume = read_image(path)
    np.testing.assert_array_equal(volume.array, pixels[None].astype(np.float32))
    assert volume.grid.size_xyz == (7, 6, 1)
    assert np.linalg.det(np.reshape(volume.grid.direction, (3, 3))) == pytest.approx(1)
    again = read_label(path)
    assert again.grid.same_as(volume.grid)


def test_a_colour_photograph(tmp_path: Path) -> None:
    pixels = sitk.GetImageFromArray(noise((6, 7, 3), dtype=np.uint8), isVector=True)
    sitk.WriteImage(pixels, str(tmp_path / "photo.png"))
    error = refused(tmp_path / "photo.png")
    assert error.code == "not-scalar"
    assert "3 values" in error.message
    assert "colour" in error.message


def test_labels_as_png(tmp_path: Path) -> None:
    """PNG has no signed numbers, and no third dimension."""
    grid = Grid((7, 6, 1), (0.5, 0.25, 1.0))
    for high in (200, 3000):
        label = noise((1, 6, 7)).astype(np.int16) % high
        write_label(tmp_path / "label.png", label, grid)
        found = read_label(tmp_path / "label.png")
        np.testing.assert_array_equal(found.array, label)
        assert found.grid.same_as(grid, tolerance=1e-2)
    with pytest.raises(BadInput, match="single slice"):
        write_label(
            tmp_path / "deep.png", np.zeros((2, 6, 7), np.uint8), Grid((7, 6, 2), (1, 1, 1))
        )
    with pytest.raises(BadInput, match="whole numbers"):
        write_image(tmp_path / "float.png", np.zeros((1, 6, 7), np.float32), grid)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["label.png"]


def test_vectors_and_complex(tmp_path: Path, save: Callable[..., Path]) -> None:
    path = save(tmp_path / "rgb.nii.gz", noise((5, 6, 7, 3), dtype=np.uint8), vector=True)
    error = refused(path)
    assert error.code == "not-scalar"
    assert "3 values" in error.message
    with pytest.raises(BadInput):
        read_label(path)
    assert refused(save(tmp_path / "k.nii.gz", noise((5, 6, 7), dtype=np.complex64)))


def test_ten_to_one(tmp_path: Path, save: Callable[..., Path]) -> None:
    path = save(tmp_path / "thick.nii.gz", noise((5, 60, 70)), spacing=(0.5, 0.5, 5.0))
    assert read_image(path).grid.spacing_zyx == (5.0, 0.5, 0.5)


def test_odd_files_of_the_shared_folder(shared: Path, capfd: pytest.CaptureFixture[str]) -> None:
    reads = {"dicom_cthead", "nan.mha", "nan_seg.mha", "oblique_adc.nii.gz"}
    for path in sorted((shared / "data" / "odd").iterdir()):
        if path.name in reads:
            volume = read_image(path)
            assert np.isfinite(volume.array).all()
            assert volume.array.shape == volume.grid.shape
        else:
            refused(path)
    assert capfd.readouterr() == ("", "")
