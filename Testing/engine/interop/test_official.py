from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from e2enet.dsff import Connections
from e2enet.events import BadInput
from e2enet.interop.official import DoesNotFitError, from_state_dict, released_name
from e2enet.networks import E2ENet

RELEASED = Path(__file__).parents[1] / "released"
STRIDES = [(1, 2, 2), (2, 2, 2), (2, 2, 2)]


def released(network: E2ENet) -> dict[str, torch.Tensor]:
    """The state dict of a network under released names, spelled out a second time."""
    last = network.levels - 1
    state = {}

    def block(ours: str, theirs: str) -> None:
        for part in ("conv.weight", "conv.bias", "norm.weight", "norm.bias"):
            value = network.get_parameter(f"{ours}.{part}").detach().clone()
            state[f"{theirs}.{part.replace('norm', 'instnorm')}"] = value

    for level in range(last):
        for index in (0, 1):
            name = f"conv_blocks_context.{level}.blocks.{index}"
            block(f"backbone.{level}.{index}", name)
    for index in (0, 1):
        block(f"backbone.{last}.{index}", f"conv_blocks_context.{last}.{index}.blocks.0")
    for z in range(last):
        for k in range(last - z):
            level, stage = (last - 1 - z) - k, k + 1
            for index in range(2 if z == 0 else 1):
                block(f"nodes.{stage}_{level}.{index}", f"loc{z}.{k}.{index}.blocks.0")
            up = network.get_parameter(f"ups.{stage}_{level}.weight")
            state[f"up{z}.{k}.weight"] = up.detach().clone()
    for head in range(network.num_heads):
        weight = network.get_parameter(f"heads.{head}.weight")
        state[f"seg_outputs.{head}.weight"] = weight.detach().clone()
    return state


def small(**more: int) -> E2ENet:
    torch.manual_seed(0)
    return E2ENet(2, 3, STRIDES, **{"base_channels": 3, "max_channels": 10, **more}).eval()


def compare_with_released(path: Path, masked: bool, heads: int) -> None:
    data = np.load(path)
    state = {
        name.removeprefix("weights/"): torch.from_numpy(data[name])
        for name in data.files
        if name.startswith("weights/")
    }
    masks = {n.removeprefix("mask/"): data[n] for n in data.files if n.startswith("mask/")}
    if masked:
        for name, mask in masks.items():
            state[name] = state[name] * torch.from_numpy(mask)[:, :, None, None, None]
    network = from_state_dict(state, data["strides"].tolist(), int(data["shift_groups"]))
    with torch.no_grad():
        outputs = network(torch.from_numpy(data["input"]))
    prefix = "masked_output" if masked else "output"
    assert len(outputs) == heads
    for head, output in enumerate(outputs):
        wanted = torch.from_numpy(data[f"{prefix}_{head}"])
        assert output.shape == wanted.shape
        assert float((output - wanted).abs().max()) < 5e-5  # logits reach 7
    connections = Connections.from_weights(network)
    for name, mask in connections.masks.items():
        theirs = masks[released_name(f"{name}.weight", network.levels)]
        assert np.array_equal(mask.numpy(), theirs | (not masked))


@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
@pytest.mark.parametrize("groups", [3, 5])
def test_outputs_equal_those_of_the_released_operations(groups: int, masked: bool) -> None:
    compare_with_released(RELEASED / f"network_shift{groups}.npz", masked, heads=2)


@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
@pytest.mark.parametrize("groups", [3, 5])
def test_outputs_equal_those_of_the_released_network(
    shared: Path, groups: int, masked: bool
) -> None:
    path = shared / "reference" / f"official_e2enet_shift{groups}.npz"
    compare_with_released(path, masked, heads=4)


@pytest.mark.parametrize("levels", [2, 3, 4, 6])
def test_every_size_comes_back_as_it_was(levels: int) -> None:
    torch.manual_seed(0)
    network = E2ENet(
        1, 2, [(1, 2, 2)] * (levels - 1), base_channels=2, max_channels=7, shift_groups=5
    ).eval()
    again = from_state_dict(released(network), network.strides, 5)
    assert again.arguments == {**network.arguments, "max_channels": again.arguments["max_channels"]}
    assert again.channels == network.channels
    assert not again.training
    image = torch.randn(1, 1, 3, 32, 32)
    with torch.no_grad():
        for ours, theirs in zip(again(image), network(image), strict=True):
            assert torch.equal(ours, theirs)


