"""Tiles of maps in the transformed domain: how kernels read what they multiply.

A block is WIDE output tiles of 4 x 4 voxels, in the order of slices, rows and columns; lanes of a
vector are neighbouring tiles. Its input tiles, 6 x 6 and overlapping by two, become 36 planes of
WIDE lanes for each input map, two planes side by side (`accumulation`).
"""

from __future__ import annotations

import numpy as np

from e2enet.runtime.kernels.accumulation import PITCH, WIDE, ZERO
from e2enet.runtime.kernels.pairs import pack
from e2enet.runtime.kernels.vectors import (
    deal4,
    fma,
    keep,
    load,
    maximum,
    part,
    slide,
    slide_up,
    splat,
    store,
)
from e2enet.runtime.kernels.voxels import (
    read,
    read_one,
    size_of,
)
from e2enet.runtime.kernels.winograd import SIZE, TILE, A, B

ROW = WIDE + 16  # lanes of a row of tiles; runs are written in whole vectors and may overrun
PLANES = SIZE * SIZE

_A, _A_MINUS, _B, _B_MINUS = (np.float32(v) for v in (A, -A, B, -B))
_MINUS_A2, _MINUS_B2 = np.float32(-A * A), np.float32(-B * B)
_MINUS_SUM, _PRODUCT = np.float32(-A * A - B * B), np.float32(A * A * B * B)


@part
def plane_pitch(maps):
    """Floats from one pair of planes to the next; not a power of two, which would share a set."""
    return maps * PITCH + 16


@part
def cut_runs(runs, first, last, tile_rows, tile_columns):
    """Cut the tiles from first to last into runs in one row: (slice, row, column, count, lane)."""
    count = 0
    tile = first
    while tile < last:
        column = tile % tile_columns
        row = tile // tile_columns
        length = min(tile_columns - column, last - tile)
        runs[count, 0] = row // tile_rows
        runs[count, 1] = row % tile_rows
        runs[count, 2] = column
        runs[count, 3] = length
        runs[count, 4] = tile - first
        tile += length
        count += 1
    return count


@part
def _to_points(d0, d1, d2, d3, d4, d5):
    """B^T d: six neighbours -> their polynomial at the six points."""
    even_a = fma(d2, splat(_MINUS_B2), d4)
    odd_a = fma(d1, splat(_MINUS_B2), d3)
    even_b = fma(d2, splat(_MINUS_A2), d4)
    odd_b = fma(d1, splat(_MINUS_A2), d3)
    return (
        fma(d0, splat(_PRODUCT), fma(d2, splat(_MINUS_SUM), d4)),
        fma(odd_a, splat(_A), even_a),
        fma(odd_a, splat(_A_MINUS), even_a),
        fma(odd_b, splat(_B), even_b),
        fma(odd_b, splat(_B_MINUS), even_b),
        fma(d1, splat(_PRODUCT), fma(d3, splat(_MINUS_SUM), d5)),
    )


@part
def _activated(v, scale, shift, slope):
    v = fma(v, scale, shift)
    return maximum(v, v * slope)


@part
def _activated_one(kind, address, scale, shift, slope):
    v = read_one(kind, address) * scale + shift
    return max(v, v * slope)


