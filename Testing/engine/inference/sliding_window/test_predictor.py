"""The streamed sliding window equals a plain one over the whole volume."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from e2enet.events import BadInput, Reporter
from e2enet.inference.sliding_window import predictor as predictor_file
from e2enet.inference.sliding_window.arrays import copied, to_array
from e2enet.inference.sliding_window.predictor import Predictor
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

CLASSES = 3


class Plain(nn.Module):
    """A network whose output depends on the place in the window, as a real one's does."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.conv = nn.Conv3d(channels, CLASSES, 3, padding=1)
        self.batches: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.batches.append(x.shape[0])
        ramp = torch.linspace(0, 1, x.shape[-1])
        return self.conv(x) * (1 + ramp)


def whole_volume(network: nn.Module, image: np.ndarray, patch: tuple[int, ...]) -> np.ndarray:
    """The definition, in full-size arrays and float64: (K, D, H, W) probabilities."""
    shape = image.shape[1:]
    before = [max(0, p - n) // 2 for n, p in zip(shape, patch, strict=False)]
    after = [max(0, p - n) - b for n, p, b in zip(shape, patch, before, strict=False)]
    padded = np.pad(image, [(0, 0), *zip(before, after, strict=False)])
    places = []
    for size, window in zip(padded.shape[1:], patch, strict=False):
        steps = math.ceil((size - window) / (window / 2)) + 1
        places.append([round(k * (size - window) / max(1, steps - 1)) for k in range(steps)])
    at = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) / (n / 8) for n in patch], indexing="ij")
    weight = np.ones(patch)
    for one in at:
        bell = np.exp(-(one**2) / 2)
        weight *= np.maximum(bell / bell.max(), 1e-3)
    total = np.zeros((CLASSES, *padded.shape[1:]))
    weights = np.zeros(padded.shape[1:])
    for corner in itertools.product(*places):
        box = tuple(slice(c, c + n) for c, n in zip(corner, patch, strict=False))
        with torch.no_grad():
            logits = network(torch.from_numpy(padded[(slice(None), *box)][None]))[0].numpy()
        total[(slice(None), *box)] += logits * weight
        weights[box] += weight
    total /= weights
    total = total[(slice(None), *(slice(b, b + n) for b, n in zip(before, shape, strict=False)))]
    share = np.exp(total - total.max(axis=0))
    return share / share.sum(axis=0)


def streamed(predictor: Predictor, image: np.ndarray) -> np.ndarray:
    """(K, D, H, W)"""
    blocks = [to_array(copied(block)) for block in predictor.stream(image)]
    return np.concatenate(blocks).swapaxes(0, 1)


def made_image(shape: tuple[int, ...], channels: int = 1) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=(channels, *shape)).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 21), st.integers(1, 11), st.integers(1, 11)),
    patch=st.tuples(*[st.integers(3, 8)] * 3),
    batch=st.integers(1, 3),
    block_slices=st.integers(1, 4),
    spilled=st.booleans(),
)
def test_slabs_do_not_show(shape, patch, batch, block_slices, spilled):
    image = made_image(shape)
    bytes_a_slice = 4 * CLASSES * shape[1] * shape[2]
    predictor = Predictor(
        Plain(), patch=patch, classes=CLASSES, batch=batch, budget=0 if spilled else 2**30
    )
    with pytest.MonkeyPatch.context() as patcher:
        patcher.setattr(predictor_file, "_BLOCK_BYTES", block_slices * bytes_a_slice)
        result = streamed(predictor, image)
    np.testing.assert_allclose(result, whole_volume(Plain(), image, patch), atol=2e-5)


def test_two_channels_and_a_list_of_heads():
    class Heads(Plain):
        def forward(self, x):
            finest = super().forward(x)
            return [finest, finest[..., ::2]]

    image = made_image((9, 7, 11), channels=2)
    result = streamed(Predictor(Heads(2), patch=(4, 4, 4), classes=CLASSES), image)
    np.testing.assert_allclose(result, whole_volume(Plain(2), image, (4, 4, 4)), atol=2e-5)


