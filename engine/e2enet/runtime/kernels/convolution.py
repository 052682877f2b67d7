"""Depth-shift, (1, 3, 3) convolution of live connections and the sums of the norm, in one kernel.

Work is cut into blocks of WIDE output tiles of 4 x 4 voxels, lanes of a vector being neighbouring
tiles. For a block every input map is read once: from the slice its depth-shift says, through the
norm and the leaky ReLU that its producer left to its readers, into the transformed domain
(`winograd`). There the live connections are summed (`accumulation`), and each output map comes back
and is written once. The concatenation, the shifted and the normalised maps are never in memory.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload

from e2enet.runtime.kernels.accumulation import (
    BLOCK,
    PITCH,
    WIDE,
    ZERO,
    shared,
    single,
)
from e2enet.runtime.kernels.memory import aligned
from e2enet.runtime.kernels.pairs import shared_pairs, single_pairs
from e2enet.runtime.kernels.tiles import (
    PLANES,
    ROW,
    columns_to_pairs,
    columns_to_points,
    cut_runs,
    plane_pitch,
    rows_to_points,
)
from e2enet.runtime.kernels.traced import Memory, Register, Whole, repeat, traced
from e2enet.runtime.kernels.vectors import (
    LANES,
    SLACK,
    deal2,
    keep_four,
    kernel,
    load,
    part,
    smaller,
    splat,
    store,
    total,
    weave4,
)
from e2enet.runtime.kernels.voxels import (
    size_of,
    write_four,
)
from e2enet.runtime.kernels.winograd import SIZE, TILE, A, B

_A, _B = np.float32(A), np.float32(B)
_A2, _B2, _A3, _B3 = (np.float32(v) for v in (A * A, B * B, A**3, B**3))


def scratch(maps: int, outputs: int, *, paired: bool = False) -> tuple[np.ndarray, ...]:
    """What one thread needs for so many input and output maps at most.

    Transformed inputs (int32 where they are pairs of bfloat16), sums, one map's rows, a line of
    voxels, runs.
    """
    outputs = -(-outputs // BLOCK) * BLOCK
    transformed = aligned(PLANES // (4 if paired else 2) * (maps * PITCH + 16))
    return (
        transformed.view(np.int32) if paired else transformed,
        aligned(outputs * PLANES * WIDE),
        aligned(PLANES * ROW),
        aligned(TILE * 16 + SLACK),
        np.zeros((WIDE, 5), np.int64),
    )


def _neighbours(m: list[Register]) -> list[Register]:
    """A^T m: values at the six points -> four neighbours."""
    s, t, u, v = m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]
    return [
        m[0] + s + u,
        t.fma(_A, v * _B),
        s.fma(_A2, u * _B2),
        t.fma(_A3, v.fma(_B3, m[5])),
    ]


@traced(4)
def _load_neighbours(rows: Memory, i: Whole, pitch: Whole) -> list[Register]:
    return _neighbours([rows.load(i + pitch * point) for point in range(SIZE)])


@traced(0)
def _store_neighbours(sums: Memory, i: Whole, rows: Memory, to: Whole) -> None:
    """Back along a column of tiles: four rows."""
    found = _neighbours([sums.load(i + SIZE * WIDE * point) for point in range(SIZE)])
    for row, register in enumerate(found):
        rows.store(to + SIZE * ROW * row, register)


@part
def _columns_from_points(sums, at, rows):
    """Back along the columns: rows[6 * row + point][lane] of one output map, four rows."""
    for column in range(SIZE):
        for lane in range(0, WIDE, 16):
            _store_neighbours(sums, at + column * WIDE + lane, rows, column * ROW + lane)


@traced(2)
def _tally(
    added: Register, squared: Register, y0: Register, y1: Register, y2: Register, y3: Register
) -> list[Register]:
    """A sum and a sum of squares with 64 voxels more."""
    squares = y0.fma(y0, y1.fma(y1, y2.fma(y2, y3.fma(y3, squared))))
    return [added + (y0 + y1) + (y2 + y3), squares]


@part
def _write(
    runs, count, rows, line, kind, base, move, depth, height, width, step_h, step_w, sums, output
):
    """Back along the rows and into the output map; adds to the sums of its norm."""
    size = size_of(kind)
    added = splat(ZERO)
    squared = splat(ZERO)
    out_height, out_width = -(-height // step_h), -(-width // step_w)
    for n in range(count):
        column, length, lane = runs[n, 2], runs[n, 3], runs[n, 4]
        target = runs[n, 0] + move
        if target < 0 or target >= depth:
            continue
        for i in range(smaller(TILE, height - TILE * runs[n, 1])):
            row = TILE * runs[n, 1] + i
            if row % step_h:
                continue
            place = base + size * out_width * (target * out_height + row // step_h)
            for k in range(0, length, 16):
                y0, y1, y2, y3 = _load_neighbours(rows, SIZE * i * ROW + lane + k, ROW)
                y0, y1, y2, y3 = weave4(y0, y1, y2, y3)
                left = TILE * (column + k)
                valid = smaller(smaller(TILE * (length - k), width - left), 64)
                if step_w == 2:
                    y0, _ = deal2(y0, y1)
                    y1, _ = deal2(y2, y3)
                    y2 = y3 = splat(ZERO)
                    valid = (valid + 1) // 2
                elif step_w > 2:
                    y0, y1, y2, y3, valid = _every(line, y0, y1, y2, y3, valid, left, step_w)
                to = place + size * (-(-left // step_w))
                write_four(kind, to, y0, y1, y2, y3, valid)
                if valid < 64:
                    y0, y1, y2, y3 = keep_four(y0, y1, y2, y3, valid)
                added, squared = _tally(added, squared, y0, y1, y2, y3)
    sums[output, 0] += total(added)
    sums[output, 1] += total(squared)


@part
def _every(line, y0, y1, y2, y3, valid, left, step):
    """Every step-th of the valid voxels of a row that begins at column left, and how many."""
    store(line, 0, y0)
    store(line, 16, y1)
    store(line, 32, y2)
    store(line, 48, y3)
    count = 0
    for m in range(-left % step, valid, step):
        line[count] = line[m]
        count += 1
    return load(line, 0), load(line, 16), load(line, 32), load(line, 48), count


def _to_planes(rows, maps, at, pitch):
    """Transform along the columns, to float32 or to pairs of bfloat16 as `maps` are."""


@overload(_to_planes)
def _to_planes_of(rows, maps, at, pitch):
    chosen = columns_to_pairs if maps.dtype == types.int32 else columns_to_points
    return chosen.py_func


@traced(0)
def _multiply_grouped(
    maps: Memory,
    pitch: Whole,
    factors: Memory,
    live: Whole,
    inputs: Memory,
    begins: Memory,
    groups: Whole,
    sums: Memory,
) -> None:
    """The sums of a block in the transformed domain where BLOCK output maps share a list."""
    beside, lanes = (4, LANES) if maps.paired else (2, WIDE)  # planes, and from one to the next
    multiply = shared_pairs.trace if maps.paired else shared.trace

    def turn(plane: Whole, group: Whole) -> None:
        at = pitch * (plane // beside) + plane % beside * lanes
        multiply(
            maps, at, factors, plane * live, inputs, begins[group], begins[group + 1],
            sums, (group * (BLOCK * PLANES) + plane) * WIDE, PLANES * WIDE,
        )  # fmt: skip

    repeat(groups.constant(PLANES), lambda plane: repeat(groups, lambda group: turn(plane, group)))


@traced(0)
def _multiply_each(
    maps: Memory,
    pitch: Whole,
    factors: Memory,
    live: Whole,
    inputs: Memory,
    begins: Memory,
    outputs: Whole,
    sums: Memory,
) -> None:
    """The sums of a block in the transformed domain where every output map has its list."""
    beside = 4 if maps.paired else 2  # planes
    multiply = single_pairs.trace if maps.paired else single.trace

    def turn(planes: Whole, output: Whole) -> None:
        multiply(
            maps, pitch * planes, factors, live * planes * beside, live, inputs, begins[output],
            begins[output + 1], sums, (output * PLANES + planes * beside) * WIDE,
        )  # fmt: skip

    several = outputs.constant(PLANES // beside)
    repeat(several, lambda planes: repeat(outputs, lambda output: turn(planes, output)))


@kernel
def convolve(
    blocks,  # (first, last) of this thread
    shape,  # first slice, slices of this part, input depth, H, W
    stride,  # (D, H, W)
    source,  # Source
    shifts,  # depth-shift of every input map in slices
    lists,  # Lists of the output maps
    grouped,  # whether BLOCK output maps share a list
    factors,  # (planes, live) transformed kernels, or (planes, pairs of them)
    target,  # Target
    sums,  # (output maps, 2) of this thread: sum and sum of squares
    scratch,
):
    """Compute the tiles of some blocks of a part of the slices."""
    maps, transformed, rows, line, runs = scratch
    addresses, affine, kind = source
    outputs, out_shifts, out_depth, out_kind = target
    inputs, begins = lists
    live = factors.shape[1]
    first_slice, slices, depth, height, width = shape
    step, step_h, step_w = stride
    tile_rows, tile_columns = -(-height // TILE), -(-width // TILE)
    tiles = slices * tile_rows * tile_columns
    before = first_slice * tile_rows * tile_columns
    pitch = plane_pitch(len(addresses))
    for block in range(blocks[0], blocks[1]):
        first = block * WIDE
        count = cut_runs(
            runs, before + first, before + smaller(first + WIDE, tiles), tile_rows, tile_columns
        )
        for c in range(len(addresses)):
            rows_to_points(
                runs, count, rows, kind, addresses[c], depth, height, width, step, shifts[c],
                affine[c, 0], affine[c, 1], affine[c, 2],
            )  # fmt: skip
            _to_planes(rows, maps, c * PITCH, pitch)
        if grouped:
            _multiply_grouped(
                maps, pitch, factors, live, inputs, begins, len(begins) - 1, transformed
            )
        else:
            _multiply_each(maps, pitch, factors, live, inputs, begins, len(outputs), transformed)
        for output in range(len(outputs)):
            _columns_from_points(transformed, output * PLANES * WIDE, rows)
            _write(
                runs,
                count,
                rows,
                line,
                out_kind,
                outputs[output],
                out_shifts[output],
                out_depth,
                height,
                width,
                step_h,
                step_w,
                sums,
                output,
            )
