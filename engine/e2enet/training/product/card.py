"""A model's card: README.md of its bundle, made from what model.json says and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

PICTURE = "picture.png"


def model_card(model: dict[str, Any], files: Iterable[str] = (), *, kind: str) -> str:
    """The card in Markdown.

    Args:
        model: Content of model.json. Beside what training writes, `limits` (what it is not for),
            `licence`, `attribution` and `citation` are told where they are given. Figures on unseen
            cases come from `e2enet evaluate --into`.
        files: Names of further files in the bundle; a `picture.png` is shown.
        kind: Of the network, its name in the registry.
    """
    provenance = model["provenance"]
    network = f"{'An' if kind[0] in 'EO' else 'A'} {kind} model"
    if "E2ENet" in kind:
        network += f" (feature sparsity {provenance['sparsity']:g})"
    channels = ", ".join(channel["name"] for channel in model["channels"])
    rows = "\n".join(
        f"| {label['value']} | {label['name']} | "
        f"{_dice(provenance['metrics']['dice'].get(label['name']))} |"
        for label in model["labels"]
    )
    about = "".join(
        f"{title}: {model[key]}\n\n"
        for title, key in (
            ("Limits", "limits"),
            ("Licence", "licence"),
            ("Data", "attribution"),
            ("Please cite", "citation"),
        )
        if model.get(key)
    )
    note = ""
    if so_far := provenance.get("unfinished"):
        note = f"**Unfinished**: after epoch {so_far['epoch']} of {so_far['epochs']}.\n\n"
    start = ""
    if source := provenance.get("from"):
        start = f", starting from {source['name']} with the weights {source['weights_sha256'][:8]}"
    picture = f"![What it segments]({PICTURE})\n\n" if PICTURE in files else ""
    return (
        f"""# {model["title"]}

{note}{picture}{network} for {channels}, \
trained on {provenance["data"]["cases"]} cases of {provenance["data"]["dataset"]} in \
{provenance["iterations"]} iterations{start}.

| value | label | Dice ({provenance["metrics"]["of"]}) |
| --- | --- | --- |
{rows}

Segment an image with it:

    e2enet segment IMAGE --model {model["name"]} --output segmentation.nii.gz

Made by:

    {provenance["command"]}

{about}""".rstrip()
        + "\n"
    )


def _dice(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
