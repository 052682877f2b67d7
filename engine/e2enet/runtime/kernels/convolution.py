"""Depth-shift, (1, 3, 3) convolution of live connections and the sums of the norm, in one kernel.

Work is cut into blocks of WIDE output tiles of 4 x 4 voxels, lanes of a vector being neighbouring
tiles. For a block every input map is read once: from the slice its depth-shift says, through the
norm and the leaky ReLU that its producer left to its readers, into the transformed domain
(`winograd`). There the live connections are summed (`accumulation`), and each output map comes back
and is written once. The concatenation, the shifted and the normalised maps are never in memory.
"""

from __future__ import annotations

import numpy as np

from e2enet.runtime.kernels.accumulation import BLOCK, PITCH, WIDE, ZERO, shared, single
from e2enet.runtime.kernels.memory import aligned
from e2enet.runtime.kernels.tiles import (
    PLANES,
    ROW,
    columns_to_points,
    cut_runs,
    plane_pitch,
    rows_to_points,
)
from e2enet.runtime.kernels.vectors import (
    SLACK,
    deal2,
    fma,
    keep,
    kernel,
    load,
    part,
    splat,
    store,
    store_at,
    store_some,
    total,
    weave4,
)
from e2enet.runtime.kernels.winograd import SIZE, TILE, A, B

_A, _B = np.float32(A), np.float32(B)
_A2, _B2, _A3, _B3 = (np.float32(v) for v in (A * A, B * B, A**3, B**3))


