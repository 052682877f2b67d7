"""The plan that fits the machine, and what takes its place where that does not work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from e2enet.cli.app import app
from e2enet.events import Reporter
from e2enet.inference.sliding_window.arrays import copied
from e2enet.inference.sliding_window.predictor import Predictor
from e2enet.runtime import ExecutionPlan, Precision, Runtime, execution_plan
from e2enet.runtime import execution as compiling
from e2enet.runtime.kernels import cpu, pairs
from e2enet.runtime.plans.gathered import GatheredPlan
from e2enet.runtime.plans.sparse import SparsePlan
from torch import Tensor, nn
from typer.testing import CliRunner

from .made import assert_same, made_image, made_network

S222 = (2, 2, 2)


@pytest.fixture
def _asked_again() -> Iterator[None]:
    """Whether the kernels work is found out anew, here and by whoever comes next."""
    compiling._why_no_kernels.cache_clear()
    yield
    compiling._why_no_kernels.cache_clear()


def assert_works(plan: ExecutionPlan) -> None:
    network = made_network([S222], base=5, sparsity=0.8)
    image = made_image(network, (2, 2, 3), batch=2)
    assert_same(plan(image), network, image)


def compiled() -> ExecutionPlan:
    return execution_plan(made_network([S222], base=5, sparsity=0.8))


def test_a_cpu_gets_the_sparse_kernels() -> None:
    plan = compiled()
    assert plan.name == "sparse"
    assert plan.fallback is None
    assert_works(plan)


@pytest.mark.parametrize("error", [ImportError, SystemError, RuntimeError])
@pytest.mark.usefixtures("_asked_again")
def test_without_numba_or_with_one_that_does_not_start(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        def find_spec(self, name: str, *_: Any) -> None:
            if name == "e2enet.runtime.plans.sparse":
                raise error("Numba needs NumPy 1.99 or less.")

    monkeypatch.delitem(sys.modules, "e2enet.runtime.plans.sparse")
    monkeypatch.setattr(sys, "meta_path", [Refusing(), *sys.meta_path])
    plan = compiled()
    assert plan.name == "gathered"
    assert plan.fallback
    assert_works(plan)


def test_numba_is_imported_by_the_sparse_kernels_alone() -> None:
    """So that all else runs where it is not installed."""
    code = (
        "import sys; sys.modules['numba'] = sys.modules['llvmlite'] = None\n"
        "import torch; from e2enet.networks import E2ENet\n"
        "from e2enet.runtime import execution_plan\n"
        "network = E2ENet(1, 2, [(2, 2, 2)], base_channels=3, deep_supervision=False).eval()\n"
        "image = torch.randn(1, 1, 4, 6, 10)\n"
        "with torch.inference_mode(): wanted = network(image)\n"
        "assert torch.allclose(execution_plan(network)(image), wanted, atol=1e-4)\n"
        "import e2enet.inference.sliding_window.predictor\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("_asked_again")
def test_kernels_that_this_cpu_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: Any) -> None:
        raise RuntimeError("LLVM ERROR: Cannot select: intrinsic %llvm.fma")

    monkeypatch.setattr(SparsePlan, "__call__", unsupported)
    plan = compiled()
    assert plan.name == "gathered"
    assert plan.fallback
    assert_works(plan)


@pytest.mark.usefixtures("_asked_again")
def test_kernels_that_compute_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    right = SparsePlan.__call__
    monkeypatch.setattr(SparsePlan, "__call__", lambda self, image: right(self, image) + 0.01)
    plan = compiled()
    assert plan.name == "gathered"
    assert plan.fallback
    assert_works(plan)


@pytest.mark.usefixtures("_asked_again")
def test_kernels_that_make_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    right = SparsePlan.__call__
    monkeypatch.setattr(SparsePlan, "__call__", lambda self, image: right(self, image) * np.nan)
    assert compiled().name == "gathered"


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_what_numba_may_not_use_is_not_used(precision: str) -> None:
    """LLVM would end the process: it is told to compile for a CPU without float16."""
    code = (
        "from e2enet.runtime.execution import kernel_precision\n"
        f"assert kernel_precision({precision!r}) == 'float32'\n"
    )
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


COMPILED = """
from e2enet.runtime.execution import kernels_work
from e2enet.runtime.kernels import convolution, pointwise, winograd
assert kernels_work()
used = winograd.transform_kernels, convolution.convolve, pointwise.expand, pointwise.pool
print(all(kernel.signatures for kernel in used))
"""


def test_the_trial_tries_every_kernel() -> None:
    """What `doctor` says to work, works; and it has compiled all that segmenting needs."""
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], check=True, stdout=subprocess.PIPE, text=True
    )
    assert done.stdout.strip() == "True"


LOADED = """
import sys
import numba
from e2enet.runtime.execution import kernels_work
assert kernels_work()
loaded = [name for name in ("numba.np.arraymath", "scipy.linalg") if name in sys.modules]
assert numba.njit(lambda x: abs(x) ** 0.5)(-4.0) == 2.0  # compiling still works
print(loaded)
"""


def test_compiled_kernels_load_without_what_compiles() -> None:
    """Numba's registries, and SciPy with them, cost a third of a second of each process."""
    for _ in range(2):  # the first may have to compile
        done = subprocess.run(
            [sys.executable, "-c", LOADED], check=True, stdout=subprocess.PIPE, text=True
        )
    assert done.stdout.strip() == "[]"


