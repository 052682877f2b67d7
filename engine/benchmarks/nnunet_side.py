"""nnU-Net's side of `nnunet.py`; runs in an environment with nnunetv2 and without e2enet.

    python -m venv nnunet
    nnunet/bin/pip install torch==2.13.0 numpy scipy tqdm SimpleITK pandas scikit-learn \\
        scikit-image matplotlib nibabel requests tifffile einops blosc2 graphviz seaborn yacs
    nnunet/bin/pip install --no-deps nnunetv2 batchgenerators batchgeneratorsv2 acvl-utils \\
        dynamic-network-architectures dicom2nifti imagecodecs connected-components-3d \\
        fft-conv-pytorch future unittest2

(Without its dependencies, because they bring torchvision, which does not go with a CPU's torch.)
Every verb prints its answer as JSON in its last line.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

MEASURED = 3  # steps, after one that is not counted
AUGMENTERS = "nnUNet_n_proc_DA"


def folders(dataset: Path, output: Path) -> None:
    """nnU-Net's three folders below OUTPUT; the raw one is a link to the dataset."""
    base = output / "nnunet"
    for name in ("raw", "preprocessed", "results"):
        (base / name).mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(base / name)
    os.environ[AUGMENTERS] = "0"  # all in one process, as on the other side
    os.environ["nnUNet_compile"] = "f"  # noqa: SIM112 (nnU-Net reads it so)
    link = base / "raw" / dataset.name
    if not link.exists():
        link.symlink_to(dataset, target_is_directory=True)


def number(dataset: Path) -> int:
    """4 of Dataset004_Hippocampus."""
    return int(dataset.name[7:10])


def trainer(dataset: Path, output: Path, epochs: int, iterations: int) -> Any:
    """nnU-Net's own trainer of fold 0, as long as this."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    folder = output / "nnunet" / "preprocessed" / dataset.name
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    latest = _checkpoints(output, dataset)
    plans["continue_training"] = any(path.exists() for path in latest)
    described = json.loads((folder / "dataset.json").read_text())
    made = nnUNetTrainer(plans, "3d_fullres", 0, described, torch.device("cpu"))
    made.num_epochs, made.num_iterations_per_epoch = epochs, iterations
    made.num_val_iterations_per_epoch = max(1, iterations // 5)
    made.save_every = 1
    made.initialize()
    return made


def _checkpoints(output: Path, dataset: Path) -> list[Path]:
    """The final one, and the latest of a run that goes on."""
    base = output / "nnunet" / "results" / dataset.name
    folder = base / "nnUNetTrainer__nnUNetPlans__3d_fullres" / "fold_0"
    return [folder / f"checkpoint_{name}.pth" for name in ("final", "latest")]


def prepare(dataset: Path, output: Path) -> dict[str, Any]:
    """Fingerprint, plan, preprocess; then measure a few steps."""
    import torch
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprint_dataset,
        plan_experiment_dataset,
        preprocess_dataset,
    )

    threads = torch.get_num_threads()
    extract_fingerprint_dataset(number(dataset), num_processes=1, show_progress_bar=False)
    os.environ[AUGMENTERS] = "1"  # the planner takes it for a number of threads
    plan_experiment_dataset(number(dataset))
    os.environ[AUGMENTERS] = "0"
    torch.set_num_threads(threads)
    preprocess_dataset(number(dataset), configurations=("3d_fullres",), num_processes=(1,))
    made = trainer(dataset, output, 1000, 250)
    made.disable_checkpointing = True
    held_out = list(made.do_split()[1])
    made.on_train_start()
    made.on_epoch_start()
    made.on_train_epoch_start()
    made.train_step(next(made.dataloader_train))
    began = time.perf_counter()
    for _ in range(MEASURED):
        made.train_step(next(made.dataloader_train))
    step_s = (time.perf_counter() - began) / MEASURED
    return {
        "step_s": step_s,
        "held_out": sorted(held_out),
        "patch": [int(n) for n in made.configuration_manager.patch_size],
        "batch": int(made.configuration_manager.batch_size),
        "version": version("nnunetv2"),
        "torch": version("torch"),
    }


def train(dataset: Path, output: Path, epochs: int, iterations: int) -> dict[str, Any]:
    """Train to the end; a run that was interrupted goes on after its last epoch."""
    made = trainer(dataset, output, epochs, iterations)
    final, latest = _checkpoints(output, dataset)
    if final.exists():
        made.load_checkpoint(str(final))
    else:
        if latest.exists():
            made.load_checkpoint(str(latest))
        made.run_training()
    logged = made.logger.get_checkpoint()
    logged = logged.get("local_logger", logged)
    stamps = zip(logged["epoch_start_timestamps"], logged["epoch_end_timestamps"], strict=False)
    parameters, operations = counted(made)
    return {
        "training_s": sum(end - start for start, end in stamps),
        "parameters": parameters,
        "multiply_adds": operations,
    }


def counted(made: Any) -> tuple[int, int]:
    """Parameters, and multiply-adds of the convolutions in a forward pass of one patch."""
    import torch
    from torch import nn

    network = made.network.eval()
    made.set_deep_supervision_enabled(False)
    total = 0

    def add(module: Any, inputs: Any, output: Any) -> None:
        nonlocal total
        kernel = module.weight.numel() // module.weight.shape[0]  # a sum for each output value
        values = inputs[0] if isinstance(module, nn.ConvTranspose3d) else output
        total += kernel * values.numel()

    convolutions = (nn.Conv3d, nn.ConvTranspose3d)
    hooks = [
        module.register_forward_hook(add)
        for module in network.modules()
        if isinstance(module, convolutions)
    ]
    with torch.no_grad():
        network(torch.zeros(1, made.num_input_channels, *made.configuration_manager.patch_size))
    for hook in hooks:
        hook.remove()
    return sum(parameter.numel() for parameter in network.parameters()), total


def predict(dataset: Path, output: Path, epochs: int, iterations: int) -> dict[str, Any]:
    """Segment the held-out cases one by one without mirroring, from file to file."""
    import torch
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    made = trainer(dataset, output, epochs, iterations)
    made.load_checkpoint(str(_checkpoints(output, dataset)[0]))
    made.set_deep_supervision_enabled(False)
    made.network.eval()
    predictor = nnUNetPredictor(
        use_mirroring=False, perform_everything_on_device=False, device=torch.device("cpu"),
        allow_tqdm=False,
    )  # fmt: skip
    predictor.manual_initialization(
        made.network, made.plans_manager, made.configuration_manager,
        [made.network.state_dict()], made.dataset_json, "nnUNetTrainer", None,
    )  # fmt: skip
    target = output / "predictions" / "nnunet"
    target.mkdir(parents=True, exist_ok=True)
    names = sorted(made.do_split()[1])
    began = time.perf_counter()
    for name in names:
        files = sorted((dataset / "imagesTr").glob(f"{name}_????.nii.gz"))
        image, properties = SimpleITKIO().read_images([str(path) for path in files])
        found = predictor.predict_single_npy_array(image, properties)
        SimpleITKIO().write_seg(found, str(target / f"{name}.nii.gz"), properties)
    return {"seconds_a_case": (time.perf_counter() - began) / len(names)}


def main() -> None:
    verb, dataset, output, *length = sys.argv[1:]
    place = Path(dataset), Path(output)
    folders(*place)
    work = {"prepare": prepare, "train": train, "predict": predict}[verb]
    answer = work(*place, *(int(n) for n in length))  # type: ignore[operator]
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
