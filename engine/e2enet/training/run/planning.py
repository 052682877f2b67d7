"""The plan and the network arguments of a training: from the dataset, a file, or a bundle."""

from __future__ import annotations

import os
from dataclasses import replace

import torch

from e2enet.bundle import Bundle
from e2enet.data.datasets.raw import Dataset
from e2enet.data.planning.laterality import mirroring
from e2enet.data.planning.plan import (
    BASE_CHANNELS,
    ChannelPlan,
    Plan,
    is_ct,
    make_plan,
    within,
)
from e2enet.events import BadInput, Reporter
from e2enet.training.run.memory import budget_gb
from e2enet.training.run.networks import kind_of, planning_for
from e2enet.training.run.settings import Settings


def planned(
    info: Dataset,
    settings: Settings,
    *,
    plan: str | os.PathLike[str] | None,
    device: torch.device,
    memory_gb: float | None,
    workers: int | None,
    reporter: Reporter,
) -> Plan:
    """The plan of a new model: of a file, or after nnU-Net's rules; options change it.

    Raises:
        BadInput: the file or an option cannot be used.
    """
    if plan is None:
        from e2enet.data.planning.fingerprint import fingerprint

        return make_plan(
            fingerprint(info, workers=workers, reporter=reporter),
            info,
            memory_gb=budget_gb(device, memory_gb),
            mixed=device.type == "cuda",
            levels=settings.levels,
            patch=settings.patch,
            batch_size=settings.batch_size,
            **{
                "base_channels": settings.base_channels or BASE_CHANNELS,
                **planning_for(kind_of(settings, None), settings),
            },
        )
    loaded = Plan.load(plan)
    if len(loaded.channels) != len(info.channel_names):
        raise BadInput(
            f"{plan} is for {len(loaded.channels)} channels, but {info.name} has "
            f"{len(info.channel_names)}.",
            code="channel-count",
        )
    return changed(loaded, settings)


def tuned(
    info: Dataset,
    settings: Settings,
    *,
    source: Bundle,
    plan: str | os.PathLike[str] | None,
    workers: int | None,
    reporter: Reporter,
) -> Plan:
    """The plan of a fine-tuned model: its bundle's, or an edited one with the same strides.

    Spacing, orientation, strides and normalisation stay, because the kernels have learned the
    size of things in voxels and the scale of intensities. Only what belongs to the data changes:
    which labels mirroring swaps, and the normalisation when there are other channels: more or
    fewer, or CT where the bundle has none and the other way round, whose intensities mean others.

    Raises:
        BadInput: the file or an option cannot be used.
    """
    use = Plan.from_dict(source.plan)
    if plan is not None:
        edited = Plan.load(plan)
        if edited.strides != use.strides:
            raise BadInput(
                f"{plan} has other strides than {source.name}, whose kernels would not fit.",
                help="Keep the strides, or train without --from.",
                code="bad-plan",
            )
        use = edited
    use = replace(use, channels=_matched(use.channels, info, source.name, workers, reporter))
    axes, pairs = mirroring(info.labels)
    use = replace(
        use,
        mirror_axes=within(use.patch, sorted(use.transpose.index(axis) for axis in axes)),
        left_right_axis=use.transpose.index(2) if pairs else None,
        left_right_pairs=pairs,
    )
    return changed(use, settings)


def _matched(
    known: tuple[ChannelPlan, ...],
    info: Dataset,
    source: str,
    workers: int | None,
    reporter: Reporter,
) -> tuple[ChannelPlan, ...]:
    """The bundle's channels, which the dataset's take the place of, or new ones."""
    before, names = [channel.name for channel in known], list(info.channel_names)
    if before == names:
        return known
    if len(before) != len(names):
        return _channels(info, workers, reporter)
    if sorted(before) == sorted(names):
        raise BadInput(
            f"The channels of {info.name} are {', '.join(names)}, those of {source} the same in "
            f"another order: {', '.join(before)}.",
            help="Number files and channel_names as the model does.",
            code="channel-order",
        )
    pairs = ", ".join(f"{new} for {old}" for new, old in zip(names, before, strict=True))
    if [is_ct(name) for name in names] != [one.normalisation == "ct" for one in known]:
        reporter.warning(
            "channels-replaced",
            f"{source} learned other intensities ({pairs}): the images are normalised by rules of "
            "their own, and it has to get used to them.",
        )
        return _channels(info, workers, reporter)
    reporter.warning("channels-matched", f"Normalised as those of {source}: {pairs}.")
    return tuple(replace(one, name=name) for one, name in zip(known, names, strict=True))


def _channels(info: Dataset, workers: int | None, reporter: Reporter) -> tuple[ChannelPlan, ...]:
    from e2enet.data.planning.fingerprint import fingerprint

    return make_plan(fingerprint(info, workers=workers, reporter=reporter), info).channels


def changed(plan: Plan, settings: Settings) -> Plan:
    """A given plan with the options of the command line.

    Raises:
        BadInput: the levels differ, or `Plan.from_dict` refuses the result.
    """
    if settings.levels is not None and settings.levels != plan.levels:
        raise BadInput(
            f"--levels is {settings.levels}, but the plan has {plan.levels} levels.",
            help="Leave --levels out, or change the strides in the plan.",
            code="bad-plan",
        )
    record = plan.to_dict()
    if settings.patch is not None:
        record["patch"] = list(settings.patch)
    if settings.batch_size is not None:
        record["batch_size"] = settings.batch_size
    if settings.base_channels is not None:
        record["base_channels"] = settings.base_channels
    return Plan.from_dict(record)
