"""A model as a MONAI bundle: weights as a state dict, metadata, and an inference that it runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from e2enet import __version__
from e2enet.bundle import Bundle
from e2enet.data.planning.plan import ChannelPlan, Plan
from e2enet.events import BadInput
from e2enet.extras import need_package, need_torch
from e2enet.files import check_writable, move_folder, output_errors, scratch_folder

SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)


def write_monai_bundle(
    model: str | os.PathLike[str] | Bundle, output: str | os.PathLike[str]
) -> Path:
    """Write a model as the folder of a MONAI bundle, for `python -m monai.bundle run`.

    The other side needs MONAI and this package, whose network the configuration names. Images
    are resampled by MONAI there, and a locator is not taken along.

    Args:
        model: A name, a path or an open bundle.
        output: A folder that does not exist.

    Raises:
        BadInput: No such model; PyTorch or MONAI is missing; the folder exists; a plan for single
            images, or channels of different normalisation, which the configuration cannot say.
    """
    folder = Path(output)
    if folder.exists():
        raise BadInput(f"{folder} already exists.", help="Choose another name.", code="exists")
    need_torch("A MONAI bundle")
    need_package("monai", "monai", "A MONAI bundle")
    check_writable(folder)
    bundle = model if isinstance(model, Bundle) else Bundle.open(model)
    if bundle.regions:
        raise BadInput(
            f"The structures of {bundle.name} are regions, which may overlap: a MONAI bundle of "
            "it would have to choose one a voxel.",
            help="Write ONNX instead.",
            code="not-monai",
        )
    plan = Plan.from_dict(bundle.plan)
    inference = _inference(bundle, plan)
    network = bundle.load_network()[0]
    with output_errors(folder), scratch_folder(folder.parent) as scratch:
        for name in ("configs", "models", "docs"):
            (scratch / name).mkdir()
        _write_json(scratch / "configs" / "metadata.json", _metadata(bundle, plan))
        _write_json(scratch / "configs" / "inference.json", inference)
        (scratch / "docs" / "README.md").write_text(_readme(bundle), encoding="utf-8")
        (scratch / "LICENSE").write_text(_licence(bundle), encoding="utf-8")
        _save(network, scratch / "models" / "model.pt")
        scratch.chmod(0o755)
        move_folder(scratch, folder)
    return folder


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")


def _save(network: Any, path: Path) -> None:
    import torch

    torch.save({f"network.{name}": t.cpu() for name, t in network.state_dict().items()}, path)


def _metadata(bundle: Bundle, plan: Plan) -> dict[str, Any]:
    import monai
    import numpy
    import torch

    patch = _xyz(plan, plan.patch)
    classes = {"0": "background"} | {
        str(number): label.name for number, label in enumerate(bundle.labels, 1)
    }
    channels = {str(number): name for number, name in enumerate(bundle.channels)}
    shared = {"type": "image", "spatial_shape": list(patch), "dtype": "float32"}
    model = bundle.model
    return {
        "schema": SCHEMA,
        "version": __version__,
        "changelog": {__version__: "exported by e2enet"},
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": numpy.__version__,
        "required_packages_version": {
            "e2enet": __version__,
            "nibabel": "5.0.0",
            "pytorch-ignite": "0.4.11",
        },
        "supported_apps": {},
        "name": bundle.title,
        "task": f"Segmentation of {model.get('anatomy') or 'structures'}",
        "description": f"{bundle.title}: an E2ENet with dynamic sparse feature fusion. "
        "Research software, not for clinical use.",
        "authors": "E2ENetSegmentation",
        "copyright": str(model.get("licence") or ""),
        "data_source": str(model.get("attribution") or ""),
        "data_type": "nifti",
        "image_classes": f"{model.get('modality') or 'image'}: {', '.join(bundle.channels)}",
        "label_classes": ", ".join(f"{key} {name}" for key, name in classes.items()),
        "pred_classes": "one channel a class, as softmax takes them",
        "intended_use": "Research only; not for clinical use.",
        "references": [str(model.get("citation") or "arXiv 2312.04727")],
        "network_data_format": {
            "inputs": {
                "image": {
                    **shared,
                    "format": "magnitude",
                    "modality": str(model.get("modality") or "n/a"),
                    "num_channels": len(channels),
                    "value_range": [],
                    "is_patch_data": True,
                    "channel_def": channels,
                }
            },
            "outputs": {
                "pred": {
                    **shared,
                    "format": "segmentation",
                    "num_channels": len(classes),
                    "value_range": [],
                    "is_patch_data": True,
                    "channel_def": classes,
                }
            },
        },
    }


def _inference(bundle: Bundle, plan: Plan) -> dict[str, Any]:
    """What `python -m monai.bundle run --config_file configs/inference.json` does."""
    description = bundle.model["network"]
    image = {"keys": "image"}
    values = [label.value for label in bundle.labels]
    transforms: list[dict[str, Any]] = [
        {"_target_": "LoadImaged", **image, "ensure_channel_first": True},
        {"_target_": "Orientationd", **image, "axcodes": "LPS", "labels": None},
        *_normalisation(plan),
        {
            "_target_": "Spacingd",
            **image,
            "pixdim": list(_xyz(plan, plan.spacing)),
            "mode": "bilinear",
        },
        {"_target_": "EnsureTyped", **image, "dtype": "$torch.float32"},
    ]
    after: list[dict[str, Any]] = [
        {
            "_target_": "Invertd",
            "keys": "pred",
            "transform": "@preprocessing",
            "orig_keys": "image",
            "nearest_interp": False,
            "to_tensor": True,
        },
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
    ]
    if values != list(range(1, len(values) + 1)):
        numbers = list(range(len(values) + 1))
        after.append(
            {
                "_target_": "MapLabelValued",
                "keys": "pred",
                "orig_labels": numbers,
                "target_labels": [0, *values],
            }
        )
    after.append(
        {
            "_target_": "SaveImaged",
            "keys": "pred",
            "output_dir": "@output_dir",
            "output_postfix": "seg",
            "output_dtype": "$np.int16",
            "separate_folder": False,
        }
    )
    return {
        "imports": ["$import glob", "$import os", "$import numpy as np", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/eval'",
        "images": "$sorted(glob.glob(os.path.join(@dataset_dir, '*.nii.gz')))",
        "data": "$[{'image': one} for one in @images]",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": {
            "_target_": "e2enet.interop.monai_network.MonaiNetwork",
            "kind": description["kind"],
            "arguments": description["arguments"],
            "transpose": list(plan.transpose),
        },
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": transforms},
        "dataset": {
            "_target_": "Dataset",
            "data": "@data",
            "transform": "@preprocessing",
        },
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@dataset",
            "batch_size": 1,
            "shuffle": False,
            "num_workers": 0,
        },
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": list(_xyz(plan, plan.patch)),
            "sw_batch_size": 1,
            "overlap": 0.5,
            "mode": "gaussian",
        },
        "postprocessing": {"_target_": "Compose", "transforms": after},
        "handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": "$@bundle_root + '/models/model.pt'",
                "load_dict": {"model": "@network"},
            }
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
        },
        "run": ["$@evaluator.run()"],
    }


def _normalisation(plan: Plan) -> list[dict[str, Any]]:
    if plan.flat:
        raise BadInput(
            "A model of single images has no MONAI bundle: its configuration reads volumes.",
            help="Write ONNX instead.",
            code="not-monai",
        )
    kinds = {channel.normalisation for channel in plan.channels}
    if len(kinds) > 1:
        raise BadInput(
            f"The model's channels are normalised differently ({', '.join(sorted(kinds))}), which "
            "the configuration of a MONAI bundle cannot say.",
            help="Write ONNX instead.",
            code="not-monai",
        )
    kind = kinds.pop()
    image = {"keys": "image"}
    if kind == "ct":
        return [{"_target_": "Lambdad", **image, "func": _clip(plan.channels)}]
    if kind == "none":
        return []
    masked = kind == "zscore-masked"
    return [
        {"_target_": "CropForegroundd", **image, "source_key": "image", "allow_smaller": True},
        {"_target_": "NormalizeIntensityd", **image, "nonzero": masked, "channel_wise": True},
    ]


def _clip(channels: tuple[ChannelPlan, ...]) -> str:
    """Hounsfield units clipped and scaled, a channel at a time."""

    def column(name: str) -> str:
        return f"torch.tensor({[getattr(c, name) for c in channels]}).view(-1, 1, 1, 1)"

    low, high, mean, std = map(column, ("lower", "upper", "mean", "std"))
    return f"$lambda x: (torch.minimum(torch.maximum(x, {low}), {high}) - {mean}) / {std}"


def _xyz(plan: Plan, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """(D, H, W) of a plan as x, y, z."""
    zyx = [values[plan.transpose.index(k)] for k in range(3)]
    return tuple(reversed(zyx))


def _licence(bundle: Bundle) -> str:
    model = bundle.model
    lines = [str(model.get(key) or "") for key in ("licence", "attribution", "citation")]
    return "\n".join(line for line in lines if line) + "\n"


def _readme(bundle: Bundle) -> str:
    located = (
        "The model was trained on crops that its locator cuts out; this bundle has no locator, so "
        "give it such crops.\n\n"
        if bundle.locator
        else ""
    )
    return (
        f"# {bundle.title}\n\n{located}Needs `e2enet[torch]`, `monai`, `nibabel` and "
        "`pytorch-ignite`. Put images into `images` and run\n\n"
        "```sh\npython -m monai.bundle run --config_file configs/inference.json\n```\n\n"
        "Results lie in `eval`. Images are resampled by MONAI, so that borders differ a little "
        "from those of `e2enet segment`. Not for clinical use.\n"
    )