def test_zero_kernels_are_dead_connections() -> None:
    network = small()
    connections = Connections.random(network, 0.7, seed=3)
    connections.apply()
    again = Connections.from_weights(from_state_dict(released(network), STRIDES, 3))
    assert again.live == connections.live < connections.total
    assert all(torch.equal(mask, again.masks[name]) for name, mask in connections.masks.items())


def test_wrapped_checkpoints_and_other_precisions_are_taken() -> None:
    network = small()
    state = released(network)
    wrapped = {"epoch": 3, "state_dict": {f"module.{n}": t.half() for n, t in state.items()}}
    taken = from_state_dict(wrapped, STRIDES, 3)
    arrays = from_state_dict({n: t.double().numpy() for n, t in state.items()}, STRIDES, 3)
    for name, value in network.state_dict().items():
        assert taken.state_dict()[name].dtype == torch.float32
        assert torch.equal(taken.state_dict()[name], value.half().float())
        assert torch.equal(arrays.state_dict()[name], value)


def test_the_state_dict_and_the_random_state_are_left_alone() -> None:
    state = released(small())
    before = torch.get_rng_state()
    network = from_state_dict(state, STRIDES, 3)
    assert torch.equal(torch.get_rng_state(), before)
    kept = {name: value.clone() for name, value in state.items()}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    assert all(torch.equal(value, kept[name]) for name, value in state.items())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.pop("conv_blocks_context.0.blocks.0.conv.weight"), "0.blocks.0.conv.weight"),
        (lambda s: s.pop("loc0.1.1.blocks.0.instnorm.bias"), "no loc0.1.1.blocks.0.instnorm.bias"),
        (lambda s: s.pop("up1.0.weight"), "no up1.0.weight"),
        (lambda s: s.pop("seg_outputs.0.weight"), "no seg_outputs.0.weight"),
        (lambda s: s.update({"td.weight": torch.zeros(1)}), "has td.weight"),
        (lambda s: s.update({"up0.0.weight": torch.zeros(9, 9, 2, 2, 2)}), "up0.0.weight has sh"),
        (lambda s: s.update({"seg_outputs.1.weight": torch.zeros(4, 6, 1, 1, 1)}), "seg_outputs.1"),
        (
            lambda s: s.update({"loc0.0.0.blocks.0.conv.bias": torch.zeros(10, dtype=torch.int)}),
            "loc0.0.0.blocks.0.conv.bias holds torch.int32",
        ),
        (
            lambda s: s.update({"conv_blocks_context.1.blocks.0.conv.weight": torch.zeros(3, 3)}),
            "five axes",
        ),
        (
            lambda s: s.update(
                {"conv_blocks_context.1.blocks.0.conv.weight": torch.zeros(5, 3, 1, 3, 3)}
            ),
            "3, 5, 10, 10 channels",
        ),
        (dict.clear, "no conv_blocks_context"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change, named: str) -> None:  # type: ignore[no-untyped-def]
    state = released(small())
    change(state)
    with pytest.raises(DoesNotFitError) as caught:
        from_state_dict(state, STRIDES, 3)
    assert named in str(caught.value)
    assert isinstance(caught.value, (BadInput, ValueError))


def test_the_first_difference_in_the_order_of_the_network_is_named() -> None:
    state = released(small())
    del state["seg_outputs.1.weight"]
    del state["conv_blocks_context.2.blocks.1.conv.bias"]
    state["extra"] = torch.zeros(1)
    with pytest.raises(ValueError, match=r"conv_blocks_context\.2\.blocks\.1\.conv\.bias"):
        from_state_dict(state, STRIDES, 3)


def test_wrong_strides_are_noticed() -> None:
    state = released(small())
    with pytest.raises(ValueError, match="4 levels, which need 3 strides, not 2"):
        from_state_dict(state, STRIDES[:2], 3)
    with pytest.raises(ValueError, match=r"up\d\.\d\.weight has shape"):
        from_state_dict(state, [(2, 2, 2)] * 3, 3)


def test_a_prefix_before_only_some_names_is_refused() -> None:
    state = {f"module.{name}": value for name, value in released(small()).items()}
    state["loss.weight"] = torch.zeros(1)
    with pytest.raises(ValueError, match=r"loss\.weight"):
        from_state_dict(state, STRIDES, 3)
