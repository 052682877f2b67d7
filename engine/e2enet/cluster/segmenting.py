"""A folder of cases on a Ray cluster: each worker loads the model once; a lost one loses nothing.

A case is written by renaming whole files, so it is there once or not at all, however often it is
tried. All machines see the same folders.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from e2enet.events import BadInput, Reporter
from e2enet.inference.batch import Batch, segment_case
from e2enet.inference.case.inputs import InputCase
from e2enet.inference.segmenter import Segmenter

ATTEMPTS = 3  # of one case: what takes its worker down every time is left out
_CPUS_EACH = 4
_POLL_S = 1.0


def segment_on_cluster(
    folder: Path,
    model: Any,
    *,
    address: str,
    output: Path,
    workers: int | None = None,
    device: str = "auto",
    tta: bool = False,
    roi: Any = None,
    save_probabilities: bool = False,
    runtime: Any = "sparse",
    precision: Any = None,
    resume: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Segment every case of a folder on all machines of a cluster.

    Args:
        folder, model, output, device, tta, roi, save_probabilities, runtime, precision, resume,
            reporter: As `e2enet.inference.batch.segment_folder`.
        address: "ray" for the cluster of this machine (or one of its own), "ray://HOST:PORT" for
            another.
        workers: One a GPU by default, or where there is none, one for each four cores.

    Returns:
        As `segment_folder`.

    Raises:
        BadInput: As `segment_folder`; Ray is not installed or does not answer.
    """
    reporter = reporter or Reporter()
    options = {"device": device, "tta": tta, "runtime": runtime, "precision": precision}
    segmenter = Segmenter(model, reporter=reporter, **options)  # type: ignore[arg-type]
    batch = Batch(len(segmenter.bundle.channels), folder, output)
    if resume:
        batch.leave_out_finished(segmenter, roi, save_probabilities)
    waiting = batch.waiting()
    if not waiting:
        return batch.outcome(reporter)
    ray = _connected(address)
    try:
        crew = _Crew(ray, model, options, workers, len(waiting))
        _work(ray, crew, waiting, batch, (output, roi, save_probabilities), reporter)
    finally:
        ray.shutdown()
    return batch.outcome(reporter)


class Worker:
    """An actor's inside: a model that is loaded once."""

    def __init__(self, model: Any, options: dict[str, Any]) -> None:
        self._segmenter = Segmenter(model, **options)

    def segment(self, case: InputCase, *where: Any) -> dict[str, Any]:
        """One case; a refusal of all cases as {"fatal": code, …}."""
        try:
            return segment_case(self._segmenter, case, *where)
        except BadInput as error:
            return {"fatal": error.code, "message": error.message, "help": error.help}


class _Crew:
    """The actors, of which a dead one is replaced."""

    def __init__(
        self, ray: Any, model: Any, options: dict[str, Any], workers: int | None, cases: int
    ) -> None:
        have = ray.cluster_resources()
        gpus = int(have.get("GPU", 0)) if options["device"] != "cpu" else 0
        cpus = max(int(have.get("CPU", 1)), 1)
        count = workers or gpus or max(cpus // _CPUS_EACH, 1)
        each = {"num_gpus": 1} if gpus else {"num_cpus": max(cpus // count, 1)}
        self._make = lambda: ray.remote(**each)(Worker).remote(model, options)
        self.idle = [self._make() for _ in range(min(count, cases))]

    def replace(self) -> None:
        """Somebody else in the place of one who died."""
        self.idle.append(self._make())


def _work(
    ray: Any,
    crew: _Crew,
    waiting: Sequence[InputCase],
    batch: Batch,
    where: tuple[Any, ...],
    reporter: Reporter,
) -> None:
    queue = [(case, 1) for case in waiting]
    under_way: dict[Any, tuple[Any, InputCase, int]] = {}
    while queue or under_way:
        while queue and crew.idle:
            case, attempt = queue.pop(0)
            worker = crew.idle.pop()
            under_way[worker.segment.remote(case, *where)] = worker, case, attempt
        batch.tell(reporter)
        finished, _ = ray.wait(list(under_way), timeout=_POLL_S)
        for reference in finished:
            worker, case, attempt = under_way.pop(reference)
            try:
                answer = ray.get(reference)
            except ray.exceptions.RayError as error:
                crew.replace()
                if attempt < ATTEMPTS:
                    queue.append((case, attempt + 1))
                else:
                    batch.take(_lost(case, error), reporter)
                continue
            crew.idle.append(worker)
            if "fatal" in answer:
                raise BadInput(answer["message"], help=answer["help"], code=answer["fatal"])
            batch.take(answer, reporter)


def _lost(case: InputCase, error: Exception) -> dict[str, Any]:
    why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return {
        "case": case.name,
        "code": "worker-lost",
        "message": f"{case.name} ended its worker {ATTEMPTS} times: {why}",
        "help": "There may be too little memory for it; try it alone.",
    }


def _connected(address: str) -> Any:
    kind, _, host = address.partition("://")
    if kind != "ray" or (not host and "://" in address):
        raise BadInput(
            f"{address} is no cluster.", help="Give ray or ray://HOST:PORT.", code="bad-cluster"
        )
    if importlib.util.find_spec("ray") is None:
        raise BadInput(
            "A cluster needs Ray, which is not installed.",
            help="pip install 'e2enet[cluster]'",
            code="no-ray",
        )
    import ray

    try:
        ray.init(
            address=address if host else None,
            include_dashboard=None if host else False,
            log_to_driver=False,
            configure_logging=False,
        )
    except Exception as error:  # a bare one where its own processes do not start in time
        why = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise BadInput(
            f"{address} does not answer: {why}.",
            help="Check that the cluster runs and has this version of Ray and Python; on a machine "
            "with too much to do, try again.",
            code="bad-cluster",
        ) from error
    return ray