def test_another_network_runs_as_it_is() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(2, 3, 1)
            self.drop = nn.Dropout(0.5)

        def forward(self, x: Tensor) -> list[Tensor]:
            y = self.drop(self.conv(x))
            return [y, y[..., ::2]]

    network = Heads()
    image = torch.randn(1, 2, 3, 4, 5)
    found = execution_plan(network)(image)
    assert torch.allclose(found, network.conv(image))
    assert not found.requires_grad


def reference(network: nn.Module) -> ExecutionPlan:
    return execution_plan(network, runtime="reference")


def gathered(network: Any) -> GatheredPlan:
    return GatheredPlan(network, torch.device("cpu"))


@pytest.mark.parametrize("plan_of", [execution_plan, reference, gathered])
@pytest.mark.parametrize("shape", [(1, 2, 8, 8, 8), (1, 8, 8, 8), (1, 1, 7, 8, 8)])
def test_images_that_the_network_does_not_take(plan_of: Any, shape: tuple[int, ...]) -> None:
    network = made_network([S222])
    with pytest.raises(ValueError, match=r"E2ENet takes|does not divide"):
        plan_of(network)(torch.zeros(shape))


@pytest.mark.parametrize(
    ("asked", "missing", "runs"),
    [
        ("float32", (), "float32"),
        ("float16", (), "float16"),
        ("bfloat16", ("pairs",), "float16"),
        ("bfloat16", ("pairs", "f16c"), "float32"),
        ("float16", ("f16c",), "float32"),
    ],
)
def test_a_cpu_computes_in_what_it_has(
    asked: Precision, missing: tuple[str, ...], runs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    has = cpu.has
    monkeypatch.setattr(cpu, "has", lambda name, **k: name not in missing and has(name, **k))
    if "pairs" in missing:
        monkeypatch.setattr(pairs, "has_pairs", lambda: False)
    network = made_network([S222])
    image = made_image(network, (2, 2, 3))
    plan, exact = execution_plan(network, "cpu", asked), execution_plan(network)
    assert plan.describe()["precision"] == plan.precision == runs
    assert torch.equal(plan(image), exact(image)) == (runs == "float32")


def test_sixteen_bits_that_compute_something_else_are_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiling._works_in.cache_clear()
    run = SparsePlan.__call__

    def turned(plan: SparsePlan, image: np.ndarray) -> np.ndarray:
        return run(plan, image)[..., ::-1] if plan._paired else run(plan, image)

    monkeypatch.setattr(SparsePlan, "__call__", turned)
    assert compiling.kernel_precision("bfloat16") == "float16"
    compiling._works_in.cache_clear()


@pytest.mark.parametrize("runtime", ["sparse", "reference"])
def test_pytorch_on_a_cpu_computes_in_single_precision(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "why_no_kernels", lambda: "they are not wanted")
    plan = execution_plan(made_network([S222]), "cpu", "bfloat16", runtime=runtime)
    assert plan.name in ("gathered", "network")
    assert plan.precision == "float32"


def test_a_network_in_training_mode_with_deep_supervision() -> None:
    network = made_network([S222] * 3, deep_supervision=True).train()
    image = made_image(network, (1, 2, 2))
    found = execution_plan(network)(image)
    assert_same(found, network.eval(), image)


def test_segment_writes_the_same_labels_with_and_without(tiny_bundle: Path, tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(100, 20, (12, 18, 16)).astype(np.float32)
    image = os.fspath(tmp_path / "case.nii.gz")
    sitk.WriteImage(sitk.GetImageFromArray(array), image)
    labels = []
    for runtime in ("reference", "sparse"):
        output = os.fspath(tmp_path / f"{runtime}.nii.gz")
        arguments = ["segment", image, "--model", os.fspath(tiny_bundle), "--output", output]
        outcome = CliRunner().invoke(app, [*arguments, "--runtime", runtime])
        assert outcome.exit_code == 0, outcome.output
        labels.append(sitk.GetArrayFromImage(sitk.ReadImage(output)))
    assert len(np.unique(labels[0])) > 1
    np.testing.assert_array_equal(*labels)
    halved = CliRunner().invoke(app, [*arguments, "--precision", "float16"])
    assert halved.exit_code == 0, halved.output
    manifest = json.loads((tmp_path / "sparse.manifest.json").read_text())
    assert manifest["options"]["precision"] == "float16"
    assert manifest["runtime"]["precision"] == compiling.kernel_precision("float16")
    refused = CliRunner().invoke(app, [*arguments, "--precision", "int8"])
    assert refused.exit_code == 2


def test_from_a_full_gpu_the_work_moves_to_the_sparse_kernels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = made_network([S222], base=5)
    patch, image = (4, 4, 4), np.random.default_rng(0).normal(size=(1, 6, 5, 7)).astype(np.float32)
    plain = Predictor(network, patch=patch, classes=3, runtime="reference")
    wanted = np.concatenate([block.copy() for block in plain.stream(image)])

    class Heard(Reporter):
        codes: list[str] = []  # noqa: RUF012

        def warning(self, code: str, message: str) -> None:
            self.codes.append(code)

    def full(_: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("out of memory")

    predictor = Predictor(network, patch=patch, classes=3, reporter=Heard())
    monkeypatch.setattr(predictor, "device", "meta")
    monkeypatch.setattr(predictor, "_plan", full)
    monkeypatch.setattr(Tensor, "to", lambda self, *arguments, **more: self)
    found = np.concatenate([copied(block) for block in predictor.stream(image)])
    assert Heard.codes == ["out-of-memory-cpu"]
    assert predictor.plan.name == "sparse"
    np.testing.assert_allclose(found, wanted, atol=1e-4)
