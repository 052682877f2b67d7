"""`e2enet profile`: parameters and multiply-adds of a network, dense and live."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e2enet.cli.common import AsJson, Debug, ProgressStyle, run
from e2enet.data.axes import parse_sizes, times
from e2enet.events import BadInput
from e2enet.training.run.presets import Preset, with_preset

if TYPE_CHECKING:
    from rich.table import Table

    from e2enet.dsff import Complexity

_PAPER_PATCH = (64, 160, 160)
_SPARSITY = 0.8


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command(name="profile")(profile)


def profile(
    model: Annotated[
        str | None, typer.Option(help="A model's name or path instead of the options below.")
    ] = None,
    preset: Annotated[
        Preset | None,
        typer.Option(help="Values for what is not given: paper is E2ENet as published."),
    ] = None,
    in_channels: Annotated[int, typer.Option(min=1, help="Channels of the image.")] = 1,
    classes: Annotated[int, typer.Option(min=1, help="Classes, background included.")] = 16,
    base_channels: Annotated[
        int | None, typer.Option(min=1, help="Channels at full resolution (default 48).")
    ] = None,
    levels: Annotated[
        int | None, typer.Option(min=2, help="Levels with strides of 2,2,2; 6 by default.")
    ] = None,
    strides: Annotated[
        str | None, typer.Option(help='Strides instead of --levels, such as "1,2,2 2,2,2".')
    ] = None,
    patch: Annotated[
        str | None,
        typer.Option(help="D,H,W in voxels; 64,160,160, or the model's patch, by default."),
    ] = None,
    sparsity: Annotated[
        float | None,
        typer.Option(help="Feature sparsity S: the share of dead connections (default 0.8)."),
    ] = None,
    level0_density: Annotated[
        float | None,
        typer.Option(
            help="Live share of the fusion convolutions of level 0 (default 1 - S; paper 0.2)."
        ),
    ] = None,
    network: Annotated[str, typer.Option(help="e2enet, omnia, ds or dx.")] = "e2enet",
    encoder: Annotated[
        str | None,
        typer.Option(help="Of omnia, ds and dx (default efficientnet-b0), or e2enet's backbone."),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Count parameters and multiply-adds, dense and live, without running the network.

    Without options it is the paper's network at S = 0.8; its other sparsities want --preset paper.
    """

    def work(_: Any) -> None:
        if model is not None:
            counted, about = _of_model(model, patch)
        elif network != "e2enet" or encoder is not None:
            counted, about = _with_encoder(
                network,
                encoder,
                parse_sizes(patch, "--patch") if patch else _PAPER_PATCH,
                {"in_channels": in_channels, "num_classes": classes},
                {"strides": _strides(strides, levels), "base_channels": base_channels},
                _SPARSITY if sparsity is None else sparsity,
            )
        else:
            from e2enet.data.planning.plan import BASE_CHANNELS

            given = {
                "base_channels": base_channels,
                "sparsity": sparsity,
                "level0_density": level0_density,
            }
            chosen = with_preset(given, preset)
            counted, about = _of_options(
                in_channels=in_channels,
                classes=classes,
                base_channels=chosen["base_channels"] or BASE_CHANNELS,
                strides=_strides(strides, levels),
                patch=parse_sizes(patch, "--patch") if patch else _PAPER_PATCH,
                sparsity=_SPARSITY if chosen["sparsity"] is None else chosen["sparsity"],
                level0_density=chosen.get("level0_density"),
            )
        if as_json:
            typer.echo(json.dumps({**about, **counted.to_dict()}))
        else:
            _show(counted, about)

    run(work, progress=ProgressStyle.bar, debug=debug)


def _of_options(
    *,
    in_channels: int,
    classes: int,
    base_channels: int,
    strides: list[tuple[int, int, int]],
    patch: tuple[int, int, int],
    sparsity: float,
    level0_density: float | None,
) -> tuple[Complexity, dict[str, Any]]:
    from e2enet.dsff import complexity, planned_live
    from e2enet.networks import Lattice

    lattice = Lattice(in_channels, classes, strides, base_channels=base_channels)
    try:
        live = planned_live(lattice.sparse_layers, sparsity, level0_density=level0_density)
        counted = complexity(lattice, patch, live)
    except ValueError as error:
        raise BadInput(str(error)) from error
    return counted, {"network": lattice.arguments, "sparsity": sparsity}


