"""Which axes may be mirrored, by the labels' names."""

from __future__ import annotations

import pytest
from e2enet.data.planning.laterality import mirroring

ALL, NOT_X = (0, 1, 2), (0, 1)


@pytest.mark.parametrize(
    ("names", "axes", "pairs"),
    [
        (["tumour", "oedema"], ALL, ()),
        (["liver", "right kidney", "left kidney", "spleen"], ALL, ((3, 2),)),
        (["RightParotid", "LeftParotid", "Mandible"], ALL, ((2, 1),)),
        (["kidney_l", "kidney_r"], ALL, ((1, 2),)),
        (["L Parotid", "R Parotid"], ALL, ((1, 2),)),
        (["Left-Hippocampus", "Right-Hippocampus"], ALL, ((1, 2),)),
        (["lh amygdala", "rh amygdala", "left eye", "right eye"], ALL, ((1, 2), (3, 4))),
        (["left kidney", "liver"], NOT_X, ()),
        (["left kidney", "right kidney", "left adrenal"], NOT_X, ()),
        (["left ventricle", "right ventricle"], NOT_X, ()),
        (["left lateral ventricle", "right lateral ventricle"], ALL, ((1, 2),)),
        (["left lung", "right lung"], NOT_X, ()),
        (["left and right kidney"], NOT_X, ()),
        (["left kidney", "Left_Kidney", "right kidney"], NOT_X, ()),
        (["Anterior", "Posterior"], (0, 2), ()),
        (["upper jaw", "lower jaw"], (1, 2), ()),
        (["inferior vena cava", "aorta"], ALL, ()),
        (["brightness", "leftover", "l", "copyright"], ALL, ()),
    ],
)
def test_names(names: list[str], axes: tuple, pairs: tuple) -> None:
    labels = {"background": 0, **{name: i + 1 for i, name in enumerate(names)}}
    assert mirroring(labels) == (axes, pairs)
