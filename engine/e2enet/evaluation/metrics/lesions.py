"""Structures that come in pieces: how many of them were found."""

from __future__ import annotations

import math

import numpy as np
import SimpleITK as sitk


def lesion_f1(prediction: np.ndarray, reference: np.ndarray) -> float:
    """F1 over connected pieces (26 neighbours), as in the ISLES 2022 challenge.

    A piece of the reference is found where the prediction covers one of its voxels or more; a
    piece of the prediction that covers none of the reference is a false one.

    Args:
        prediction, reference: (D, H, W) bool of one shape.

    Returns:
        2 · found / (2 · found + missed + false); NaN where both are empty.
    """
    pieces, wanted = _pieces(reference)
    found = int(np.count_nonzero(np.unique(pieces[prediction])))
    pieces, predicted = _pieces(prediction)
    false = predicted - int(np.count_nonzero(np.unique(pieces[reference])))
    total = 2 * found + (wanted - found) + false
    return 2 * found / total if total else math.nan


def _pieces(mask: np.ndarray) -> tuple[np.ndarray, int]:
    image = sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)), True)
    pieces = sitk.GetArrayFromImage(image)
    return pieces, int(pieces.max(initial=0))