@part
def rows_to_points(
    runs, count, rows, kind, base, depth, height, width, step, offset, scale, shift, slope
):
    """Transform along the rows of the input tiles: rows[6 * row + point][lane].

    Norm and activation are applied on the way; what lies outside the volume is zero after them.
    A slice is read `offset`, the depth-shift of its map, before its place.
    """
    zero = splat(ZERO)
    size = size_of(kind)
    scales, shifts, slopes = splat(scale), splat(shift), splat(slope)
    for n in range(count):
        source = runs[n, 0] * step - offset
        column, length, lane = runs[n, 2], runs[n, 3], runs[n, 4]
        for i in range(SIZE):
            row = TILE * runs[n, 1] - 1 + i
            to = SIZE * i * ROW + lane
            if source < 0 or source >= depth or row < 0 or row >= height:
                for k in range(0, length, 16):
                    for point in range(SIZE):
                        store(rows, to + point * ROW + k, zero)
                continue
            for k in range(0, length, 16):
                left = TILE * (column + k)
                address = base + size * (width * (source * height + row) + left)
                d1 = _activated(read(kind, address), scales, shifts, slopes)
                d2 = _activated(read(kind, address + 16 * size), scales, shifts, slopes)
                d3 = _activated(read(kind, address + 32 * size), scales, shifts, slopes)
                d4 = _activated(read(kind, address + 48 * size), scales, shifts, slopes)
                valid = width - left
                before = after = ZERO
                if left > 0:
                    before = _activated_one(kind, address - size, scale, shift, slope)
                if valid > 64:
                    after = _activated_one(kind, address + 64 * size, scale, shift, slope)
                elif valid < 64:
                    d1, d2 = keep(d1, valid), keep(d2, valid - 16)
                    d3, d4 = keep(d3, valid - 32), keep(d4, valid - 48)
                d1, d2, d3, d4 = deal4(d1, d2, d3, d4)
                p0, p1, p2, p3, p4, p5 = _to_points(
                    slide_up(before, d4), d1, d2, d3, d4, slide(d1, after)
                )
                store(rows, to + k, p0)
                store(rows, to + ROW + k, p1)
                store(rows, to + 2 * ROW + k, p2)
                store(rows, to + 3 * ROW + k, p3)
                store(rows, to + 4 * ROW + k, p4)
                store(rows, to + 5 * ROW + k, p5)


@part
def columns_to_points(rows, maps, at, pitch):
    """Transform along the columns: plane 6 * point + column of one map, from `at` on."""
    for column in range(SIZE):
        for lane in range(0, WIDE, 16):
            i = column * ROW + lane
            s = SIZE * ROW
            p0, p1, p2, p3, p4, p5 = _to_points(
                load(rows, i),
                load(rows, i + s),
                load(rows, i + 2 * s),
                load(rows, i + 3 * s),
                load(rows, i + 4 * s),
                load(rows, i + 5 * s),
            )
            # Plane 6 p + column is half (column % 2) of pair 3 p + column // 2.
            to = at + column // 2 * pitch + column % 2 * WIDE + lane
            store(maps, to, p0)
            store(maps, to + 3 * pitch, p1)
            store(maps, to + 6 * pitch, p2)
            store(maps, to + 9 * pitch, p3)
            store(maps, to + 12 * pitch, p4)
            store(maps, to + 15 * pitch, p5)


@part
def columns_to_pairs(rows, maps, at, pitch):
    """Transform along the columns to bfloat16: plane 6 * point + column of one map, from `at` on.

    Four planes lie side by side, WIDE lanes of each in one register (`pairs.pack`).
    """
    for column in range(SIZE):
        i = column * ROW
        s = SIZE * ROW
        p = _to_points(
            load(rows, i),
            load(rows, i + s),
            load(rows, i + 2 * s),
            load(rows, i + 3 * s),
            load(rows, i + 4 * s),
            load(rows, i + 5 * s),
        )
        i += 16
        q = _to_points(
            load(rows, i),
            load(rows, i + s),
            load(rows, i + 2 * s),
            load(rows, i + 3 * s),
            load(rows, i + 4 * s),
            load(rows, i + 5 * s),
        )
        even = at + column // 4 * pitch + column % 4 * 16
        odd = at + (column + 2) // 4 * pitch + (column + 2) % 4 * 16
        store(maps, even, pack(p[0], q[0]))
        store(maps, odd + pitch, pack(p[1], q[1]))
        store(maps, even + 3 * pitch, pack(p[2], q[2]))
        store(maps, odd + 4 * pitch, pack(p[3], q[3]))
        store(maps, even + 6 * pitch, pack(p[4], q[4]))
        store(maps, odd + 7 * pitch, pack(p[5], q[5]))
