"""Fusion flow: what each fused node takes from which side, over the training.

E2ENet, arXiv 2312.04727, figures 8 and 9. Shares are counted in the first convolution of a node by
block of its concatenation (forward, upward, downward); second blocks are left out, and the kernels
of the upward transposed convolution stand apart. Only the bundle is read: `evolution.json` for the
past, the weights for the end. The past alone needs only the standard library.

A share of connections says where the training kept wires, a share of kernel L1 how strong they are.
Neither has seen an image: what runs over the wires is `e2enet.explain.importance`.

`flow.json`:

    {"schema_version": 1, "model": NAME, "levels": L, "period": iterations between evolutions or
     null, "total_iterations": … or null, "history": whether the training left one,
     "records": [{"kind": "start" | "evolution" | "end", "iteration": … or null, "epoch": float or
       null, "zeta": … or null, "turnover": … or null, "live": …, "total": …,
       "nodes": [{"stage", "level", "flows": {"forward": {"live", "possible", "density", "share",
         "l1", "l1_share"}, "upward": {…}, "downward": {…}},
         "up_kernels": {"live", "possible", "density", "l1"}}]}]}

`share` and `l1_share` of a node's flows sum to 1; `density` is live over possible connections, for
flows have different numbers of input maps. The last record is the model itself. `flow.csv` holds
the same, one row a record, node and flow ("up_kernels" is the fourth).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from e2enet.bundle import Bundle
from e2enet.events import BadInput, Reporter
from e2enet.explain.nodes import DECODERS, DIRECTIONS

if TYPE_CHECKING:
    from e2enet.dsff import Connections

SCHEMA_VERSION = 1
_COLUMNS = (
    "kind", "iteration", "epoch", "stage", "level", "flow", "live", "possible", "density",
    "share", "l1", "l1_share",
)  # fmt: skip


@dataclass(frozen=True)
class Flow:
    """Fusion flow of a model; `records` as in flow.json, the last one is the model itself."""

    model: str
    levels: int
    period: int | None
    total_iterations: int | None
    records: list[dict[str, Any]]

    @property
    def has_history(self) -> bool:
        """Whether it holds more than one record."""
        return len(self.records) > 1

    @property
    def end(self) -> dict[str, Any]:
        """The last record."""
        return self.records[-1]

    def to_dict(self) -> dict[str, Any]:
        """The content of flow.json."""
        return {
            "schema_version": SCHEMA_VERSION,
            "model": self.model,
            "levels": self.levels,
            "period": self.period,
            "total_iterations": self.total_iterations,
            "history": self.has_history,
            "records": self.records,
        }

    def to_csv(self) -> str:
        """The content of flow.csv."""
        stream = io.StringIO()
        writer = csv.DictWriter(stream, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        for record in self.records:
            head = {key: record[key] for key in ("kind", "iteration", "epoch")}
            for node in record["nodes"]:
                place = {**head, "stage": node["stage"], "level": node["level"]}
                for flow, values in [*node["flows"].items(), ("up_kernels", node["up_kernels"])]:
                    writer.writerow({**place, "flow": flow, **values})
        return stream.getvalue()

    def chosen(self, count: int = 4) -> list[dict[str, Any]]:
        """Up to `count` records, evenly spread from the first to the last."""
        last = len(self.records) - 1
        steps = min(count - 1, last)
        return [self.records[last - round(k * last / max(1, steps))] for k in range(steps, -1, -1)]


def fusion_flow(
    bundle: Bundle, connections: Connections | None = None, *, reporter: Reporter | None = None
) -> Flow:
    """The fusion flow of a bundle.

    Args:
        bundle: The model.
        connections: Its live connections, if it is loaded already.
        reporter: Receives the warning "no-history" for a model that has none, such as one with
            imported weights; then the end is the only record.

    Raises:
        BadInput: The bundle is damaged.
    """
    live, possible, nodes = _counted(bundle, connections)
    recorded = recorded_flow(bundle)
    records, total = recorded.records, recorded.total_iterations
    end = {
        "iteration": total,
        "zeta": None,
        "turnover": None,
        "live": live,
        "total": possible,
        "nodes": nodes,
    }
    final = _record(end, _iterations_per_epoch(bundle))
    # A training records its end; the weights then say the same, up to rounding.
    if len(records) > 1 and _same(records[-1], final):
        last = records.pop()
        final.update({key: last[key] for key in ("iteration", "epoch", "zeta")})
    _name_kinds([*records, final])
    if not records and reporter is not None:
        reporter.warning(
            "no-history",
            f"The model {bundle.name} carries no history of its training; only its final fusion "
            "flow is shown.",
        )
    levels = max(node["stage"] + node["level"] for node in final["nodes"]) + 1
    return Flow(bundle.name, levels, recorded.period, total, [*records, final])


def recorded_flow(bundle: Bundle) -> Flow:
    """The fusion flow as the training wrote it down; no records for a model without any.

    Raises:
        BadInput: evolution.json is damaged.
    """
    content = bundle.history()
    per_epoch = _iterations_per_epoch(bundle)
    try:
        records = [_record(entry, per_epoch) for entry in content.get("history") or []]
        places = [_place(node) for record in records for node in record["nodes"]]
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise BadInput(
            f"{bundle.path / 'evolution.json'} is damaged: a record cannot be read ({error}).",
            help="Install the model again.",
            code="damaged-model",
        ) from error
    _name_kinds(records)
    levels = max((stage + level for stage, level in places), default=-1) + 1
    period, total = (_whole(content.get(key)) for key in ("period", "total_iterations"))
    return Flow(bundle.name, levels, period, total, records)


def _counted(
    bundle: Bundle, connections: Connections | None
) -> tuple[int, int, list[dict[str, Any]]]:
    """Live connections, all connections, and the shares of each node."""
    if bundle.model["network"]["kind"] in DECODERS:
        raise no_fusion(bundle)
    if connections is None:
        from e2enet.dsff.shares import flow_shares, kernel_l1

        stored = bundle.load_weights()
        if stored.lattice is not None:
            layers = stored.lattice.sparse_layers
            norms = {name: kernel_l1(stored.arrays[layer.weight]) for name, layer in layers.items()}
            possible = sum(mask.size for mask in stored.masks.values())
            live = sum(stored.live_by_layer.values())
            return live, possible, flow_shares(layers, stored.masks, norms)
        connections = bundle.load_network()[1]
    return connections.live, connections.total, connections.shares()


def no_fusion(bundle: Bundle) -> BadInput:
    """The refusal of the flow of a model that DSFF has not trained."""
    return BadInput(
        f"The network of {bundle.name} is {bundle.model['network']['kind']}: training removed none "
        "of its connections, so that there is no fusion flow to show and nothing to delete.",
        help="Name an image and no more: then it is shown what the decoder takes from which scale.",
        code="no-fusion",
    )


def _name_kinds(records: Sequence[dict[str, Any]]) -> None:
    """Say of each record what it is: the first, one between, or the last."""
    for place, record in enumerate(records):
        record["kind"] = "evolution" if place else "start"
    if records:
        records[-1]["kind"] = "end"


def _record(entry: Mapping[str, Any], per_epoch: float | None) -> dict[str, Any]:
    iteration = _whole(entry.get("iteration"))
    return {
        "kind": "end",
        "iteration": iteration,
        "epoch": round(iteration / per_epoch, 3) if iteration is not None and per_epoch else None,
        "zeta": entry.get("zeta"),
        "turnover": entry.get("turnover"),
        "live": int(entry["live"]),
        "total": int(entry["total"]),
        "nodes": [_node(node) for node in sorted(entry["nodes"], key=_place)],
    }


def _place(node: Mapping[str, Any]) -> tuple[int, int]:
    return int(node["stage"]), int(node["level"])


def _node(node: Mapping[str, Any]) -> dict[str, Any]:
    flows = [flow for flow in DIRECTIONS if flow in node["connections"]]
    live = _shares([int(node["connections"][flow]) for flow in flows])
    mass = _shares([float(node["l1"][flow]) for flow in flows])
    stage, level = _place(node)
    return {
        "stage": stage,
        "level": level,
        "flows": {
            flow: {
                "live": count,
                "possible": int(node["possible"][flow]),
                "density": round(count / int(node["possible"][flow]), 6),
                "share": share,
                "l1": l1,
                "l1_share": l1_share,
            }
            for flow, (count, share), (l1, l1_share) in zip(flows, live, mass, strict=True)
        },
        "up_kernels": {
            "live": int(node["up_connections"]),
            "possible": int(node["up_possible"]),
            "density": round(int(node["up_connections"]) / int(node["up_possible"]), 6),
            "l1": float(node["up_l1"]),
        },
    }


def _shares(values: Sequence[Any]) -> list[tuple[Any, float]]:
    """Each value with its share of the sum; shares of nothing are 0."""
    total = sum(values)
    return [(value, round(value / total, 6) if total else 0.0) for value in values]


def _same(record: Mapping[str, Any], final: Mapping[str, Any]) -> bool:
    def live(one: Mapping[str, Any]) -> list[int]:
        return [f["live"] for node in one["nodes"] for f in node["flows"].values()]

    def mass(one: Mapping[str, Any]) -> list[float]:
        return [f["l1"] for node in one["nodes"] for f in node["flows"].values()]

    pairs = zip(mass(record), mass(final), strict=False)
    return live(record) == live(final) and all(abs(a - b) <= 1e-3 * abs(b) for a, b in pairs)


def _iterations_per_epoch(bundle: Bundle) -> float | None:
    provenance = bundle.model.get("provenance")
    try:
        return float(provenance["iterations"]) / float(provenance["epochs"])  # type: ignore[index]
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
