"""What a segmentation is: the label map, its volumes and the record of how it came about.

On disk: OUTPUT, beside it STEM.volumes.csv and STEM.manifest.json, and if asked for a folder
STEM_probabilities. All appear together and whole, or not at all.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from e2enet.data.images.memory import to_metatensor, to_nibabel
from e2enet.data.images.naming import image_stem
from e2enet.data.images.orientation import Undo
from e2enet.data.images.volume import WRITABLE, Grid, write_image, write_label
from e2enet.events import BadInput
from e2enet.files import check_writable, output_errors, scratch_folder

if TYPE_CHECKING:
    import nibabel
    import SimpleITK as sitk
    from monai.data import MetaTensor

_NAME_BYTES = 255  # of a name, in every usual file system


@dataclass(frozen=True)
class LabelVolume:
    """One structure of a result: what the bundle says, how large it is, and whether to doubt it.

    Of a region, `values` are all numbers in the label map that belong to it, and count.
    """

    value: int
    name: str
    color: tuple[int, int, int]
    terminology: dict[str, Any]
    volume_ml: float
    voxels: int
    doubtful: bool = False
    values: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the volume in mL."""
        return {
            "value": self.value,
            "name": self.name,
            **({"values": list(self.values)} if self.values else {}),
            "color": list(self.color),
            "terminology": self.terminology,
            "volume_ml": round(self.volume_ml, 6),
            "voxels": self.voxels,
            "doubtful": self.doubtful,
        }


@dataclass(frozen=True)
class Outputs:
    """The files of one result."""

    segmentation: Path
    volumes: Path
    manifest: Path
    probabilities: Path

    @classmethod
    def of(cls, output: str | os.PathLike[str], endings: tuple[str, ...] = WRITABLE) -> Outputs:
        """Names beside OUTPUT.

        Raises:
            BadInput: OUTPUT's ending is no image format that is written.
        """
        path = Path(output)
        if path.is_dir() or not path.name.lower().endswith(endings):
            raise BadInput(
                f"{path} is no name for a segmentation.",
                help=f"Choose a file name that ends in one of {', '.join(endings)}.",
                code="output-format",
            )
        stem = image_stem(path)
        return cls(
            path,
            path.with_name(f"{stem}.volumes.csv"),
            path.with_name(f"{stem}.manifest.json"),
            path.with_name(f"{stem}_probabilities"),
        )

    def check_grid(self, grid: Grid) -> None:
        """Raise BadInput if the format cannot hold a label map on this grid."""
        if self.segmentation.suffix.lower() == ".png" and grid.shape[0] > 1:
            raise BadInput(
                f"{self.segmentation} is no name for a segmentation of {grid.shape[0]} slices.",
                help="Choose a file name that ends in .nii.gz; PNG holds a single image.",
                code="output-format",
            )

    def check(self, inputs: Sequence[Path]) -> None:
        """Raise BadInput if writing would destroy an input or cannot work."""
        for path in inputs:
            if path.exists() and self.segmentation.exists():
                same = os.path.samefile(path, self.segmentation)
            else:
                same = path.absolute() == self.segmentation.absolute()
            if same:
                raise BadInput(
                    f"The output {self.segmentation} is the input itself.",
                    help="Choose another name; the input is never overwritten.",
                    code="output-is-input",
                )
        longest = max((self.volumes, self.manifest, self.probabilities), key=_name_bytes)
        if _name_bytes(longest) > _NAME_BYTES:
            raise BadInput(
                f"The name {self.segmentation.name} is too long: {longest.name} beside it could "
                "not be written.",
                help=f"Leave {_name_bytes(longest) - _NAME_BYTES} characters out.",
                code="name-too-long",
            )
        check_writable(self.segmentation)


