"""Planning after nnU-Net's rules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from e2enet.data.datasets.raw import Dataset, read_dataset
from e2enet.data.planning.fingerprint import Fingerprint, fingerprint
from e2enet.data.planning.memory import training_bytes
from e2enet.data.planning.plan import Plan, make_plan
from e2enet.events import BadInput
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Described = Callable[..., tuple]


def test_small_isotropic(described: Described) -> None:
    plan = make_plan(*described([(1, 1, 1)] * 170, [(36, 50, 35)] * 170))
    assert (plan.patch, plan.levels, plan.strides) == ((40, 56, 40), 4, ((2, 2, 2),) * 3)
    assert plan.transpose == (0, 1, 2)
    assert plan.divisor == (8, 8, 8)
    assert plan.batch_size >= 2
    assert plan.channels[0].normalisation == "zscore"


def test_depth_is_the_coarsest_axis(described: Described) -> None:
    plan = make_plan(*described([(1.25, 7.7, 1.25)] * 9, [(256, 34, 256)] * 9))
    assert plan.transpose == (1, 0, 2)
    assert plan.spacing == (7.7, 1.25, 1.25)
    assert plan.strides[0] == (1, 2, 2)
    # Equally coarse up to rounding: axial.
    assert make_plan(*described([(0.999, 1.0, 1.0)], [(64, 64, 64)])).transpose == (0, 1, 2)


def test_thick_slices_take_the_tenth_percentile(described: Described) -> None:
    spacings = [(3.0, 1, 1)] * 2 + [(5.0, 1, 1)] * 8
    plan = make_plan(*described(spacings, [(30, 200, 200)] * 10))
    assert plan.spacing[0] == pytest.approx(3.0, abs=0.01)
    # Not where the axis has as many voxels as the others.
    assert make_plan(*described(spacings, [(150, 200, 200)] * 10)).spacing[0] == 5.0


def test_normalisation(described: Described) -> None:
    spacing, size = [(1, 1, 1)], [(64, 64, 64)]
    ct, mr, raw = make_plan(*described(spacing, size, channels=("CT", "T1", "noNorm"))).channels
    assert (ct.normalisation, ct.lower, ct.upper, ct.mean, ct.std) == ("ct", -100, 250, 50, 20)
    assert (mr.normalisation, mr.mean) == ("zscore", None)
    assert raw.normalisation == "none"
    plan = make_plan(*described(spacing, size, crop_share=0.4))
    assert plan.channels[0].normalisation == "zscore-masked"


def test_mirroring_follows_the_transpose(described: Described) -> None:
    labels = {"background": 0, "left kidney": 1, "right kidney": 2}
    plan = make_plan(*described([(1, 1, 4)], [(64, 64, 16)], labels=labels))
    assert plan.transpose == (2, 0, 1)
    assert (plan.left_right_axis, plan.left_right_pairs) == (0, ((1, 2),))
    assert plan.mirror_axes == (0, 1, 2)
    del labels["right kidney"]
    plan = make_plan(*described([(1, 1, 4)], [(64, 64, 16)], labels=labels))
    assert (plan.left_right_axis, plan.mirror_axes) == (None, (1, 2))


def test_overrides(described: Described) -> None:
    data = described([(1, 1, 1)], [(36, 50, 35)])
    plan = make_plan(*data, levels=3, batch_size=5)
    assert (plan.levels, plan.batch_size) == (3, 5)
    plan = make_plan(*data, patch=(32, 48, 32))
    assert plan.patch == (32, 48, 32)
    with pytest.raises(BadInput, match=r"33×48×32 does not divide by 8×8×8") as caught:
        make_plan(*data, patch=(33, 48, 32))
    assert "40×48×32" in caught.value.help
    for wrong in ({"levels": 1}, {"levels": 12}, {"patch": (1, 2, 3)}, {"patch": (2, 2)}):
        with pytest.raises(BadInput):
            make_plan(*data, **wrong)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.tuples(*[st.floats(0.3, 8)] * 3),
    st.tuples(*[st.integers(2, 600)] * 3),
    st.floats(4, 40),
)
def test_any_dataset_gets_a_plan_that_holds(
    described: Described, spacing: tuple, size: tuple, memory: float
) -> None:
    try:
        plan = make_plan(*described([spacing], [size]), memory_gb=memory)
    except BadInput as error:
        assert "levels" in error.message  # noqa: PT017
        assert min(size) < 16
        return
    assert Plan.from_dict(plan.to_dict()) == plan
    assert plan.spacing[0] >= 0.99 * max(plan.spacing) - 1e-6
    cost = training_bytes(
        plan.patch, plan.strides, in_channels=1, num_classes=2, base_channels=48, batch_size=2
    )
    assert cost <= memory * 2**30


def test_less_memory_makes_a_smaller_patch_and_a_cpu_no_larger_one(
    described: Described,
) -> None:
    data = described([(1, 1, 1)] * 20, [(300, 300, 300)] * 20)
    large, small, single = (
        make_plan(*data, memory_gb=memory, mixed=mixed)
        for memory, mixed in ((12, True), (6, True), (12, False))
    )
    assert np.prod(small.patch) < np.prod(large.patch)
    assert np.prod(single.patch) <= np.prod(large.patch)
    assert small.batch_size == single.batch_size == 2
    cost = training_bytes(
        single.patch, single.strides, in_channels=1, num_classes=2, base_channels=48,
        batch_size=2, mixed=False,
    )  # fmt: skip
    assert 0.6 * 12 * 2**30 < cost <= 12 * 2**30


def test_the_width_is_kept(described: Described) -> None:
    data = described([(1, 1, 1)], [(36, 50, 35)])
    plan = make_plan(*data, base_channels=16)
    assert plan.base_channels == 16
    record = plan.to_dict()
    assert Plan.from_dict(record) == plan
    del record["base_channels"]  # a plan that was written before
    assert Plan.from_dict(record).base_channels is None
    for wrong in (0, "16", 2.5):
        with pytest.raises(BadInput, match="base_channels"):
            Plan.from_dict({**record, "base_channels": wrong})


def test_file_and_text(described: Described, tmp_path: Path) -> None:
    plan = make_plan(*described([(1, 1, 1)], [(36, 50, 35)]))
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan
    assert '"patch": [40, 56, 40]' in (tmp_path / "plan.json").read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]
    (tmp_path / "plan.json").write_text('{"patch": 3}')
    with pytest.raises(BadInput, match=r"plan\.json: The plan lacks"):
        Plan.load(tmp_path / "plan.json")
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(BadInput, match=r"plan\.json cannot be read"):
        Plan.load(tmp_path / "plan.json")


@pytest.mark.parametrize(
    ("name", "patch", "strides", "kind"),
    [
        ("Dataset004_Hippocampus", (40, 56, 40), 3, "zscore"),
        ("Dataset020_ChaosT2", None, 5, "zscore"),
        ("Dataset030_HeadNeckCT", None, 4, "ct"),
        ("Dataset015_Brats15", None, 5, "zscore-masked"),
    ],
)
def test_real_datasets(
    shared: Path, name: str, patch: tuple | None, strides: int, kind: str
) -> None:
    dataset = read_dataset(shared / "data" / name)
    plan = make_plan(fingerprint(dataset, workers=0), dataset)
    assert patch in (None, plan.patch)
    assert len(plan.strides) == strides
    assert {channel.normalisation for channel in plan.channels} == {kind}
    if "Chaos" in name:
        assert plan.spacing == pytest.approx((7.7, 1.25, 1.25))
        assert plan.strides[0] == (1, 2, 2)
        assert plan.left_right_pairs == ((3, 2),)


@pytest.mark.parametrize(
    ("channels", "level"),
    [
        (("MRI",), 1.0),
        (("FLAIR", "T1c"), 1.0),
        (("CT",), 0.0),
        (("T1", "CT"), 0.0),
        (("noNorm",), 0.0),
    ],
)
def test_robustness_is_on_where_intensities_have_no_unit(
    described: Callable[..., tuple[Fingerprint, Dataset]], channels: tuple[str, ...], level: float
) -> None:
    found, dataset = described([(1, 1, 1)] * 3, [(64, 64, 64)] * 3, channels=channels)
    plan = make_plan(found, dataset)
    assert plan.robustness == level
    assert '"robustness": ' in plan.to_json()


def test_images_of_two_dimensions_are_one_slice(described: Described) -> None:
    """Also where the file says that the slice is finer, or coarser, than the pixels."""
    for across in (0.1, 1.0, 9.0):
        plan = make_plan(*described([(across, 0.5, 0.5)] * 6, [(1, 240, 300)] * 6))
        assert (plan.flat, plan.patch[0], plan.transpose) == (True, 1, (0, 1, 2))
        assert all(stride[0] == 1 for stride in plan.strides)
        assert plan.mirror_axes == (1, 2)
        assert plan.robustness == 0
        assert Plan.from_dict(plan.to_dict()) == plan
    # The slice lies where the file has it.
    plan = make_plan(*described([(0.5, 0.5, 1.0)] * 3, [(240, 300, 1)] * 3))
    assert (plan.transpose, plan.patch[0]) == ((2, 0, 1), 1)
    # One volume among them, and it is a dataset of volumes.
    assert not make_plan(*described([(1, 1, 1)] * 3, [(1, 64, 64)] * 2 + [(40, 64, 64)])).flat


def test_volumes_slice_by_slice(described: Described) -> None:
    about = described([(5, 1, 1)] * 9, [(30, 200, 200)] * 9)
    plan = make_plan(*about, depth=1)
    assert (plan.patch[0], plan.flat) == (1, False)
    assert plan.spacing[0] == 5
    assert make_plan(*about, patch=(1, 64, 64)).patch == (1, 64, 64)
    with pytest.raises(BadInput, match="only the first may be 1"):
        make_plan(*about, patch=(8, 1, 64))


@pytest.mark.parametrize(("pyramid", "deep"), [("encoder", True), ("planes", False)])
def test_a_classification_network_halves_the_plane_five_times(
    described: Described, pyramid: str, deep: bool
) -> None:
    about = described([(3, 1, 1)] * 9, [(40, 150, 200)] * 9)
    plan = make_plan(*about, pyramid=pyramid)  # type: ignore[arg-type]
    assert [stride[1:] for stride in plan.strides] == [(2, 2)] * 5
    # 3 mm are less than twice the pixels' size only after the plane was halved once.
    depths = [stride[0] for stride in plan.strides]
    assert depths == ([1, 2, 2, 2, 1] if deep else [1] * 5)
    assert all(n % d == 0 for n, d in zip(plan.patch, plan.divisor, strict=True))
    with pytest.raises(BadInput) as caught:
        make_plan(*described([(1, 1, 1)], [(30, 30, 31)]), pyramid=pyramid)  # type: ignore[arg-type]
    assert caught.value.code == "too-small"
    assert "30×31" in caught.value.message


def test_flat_in_a_plan_that_was_edited(described: Described) -> None:
    record = make_plan(*described([(1, 1, 1)] * 2, [(40, 64, 64)] * 2)).to_dict()
    for value in (True, "yes", 1):
        with pytest.raises(BadInput, match="flat"):
            Plan.from_dict({**record, "flat": value})
