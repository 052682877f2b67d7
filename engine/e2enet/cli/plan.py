"""`e2enet plan`: how a dataset would be trained, to be read, edited and given to training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from e2enet.cli.common import Debug, Progress, ProgressStyle, run
from e2enet.data.axes import parse_sizes
from e2enet.events import Reporter
from e2enet.files import check_writable
from e2enet.training.run.presets import Preset, with_preset


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command("plan")(plan)


def plan(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder in nnU-Net's raw layout.")],
    output: Annotated[Path | None, typer.Option(help="Write the plan here as JSON.")] = None,
    show: Annotated[
        Path | None,
        typer.Option(help="Draw nine augmented versions of a case into this PNG file."),
    ] = None,
    memory_gb: Annotated[
        float | None,
        typer.Option(min=0.1, help="Memory to plan for, in GB (default what is free, 12 at most)."),
    ] = None,
    device: Annotated[
        str, typer.Option(help="What it is planned for: auto, cpu, cuda, cuda:N or mps.")
    ] = "auto",
    preset: Annotated[
        Preset | None,
        typer.Option(help="Width and levels that are not given: paper is E2ENet as published."),
    ] = None,
    levels: Annotated[int | None, typer.Option(help="Levels of the network.")] = None,
    patch: Annotated[str | None, typer.Option(help="D,H,W in voxels, such as 40,56,40.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Patches in a batch.")] = None,
    base_channels: Annotated[
        int | None, typer.Option(min=1, help="Channels at full resolution (default 48).")
    ] = None,
    nnunet: Annotated[
        Path | None,
        typer.Option(
            help="Take spacing, patch, strides, batch size and normalisation from this "
            "nnUNetPlans.json instead of planning anew.",
            show_default=False,
        ),
    ] = None,
    configuration: Annotated[
        str, typer.Option(help="Which configuration of --nnunet.")
    ] = "3d_fullres",
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes; 0 for none beside this one.")
    ] = None,
    progress: Progress = ProgressStyle.bar,
    debug: Debug = False,
) -> None:
    """Plan spacing, patch, strides and normalisation of a dataset.

    Prints the plan, or writes it to --output; edit it and hand it to training.
    """

    def work(reporter: Reporter) -> None:
        import torch

        from e2enet.data.datasets.raw import read_dataset
        from e2enet.data.planning.fingerprint import fingerprint
        from e2enet.data.planning.plan import BASE_CHANNELS, make_plan
        from e2enet.inference.device import choose_device
        from e2enet.training.run.memory import budget_gb

        if output is not None:
            check_writable(output)
        sizes = None if patch is None else parse_sizes(patch, "--patch")
        chosen = with_preset({"levels": levels, "base_channels": base_channels}, preset)
        chosen_device = torch.device(choose_device(device))
        data = read_dataset(dataset)
        if nnunet is not None:
            from e2enet.interop.nnunet.plans import plan_of_version_2, read_json

            names = list(data.channel_names)
            made = plan_of_version_2(read_json(nnunet), configuration, names, nnunet.name)
        else:
            made = make_plan(
                fingerprint(data, workers=workers, reporter=reporter),
                data,
                memory_gb=budget_gb(chosen_device, memory_gb),
                mixed=chosen_device.type == "cuda",
                levels=chosen["levels"],
                patch=sizes,
                batch_size=batch_size,
                base_channels=chosen["base_channels"] or BASE_CHANNELS,
            )
        if show is not None:
            from e2enet.explain.figures.augmented import draw_augmented

            draw_augmented(data, made, show)
        if output is not None:
            output.parent.mkdir(parents=True, exist_ok=True)
            made.save(output)
            reporter.result(plan=str(output.resolve()))
        elif progress is ProgressStyle.json:
            reporter.result(plan=made.to_dict())
        else:
            typer.echo(made.to_json())

    run(work, progress=progress, debug=debug)