def _with_encoder(
    network: str,
    encoder: str | None,
    patch: tuple[int, int, int],
    common: dict[str, Any],
    lattice: dict[str, Any],
    sparsity: float,
) -> tuple[Complexity, dict[str, Any]]:
    from e2enet.dsff import planned_live
    from e2enet.dsff.tracing import traced_complexity
    from e2enet.networks import build_network
    from e2enet.networks.encoders import check_encoder
    from e2enet.training.run.networks import DEFAULT_ENCODER, KINDS

    if network not in KINDS:
        raise BadInput(f"--network is {network!r}.", help=f"Choose one of {', '.join(KINDS)}.")
    check_encoder(encoder or DEFAULT_ENCODER)
    arguments = {**common, "encoder": encoder or DEFAULT_ENCODER}
    kind = KINDS[network]
    if network == "e2enet":
        kind = "EncoderE2ENet"
        given = {name: value for name, value in lattice.items() if value is not None}
        arguments.update(given)
    elif network == "ds":
        arguments["depth"] = patch[0]
    elif network == "dx":
        arguments["strides"] = lattice["strides"]
    try:
        made: Any = build_network(kind, arguments)
        live = planned_live(made.sparse_layers(), sparsity)
        counted = traced_complexity(made, patch, live)
    except ValueError as error:
        raise BadInput(str(error)) from error
    about = {"model": kind, "network": made.arguments}
    return counted, {**about, "sparsity": sparsity if live else 0.0}


def _of_model(name: str, patch: str | None) -> tuple[Complexity, dict[str, Any]]:
    from e2enet.bundle import Bundle
    from e2enet.dsff import complexity

    bundle = Bundle.open(name)
    stored = bundle.load_weights()
    size = parse_sizes(patch, "--patch") if patch else tuple(bundle.plan["patch"])
    try:
        if stored.lattice is not None:
            counted = complexity(stored.lattice, size, stored.live_by_layer)  # type: ignore[arg-type]
        else:
            from e2enet.dsff.tracing import traced_complexity

            counted = traced_complexity(stored.module(), size, stored.live_by_layer)  # type: ignore[arg-type]
    except ValueError as error:
        raise BadInput(str(error)) from error
    sparsity = round(1 - stored.density, 6)
    about = {"model": bundle.name, "network": stored.arguments, "sparsity": sparsity}
    return counted, about


def _strides(text: str | None, levels: int | None) -> list[tuple[int, int, int]]:
    if text is None:
        return [(2, 2, 2)] * ((levels or 6) - 1)
    strides = [parse_sizes(part, "--strides") for part in text.split()]
    if not strides or (levels is not None and levels != len(strides) + 1):
        raise BadInput(
            f"--strides {text!r} gives {len(strides) + 1} levels.",
            help="There is one stride fewer than levels; leave --levels out.",
        )
    return strides


def _show(counted: Complexity, about: dict[str, Any]) -> None:
    from rich.console import Console

    arguments = about["network"]
    size = times(counted.patch)
    channels, classes = arguments["in_channels"], arguments["num_classes"]
    parts = [f"{channels} channel{'s' if channels > 1 else ''}", f"{classes} classes"]
    if "base_channels" in arguments:
        levels = len(arguments["strides"]) + 1
        parts[:0] = [f"{levels} levels", f"base {arguments['base_channels']}"]
    if "encoder" in arguments:
        parts.insert(0, arguments["encoder"])
    console = Console(highlight=False, markup=False)
    console.print(f"{about.get('model', 'E2ENet')}: {', '.join(parts)}, input {size}")
    if counted.connections:
        console.print(
            f"{counted.live_connections:,} of {counted.connections:,} connections live "
            f"(S = {about['sparsity']:g})"
        )
    console.print(table(counted))
    console.print(
        "One multiply-add is one kernel tap at one output voxel.\n"
        "Norms, activations, pooling, biases and depth-shift are left out of them."
    )


def table(counted: Complexity) -> Table:
    """Parts and total, dense and live, in units that suit the total."""
    from rich import box
    from rich.table import Table

    total = counted.total
    weights, weight_unit = _unit(total.parameters)
    taps, tap_unit = _unit(total.multiply_adds)
    drawn = Table(
        box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False, padding=(0, 1), collapse_padding=True
    )
    drawn.add_column("", footer="total", no_wrap=True)
    for what, unit, scale, dense, live in (
        ("parameters", weight_unit, weights, total.parameters, total.live_parameters),
        ("multiply-adds", tap_unit, taps, total.multiply_adds, total.live_multiply_adds),
    ):
        for heading, footer in (
            (f"{what}\ndense\n({unit})", f"{dense / scale:.2f}"),
            (f"\nlive\n({unit})", f"{live / scale:.2f}"),
            ("\nlive\n(%)", f"{100 * live / dense:.1f}"),
        ):
            drawn.add_column(heading, footer, justify="right", no_wrap=True)
    for part in counted.parts:
        drawn.add_row(
            part.name,
            f"{part.parameters / weights:.2f}",
            f"{part.live_parameters / weights:.2f}",
            f"{100 * part.live_parameters / part.parameters:.1f}",
            f"{part.multiply_adds / taps:.2f}",
            f"{part.live_multiply_adds / taps:.2f}",
            f"{100 * part.live_multiply_adds / part.multiply_adds:.1f}",
        )
    return drawn


def _unit(value: int) -> tuple[float, str]:
    """The scale, and its name, that leaves one to three digits before the point up to G."""
    power = min(3, max(1, int(math.log10(max(1, value))) // 3))
    return 1000.0**power, ("", "k", "M", "G")[power]
