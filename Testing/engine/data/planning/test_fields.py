"""A plan edited by hand: what is wrong is named."""

from __future__ import annotations

import copy

import pytest
from e2enet.data.planning.plan import Plan
from e2enet.events import BadInput

GOOD = {
    "spacing": [3, 1.0, 1.0],
    "transpose": [0, 1, 2],
    "patch": [16, 32, 32],
    "strides": [[1, 2, 2], [2, 2, 2]],
    "batch_size": 2,
    "channels": [
        {"name": "CT", "normalisation": "ct", "mean": 1, "std": 2, "lower": -3, "upper": 4},
        {"name": "PET"},
    ],
    "mirror_axes": [2, 1],
    "left_right_axis": 2,
    "left_right_pairs": [[1, 2], [4, 3]],
}


def test_good() -> None:
    plan = Plan.from_dict(GOOD)
    assert plan.spacing == (3.0, 1.0, 1.0)
    assert plan.mirror_axes == (1, 2)
    assert plan.channels[1].normalisation == "zscore"
    assert plan.left_right_pairs == ((1, 2), (4, 3))
    assert Plan.from_dict(plan.to_dict()) == plan
    short = {k: v for k, v in GOOD.items() if "mirror" not in k and "left" not in k}
    assert Plan.from_dict(short).mirror_axes == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("spacing", [1, 1]),
        ("spacing", [1, 0, 1]),
        ("spacing", [1, float("nan"), 1]),
        ("spacing", "1 1 1"),
        ("transpose", [0, 1, 1]),
        ("transpose", [0, 1, 2.0]),
        ("patch", [16, 32, 34]),
        ("patch", [16, 32, True]),
        ("patch", [0, 32, 32]),
        ("strides", []),
        ("strides[1]", [2, 2]),
        ("strides[0]", [0, 1, 1]),
        ("batch_size", 0),
        ("batch_size", 2.5),
        ("robustness", 1.5),
        ("robustness", "high"),
        ("channels", []),
        ("channels[1].name", None),
        ("channels[1].normalisation", "zscor"),
        ("channels[0].std", 0),
        ("channels[0].mean", None),
        ("channels[0].lower", 9),
        ("channels[0].median", 9),
        ("mirror_axes", [3]),
        ("mirror_axes", 1),
        ("left_right_axis", 1),
        ("left_right_axis", None),
        ("left_right_pairs", [[1, 2], [2, 3]]),
        ("left_right_pairs", [[0, 2]]),
        ("left_right_pairs", [1, 2]),
        ("paches", [1, 2, 3]),
    ],
)
def test_wrong_field_is_named(field: str, value: object) -> None:
    record = copy.deepcopy(GOOD)
    holder, _, key = field.rpartition(".")
    target = record["channels"][int(holder[-2])] if holder else record
    if key.endswith("]"):
        target, key = target[key[:-3]], int(key[-2])
    target[key] = value
    with pytest.raises(BadInput) as caught:
        Plan.from_dict(record)
    assert f'"{field}"' in caught.value.message
    assert caught.value.code == "bad-plan"


@pytest.mark.parametrize("field", [k for k in GOOD if "left" not in k and "mirror" not in k])
def test_missing_field_is_named(field: str) -> None:
    with pytest.raises(BadInput, match=f'lacks the field "{field}"'):
        Plan.from_dict({k: v for k, v in GOOD.items() if k != field})


def test_not_an_object() -> None:
    with pytest.raises(BadInput):
        Plan.from_dict([1])  # type: ignore[arg-type]
