"""nnU-Net's plain U-Net as people deploy it on a CPU: OpenVINO, ONNX Runtime, torch.compile.

Run as a program it writes the models that the workloads read into a folder: converting them in the
process that is measured would count as memory of the forward.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from workloads import Workload

ONNX, INT8 = "nnunet.onnx", "nnunet_int8.xml"
NEEDS = {
    "openvino": ("openvino", "onnx", "onnxscript"),
    "openvino-int8": ("openvino", "nncf", "onnx", "onnxscript"),
    "onnxruntime": ("onnxruntime", "onnx", "onnxscript"),
    "torch-compile": (),
}
_CALIBRATION = 4  # images of noise: the speed of int8 does not depend on its scales


def lacking(kind: str) -> str | None:
    """Why a kind cannot be measured here, in a few words; None where it can."""
    absent = [name for name in NEEDS[kind] if importlib.util.find_spec(name) is None]
    return f"not measured: {' and '.join(absent)} not installed" if absent else None


def prepare(workload: Workload, network: nn.Module) -> Callable[[Tensor], Tensor]:
    """What runs the network; `workload.folder` holds the models that `main` wrote.

    Threads are as many as PyTorch's.
    """
    threads, folder = torch.get_num_threads(), Path(workload.folder)
    if workload.kind == "torch-compile":
        compiled = torch.compile(network)

        def run(image: Tensor) -> Tensor:
            with torch.inference_mode():
                return compiled(image)  # type: ignore[no-any-return]

        return run
    if workload.kind == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(
            str(folder / ONNX), options, providers=["CPUExecutionProvider"]
        )
        return lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0])
    import openvino

    eight = workload.kind == "openvino-int8"
    model = openvino.Core().compile_model(
        str(folder / (INT8 if eight else ONNX)),
        "CPU",
        {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "bf16" if workload.precision == "bfloat16" else "f32",
            "PERFORMANCE_HINT": "LATENCY",
        },
    )
    return lambda image: torch.from_numpy(np.array(model(image.numpy())[0]))


def convert(folder: Path, size: tuple[int, ...], kinds: list[str]) -> None:
    """Write the models that some kinds need."""
    from workloads import Workload, nnunet

    image = torch.zeros(1, 1, *size)
    network = nnunet(Workload("nnunet", size=size)).eval()
    torch.onnx.export(
        network, (image,), folder / ONNX, input_names=["image"], dynamo=True, verbose=False
    )
    if "openvino-int8" not in kinds:
        return
    import nncf
    import openvino

    random = np.random.default_rng(0)
    images = [random.normal(size=image.shape).astype(np.float32) for _ in range(_CALIBRATION)]
    model = openvino.Core().read_model(str(folder / ONNX))
    quantised: Any = nncf.quantize(
        model, nncf.Dataset(images), subset_size=_CALIBRATION, fast_bias_correction=True
    )
    openvino.save_model(quantised, str(folder / INT8), compress_to_fp16=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, nargs=3, required=True)
    parser.add_argument("--kinds", nargs="+", required=True, choices=list(NEEDS))
    options = parser.parse_args()
    convert(options.folder, tuple(options.size), options.kinds)


if __name__ == "__main__":
    main()
