"""Whether an image can be what the model was trained on, by its intensities.

A network segments anything, and a CT in a model for MR gives a result that looks like one. CT is
told by its unit: Hounsfield units put air at -1000, fat near -100 and soft tissue at 0 to 100,
while MR has no unit and hardly a value below 0.
"""

from __future__ import annotations

import numpy as np

from e2enet.bundle import Bundle
from e2enet.data.images.volume import Volume
from e2enet.events import BadInput

AIR_HU, SOFT_TISSUE_HU, FAT_HU = -300.0, (-150.0, 150.0), -50.0
_SAMPLES = 1 << 18


def check_modality(volumes: list[Volume], bundle: Bundle) -> None:
    """Refuse a CT for an MR model, and anything without Hounsfield units for a CT model.

    Args:
        volumes: One a channel.
        bundle: Its `modality` says what it is for; where that is neither, nothing is checked.

    Raises:
        BadInput: naming the image, and what its intensities show.
    """
    modality = str(bundle.model.get("modality", "")).upper()
    for volume in volumes:
        values = _sample(volume.array)
        air = float(np.mean(values < AIR_HU))
        if modality in ("MR", "MRI") and is_ct(values):
            raise BadInput(
                f"{volume.name} looks like a CT, and {bundle.name} is a model for MR: "
                f"{air:.0%} of its voxels lie below {AIR_HU:g}, as air does in Hounsfield units.",
                help="Give an MR image, or a model for CT.",
                code="wrong-modality",
            )
        if modality == "CT" and not has_hounsfield_units(values):
            raise BadInput(
                f"{volume.name} does not look like a CT, which {bundle.name} is made for: hardly a "
                f"voxel lies below {FAT_HU:g}, where fat and air are in Hounsfield units (it goes "
                f"from {values.min():g} to {values.max():g}).",
                help="Give a CT in Hounsfield units, or a model for MR.",
                code="wrong-modality",
            )


def is_ct(values: np.ndarray) -> bool:
    """Both air and soft tissue lie where Hounsfield units have them."""
    low, high = SOFT_TISSUE_HU
    air, soft = np.mean(values < AIR_HU), np.mean((values > low) & (values < high))
    return bool(air > 0.01 and soft > 0.03 and np.ptp(values) > 1000)


def has_hounsfield_units(values: np.ndarray) -> bool:
    """Some voxels hold fat or air."""
    return bool(np.mean(values < FAT_HU) > 0.001)


def _sample(array: np.ndarray) -> np.ndarray:
    """Every so many voxels, by a step that shares no factor with the array's rows."""
    step = max(1, array.size // _SAMPLES) | 1
    while any(n % step == 0 and step > 1 for n in array.shape):
        step += 2
    return array.flat[::step]  # a reshape would copy all of an image that was turned