@dataclass
class Result:
    """A finished segmentation.

    Attributes:
        label: (z, y, x) label map on `grid`, uint8 or int16.
        grid: The input's own grid.
        labels: Structures with names, colours and volumes, in the model's order.
        manifest: How it came about: versions, device, times, input hashes.
        probabilities: (K, z, y, x) float16 of the `labels` in canonical orientation, or None;
            `probability(value)` gives one on `grid`.
    """

    label: np.ndarray
    grid: Grid
    labels: list[LabelVolume]
    manifest: dict[str, Any]
    probabilities: np.ndarray | None = field(default=None, repr=False)
    undo: Undo | None = field(default=None, repr=False)

    @property
    def volumes_ml(self) -> dict[str, float]:
        """Volume of each structure in mL, by name."""
        return {label.name: label.volume_ml for label in self.labels}

    def image(self) -> sitk.Image:
        """The label map as a SimpleITK image."""
        return self.grid.image(self.label)

    def nibabel(self) -> nibabel.Nifti1Image:
        """The label map as a nibabel image (x, y, z)."""
        return to_nibabel(self.label, self.grid)

    def metatensor(self) -> MetaTensor:
        """The label map as a MONAI MetaTensor (1, x, y, z), its affine in RAS."""
        return to_metatensor(self.label, self.grid)

    def probability(self, value: int) -> np.ndarray:
        """Probability of a label: (z, y, x) float32 on `grid`."""
        if self.probabilities is None or self.undo is None:
            raise ValueError("segment was not asked for probabilities")
        index = [label.value for label in self.labels].index(value)
        return self.undo(self.probabilities[index]).astype(np.float32)

    def save(self, output: str | os.PathLike[str]) -> Outputs:
        """Write label map, volumes, manifest and probabilities; an older result is replaced.

        Args:
            output: File name; the folder is made if it is missing.

        Raises:
            BadInput: It cannot be written; then nothing has changed.
        """
        return self.save_as(
            Outputs.of(output), lambda path: write_label(path, self.label, self.grid)
        )

    def save_as(self, outputs: Outputs, write: Callable[[Path], None]) -> Outputs:
        """As `save`, with the label map written by `write`."""
        folder = outputs.segmentation.parent
        with output_errors(outputs.segmentation), scratch_folder(folder) as scratch:
            write(scratch / outputs.segmentation.name)
            self._write_volumes(scratch / outputs.volumes.name)
            self._write_manifest(scratch / outputs.manifest.name)
            if self.probabilities is not None:
                self._write_probabilities(scratch / outputs.probabilities.name)
            # Only renames from here on: a full disk or a cancel can no longer cut it short. The
            # manifest comes last: where it is, all it speaks of is there, also after a kill.
            if self.probabilities is not None:
                outputs.probabilities.mkdir(exist_ok=True)
                for path in (scratch / outputs.probabilities.name).iterdir():
                    os.replace(path, outputs.probabilities / path.name)
            for path in (outputs.volumes, outputs.segmentation, outputs.manifest):
                os.replace(scratch / path.name, path)
        return outputs

    def describe(self, outputs: Outputs) -> dict[str, Any]:
        """The content of the `result` event."""
        return describe_result(self.manifest, outputs)

    def _write_volumes(self, path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["value", "name", "volume_ml", "voxels"])
            for label in self.labels:
                writer.writerow([label.value, label.name, f"{label.volume_ml:.4f}", label.voxels])

    def _write_manifest(self, path: Path) -> None:
        text = json.dumps(self.manifest, indent=2, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")

    def _write_probabilities(self, folder: Path) -> None:
        folder.mkdir()
        for label in self.labels:
            name = _probability_name(label.value, label.name)
            write_image(folder / name, self.probability(label.value), self.grid)


def describe_result(manifest: Mapping[str, Any], outputs: Outputs) -> dict[str, Any]:
    """The content of the `result` event, from a manifest of this or an earlier process."""
    values: dict[str, Any] = {
        "output": os.fspath(outputs.segmentation),
        "volumes": os.fspath(outputs.volumes),
        "manifest": os.fspath(outputs.manifest),
        "labels": manifest["labels"],
        "doubtful": manifest["doubtful"],
        "device": manifest["device"]["used"],
        "seconds": manifest["seconds"],
        "regions": manifest["regions"],
    }
    if manifest["options"]["save_probabilities"]:
        values["probabilities"] = {
            label["value"]: os.fspath(
                outputs.probabilities / _probability_name(label["value"], label["name"])
            )
            for label in manifest["labels"]
        }
    return values


def _name_bytes(path: Path) -> int:
    return len(os.fsencode(path.name))


def _probability_name(value: int, name: str) -> str:
    safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
    return f"{value}_{safe}.nii.gz"