def scratch(maps: int, outputs: int) -> tuple[np.ndarray, ...]:
    """What one thread needs for so many input and output maps at most.

    Transformed inputs, sums, one map's rows, a line of voxels, runs.
    """
    outputs = -(-outputs // BLOCK) * BLOCK
    return (
        aligned(PLANES // 2 * (maps * PITCH + 16)),
        aligned(outputs * PLANES * WIDE),
        aligned(PLANES * ROW),
        aligned(TILE * 16 + SLACK),
        np.zeros((WIDE, 5), np.int64),
    )


@part
def _from_points(m0, m1, m2, m3, m4, m5):
    """A^T m: values at the six points -> four neighbours."""
    s, t, u, v = m1 + m2, m1 - m2, m3 + m4, m3 - m4
    return (
        m0 + s + u,
        fma(t, splat(_A), v * splat(_B)),
        fma(s, splat(_A2), u * splat(_B2)),
        fma(t, splat(_A3), fma(v, splat(_B3), m5)),
    )


@part
def _columns_from_points(sums, at, rows):
    """Back along the columns: rows[6 * row + point][lane] of one output map, four rows."""
    for column in range(SIZE):
        for lane in range(0, WIDE, 16):
            i = at + column * WIDE + lane
            s = SIZE * WIDE
            y0, y1, y2, y3 = _from_points(
                load(sums, i),
                load(sums, i + s),
                load(sums, i + 2 * s),
                load(sums, i + 3 * s),
                load(sums, i + 4 * s),
                load(sums, i + 5 * s),
            )
            to = column * ROW + lane
            store(rows, to, y0)
            store(rows, to + SIZE * ROW, y1)
            store(rows, to + 2 * SIZE * ROW, y2)
            store(rows, to + 3 * SIZE * ROW, y3)


@part
def _write(runs, count, rows, line, base, move, depth, height, width, step_h, step_w, sums, output):
    """Back along the rows and into the output map; adds to the sums of its norm."""
    added = splat(ZERO)
    squared = splat(ZERO)
    out_height, out_width = -(-height // step_h), -(-width // step_w)
    for n in range(count):
        column, length, lane = runs[n, 2], runs[n, 3], runs[n, 4]
        target = runs[n, 0] + move
        if target < 0 or target >= depth:
            continue
        for i in range(min(TILE, height - TILE * runs[n, 1])):
            row = TILE * runs[n, 1] + i
            if row % step_h:
                continue
            place = base + 4 * out_width * (target * out_height + row // step_h)
            for k in range(0, length, 16):
                s = SIZE * i * ROW + lane + k
                y0, y1, y2, y3 = _from_points(
                    load(rows, s),
                    load(rows, s + ROW),
                    load(rows, s + 2 * ROW),
                    load(rows, s + 3 * ROW),
                    load(rows, s + 4 * ROW),
                    load(rows, s + 5 * ROW),
                )
                y0, y1, y2, y3 = weave4(y0, y1, y2, y3)
                left = TILE * (column + k)
                valid = min(min(TILE * (length - k), width - left), 64)
                if step_w == 2:
                    y0, _ = deal2(y0, y1)
                    y1, _ = deal2(y2, y3)
                    y2 = y3 = splat(ZERO)
                    valid = (valid + 1) // 2
                elif step_w > 2:
                    y0, y1, y2, y3, valid = _every(line, y0, y1, y2, y3, valid, left, step_w)
                to = place + 4 * (-(-left // step_w))
                if valid == 64:
                    store_at(to, y0)
                    store_at(to + 64, y1)
                    store_at(to + 128, y2)
                    store_at(to + 192, y3)
                else:
                    store_some(to, y0, valid)
                    store_some(to + 64, y1, valid - 16)
                    store_some(to + 128, y2, valid - 32)
                    store_some(to + 192, y3, valid - 48)
                    y0, y1 = keep(y0, valid), keep(y1, valid - 16)
                    y2, y3 = keep(y2, valid - 32), keep(y3, valid - 48)
                added = added + (y0 + y1) + (y2 + y3)
                squared = fma(y0, y0, fma(y1, y1, fma(y2, y2, fma(y3, y3, squared))))
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


@kernel
def convolve(
    blocks,  # (first, last) of this thread
    shape,  # first slice, slices of this part, input depth, H, W
    stride,  # (D, H, W)
    source,  # Source
    shifts,  # depth-shift of every input map in slices
    lists,  # Lists of the output maps
    grouped,  # whether BLOCK output maps share a list
    factors,  # (planes, live) transformed kernels
    target,  # Target
    sums,  # (output maps, 2) of this thread: sum and sum of squares
    scratch,
):
    """Compute the tiles of some blocks of a part of the slices."""
    maps, transformed, rows, line, runs = scratch
    addresses, affine = source
    inputs, begins = lists
    outputs, out_shifts, out_depth = target
    live, factors = factors.shape[1], factors.reshape(-1)
    first_slice, slices, depth, height, width = shape
    step, step_h, step_w = stride
    tile_rows, tile_columns = -(-height // TILE), -(-width // TILE)
    tiles = slices * tile_rows * tile_columns
    before = first_slice * tile_rows * tile_columns
    pitch = plane_pitch(len(addresses))
    for block in range(blocks[0], blocks[1]):
        first = block * WIDE
        count = cut_runs(
            runs, before + first, before + min(first + WIDE, tiles), tile_rows, tile_columns
        )
        for c in range(len(addresses)):
            rows_to_points(
                runs, count, rows, addresses[c], depth, height, width, step, shifts[c],
                affine[c, 0], affine[c, 1], affine[c, 2],
            )  # fmt: skip
            columns_to_points(rows, maps, c * PITCH, pitch)
        if grouped:
            for plane in range(PLANES):
                at = plane // 2 * pitch + plane % 2 * WIDE
                for group in range(len(begins) - 1):
                    shared(
                        maps, at, factors, plane * live, inputs, begins[group],
                        begins[group + 1], transformed, (BLOCK * group * PLANES + plane) * WIDE,
                        PLANES * WIDE,
                    )  # fmt: skip
        else:
            for pair in range(PLANES // 2):
                for output in range(len(outputs)):
                    single(
                        maps, pair * pitch, factors, 2 * pair * live, live, inputs, begins[output],
                        begins[output + 1], transformed, (output * PLANES + 2 * pair) * WIDE,
                    )  # fmt: skip
        for output in range(len(outputs)):
            _columns_from_points(transformed, output * PLANES * WIDE, rows)
            _write(
                runs,
                count,
                rows,
                line,
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