def test_count_is_the_number_of_windows_reported():
    predictor = Predictor(Plain(), patch=(4, 4, 4), classes=CLASSES, batch=3)
    reported: list[int] = []
    for _ in predictor.stream(made_image((9, 7, 5)), on_windows=reported.append):
        pass
    assert sum(reported) == predictor.count((9, 7, 5))


def test_mirroring_averages_logits_and_swaps_left_and_right():
    image = made_image((6, 5, 8))
    network = Plain()
    predictor = Predictor(
        network,
        patch=(6, 5, 8),
        classes=CLASSES,
        mirror_axes=(0, 2),
        left_right_axis=2,
        left_right_pairs=[(1, 2)],
    )
    x = torch.from_numpy(image[None])
    with torch.no_grad():
        straight = network(x)
        depth = network(x.flip(2)).flip(2)
        width = network(x.flip(4)).flip(4)[:, [0, 2, 1]]
        both = network(x.flip(2, 4)).flip(2, 4)[:, [0, 2, 1]]
    expected = torch.softmax((straight + depth + width + both) / 4, dim=1)[0].numpy()
    np.testing.assert_allclose(streamed(predictor, image), expected, atol=1e-6)


class Warnings(Reporter):
    def __init__(self) -> None:
        self.codes: list[str] = []

    def warning(self, code: str, message: str) -> None:
        self.codes.append(code)


class Hungry(Plain):
    """Runs out of memory with more than `limit` windows."""

    limit = 1

    def forward(self, x):
        if x.shape[0] > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
        return super().forward(x)


def test_out_of_memory_takes_fewer_windows():
    image, heard = made_image((9, 9, 9)), Warnings()
    network = Hungry()
    predictor = Predictor(network, patch=(4, 4, 4), classes=CLASSES, batch=4, reporter=heard)
    result = streamed(predictor, image)
    assert heard.codes == ["out-of-memory-smaller", "out-of-memory-smaller"]
    assert set(network.batches) == {1}
    np.testing.assert_allclose(result, whole_volume(Plain(), image, (4, 4, 4)), atol=2e-5)


def test_out_of_memory_on_the_gpu_goes_on_with_the_cpu(monkeypatch):
    class OnGpu(Plain):
        """Stands for a network on a GPU that is full after three windows."""

        left, on_gpu = 3, True

        def to(self, device):
            self.on_gpu = torch.device(device).type != "cpu"
            return self

        def forward(self, x):
            if self.on_gpu:
                self.left -= 1
                if self.left < 0:
                    raise torch.OutOfMemoryError("out of memory")
            return super().forward(x)

    image, heard = made_image((9, 9, 9)), Warnings()
    network = OnGpu()
    predictor = Predictor(network, patch=(4, 4, 4), classes=CLASSES, batch=1, reporter=heard)
    # The computing stays on the CPU; only the decision is under test.
    monkeypatch.setattr(predictor, "device", "meta")
    monkeypatch.setattr(Tensor, "to", lambda self, *args, **kwargs: self)
    network.on_gpu = True
    result = streamed(predictor, image)
    assert heard.codes == ["out-of-memory-cpu"]
    assert predictor.device == "cpu"
    np.testing.assert_allclose(result, whole_volume(Plain(), image, (4, 4, 4)), atol=2e-5)


def test_out_of_memory_on_the_cpu_is_said():
    network = Hungry()
    network.limit = 0
    predictor = Predictor(network, patch=(4, 4, 4), classes=CLASSES)
    with pytest.raises(BadInput, match="not enough memory") as caught:
        streamed(predictor, made_image((5, 5, 5)))
    assert caught.value.code == "out-of-memory"


def test_other_errors_are_not_taken_for_memory():
    class Broken(Plain):
        def forward(self, x):
            raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        streamed(Predictor(Broken(), patch=(4, 4, 4), classes=CLASSES), made_image((5, 5, 5)))
