"""A folder of cases on a server, one after the other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from e2enet.events import Reporter
from e2enet.inference.batch import FATAL, Batch, output_of, told
from e2enet.service.client import describe_model, segment_on_server
from e2enet.service.connection import Server

# Of the server's answers, what it would say of the next case as well.
_FATAL = (
    *FATAL,
    "bad-certificate",
    "bad-request",
    "no-model",
    "queue-full",
    "server-away",
    "server-not-understood",
    "server-redirects",
    "server-refused",
    "too-many-wrong-tokens",
    "wrong-token",
)


def segment_folder_on_server(
    folder: str | os.PathLike[str],
    model: str,
    *,
    server: Server,
    output: str | os.PathLike[str],
    tta: bool = False,
    roi: Sequence[str] | None = None,
    reporter: Reporter | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Segment every case of a folder on a server, into OUTPUT/CASE.nii.gz.

    Args:
        folder, output: As `e2enet.inference.batch.segment_folder`.
        model, server, tta, roi, reporter: As `e2enet.service.client.segment_on_server`.

    Returns:
        As `segment_folder`.

    Raises:
        BadInput: As `segment_folder`; the server is away or refuses whatever is sent.
    """
    reporter = reporter or Reporter()
    channels = len(describe_model(server, model).get("channels") or [])
    batch = Batch(channels, Path(folder), Path(output))
    for case in batch.waiting():
        batch.tell(reporter)
        path = output_of(batch.target, case)

        def work(paths: Sequence[Path] = case.paths, path: Path = path) -> Any:
            return segment_on_server(
                paths, model, server=server, output=path, tta=tta, roi=roi, reporter=reporter
            )

        batch.take(told(case, path, work, _FATAL), reporter)
    return batch.outcome(reporter)
