"""Loops over blocks of numbers, compiled by numba: the same float32 arithmetic in the same order on every machine.

One output element is computed by one thread in a written order, nothing is reassociated or contracted (no fastmath),
and what is random is a function of a key and the element's position. A block is words (T, n): the next n elements of T
tensors, as the bits of bf16 (uint16) or of float32 (uint32), beside base (n,) of the same kind, all contiguous; TILE
elements at a time stay in the nearest cache. Slices are taken before a loop and indices are unsigned: only so does LLVM
see that a loop may use the processor's vectors. Knows arrays; has never heard of names, files or methods.

    >>> out = np.empty(2, np.float32)
    >>> ones = np.ones((2, 2), np.float32).view(np.uint32)
    >>> combine(ones, ones[0], False, np.array([[1.0, 2.0]], np.float32), 2, 0, out)
    >>> out.tolist()
    [3.0, 3.0]
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

TILE = 2048
LANES = 16  # a sum runs in so many lanes side by side, by position: the same whatever the size of a block
HIGH, LOW = 1 << 15, 1 << 16  # bins: the upper 15 bits of a magnitude, then its lower 16
EVERY, BAND, CHANCE, BY_RANK = range(4)  # which elements stay
_GROUP = 16  # elements that are looked at together
_SIGNLESS, _INFINITE = np.uint32(0x7FFFFFFF), np.uint32(0x7F800000)

# error_model: a check before each division would keep loops scalar
_compile: Any = njit(nogil=True, cache=True, error_model="numpy")


@_compile
def _wide(word, shift):
    """A float32 from its own bits (shift 0), or from those of a bf16 (shift 16)."""
    return np.uint32(np.uint32(word) << shift).view(np.float32)


@_compile
def _widen(words, tile):
    shift = np.uint32(32 - 8 * words.itemsize)
    for i in range(len(tile)):
        tile[i] = _wide(words[i], shift)


@_compile
def _subtract(words, base, tile):
    """tile = words - base, exact for bf16 unless the exponents differ by more than 16."""
    shift = np.uint32(32 - 8 * words.itemsize)
    for i in range(len(tile)):
        tile[i] = _wide(words[i], shift) - _wide(base[i], shift)


# -- linear combinations -----------------------------------------------------------------------------------------------


@_compile
def combine(words, base, based, weights, row, skipped, out):
    """out (n,) float32 = [base +] sum_t weights[r, t] * (words[t] [- base]), added in the order of t.

    weights (R, T) float32; r is the element's row, counted from row `skipped` of the tensor. The block begins at a
    row's first element or lies within one row.
    """
    count, n = words.shape
    shift = np.uint32(32 - 8 * words.itemsize)
    unders = np.zeros(TILE, np.float32)
    for first in range(0, n, row):
        factors = weights[first // row + skipped]
        for start in range(first, min(first + row, n), TILE):
            stop = min(start + TILE, first + row, n)
            total, under = out[start:stop], unders[: stop - start]
            if based:
                _widen(base[start:stop], under)
            total[:] = np.float32(0)
            for t in range(count):
                factor, part = factors[t], words[t, start:stop]
                for i in range(len(total)):
                    total[i] += factor * (_wide(part[i], shift) - under[i])
            if based:
                for i in range(len(total)):
                    total[i] += under[i]


@_compile
def inner_products(words, base, based, row, position, lanes):
    """Add to lanes (R, T, T, LANES) float64 the products of the tensors [minus base], rows as in `combine`.

    The block begins at `position` of the tensor.
    """
    count, n = words.shape
    tiles = np.empty((count, TILE), np.float32)
    first = 0
    while first < n:
        last = min(n, first + row - (position + first) % row)
        into = lanes[(position + first) // row]
        for start in range(first, last, TILE):
            stop = min(start + TILE, last)
            for t in range(count):
                if based:
                    _subtract(words[t, start:stop], base[start:stop], tiles[t, : stop - start])
                else:
                    _widen(words[t, start:stop], tiles[t, : stop - start])
            for s in range(count):
                for t in range(s + 1):
                    _add_products(
                        tiles[s, : stop - start], tiles[t, : stop - start], (position + start) % row, into[s, t]
                    )
        first = last


@_compile
def _add_products(a, b, position, lanes):
    head = min(-position % LANES, len(a))
    whole = len(a) - (len(a) - head) % LANES
    for i in range(head):
        lanes[(position + i) % LANES] += np.float64(a[i]) * np.float64(b[i])
    for i in range(head, whole, LANES):
        x, y = a[i : i + LANES], b[i : i + LANES]
        for j in range(LANES):
            lanes[j] += np.float64(x[j]) * np.float64(y[j])
    for i in range(whole, len(a)):
        lanes[i - whole] += np.float64(a[i]) * np.float64(b[i])


# -- order -------------------------------------------------------------------------------------------------------------


@_compile
def differences(words, base, out):
    """out (T, n) uint32 = the magnitudes of words - base, as bits: they are ordered as the floats are."""
    for t in range(len(words)):
        _subtract(words[t], base, out[t].view(np.float32))
        for i in range(len(base)):
            out[t, i] &= _SIGNLESS


@_compile
def bracket(words, base, low, high, counts, inside):
    """Add to counts (T, 4) how many magnitudes of words[t] - base lie above high[t], at it, between, and at low[t].

    counts int64; low, high (T,) uint32. Those between are kept in inside (T, room) uint32, as long as there is room.
    """
    count, n = words.shape
    whole = np.empty(TILE, np.float32)
    for start in range(0, n, TILE):
        stop = min(start + TILE, n)
        bits = whole[: stop - start].view(np.uint32)
        for t in range(count):
            _subtract(words[t, start:stop], base[start:stop], whole[: stop - start])
            least, most = low[t], high[t]
            above, highs, lows = np.uint32(0), np.uint32(0), np.uint32(0)
            for i in range(len(bits)):
                size = np.uint32(bits[i] & _SIGNLESS)
                bits[i] = size
                above += np.uint32(size > most)
                highs += np.uint32(size == most)
                lows += np.uint32(size == least)
            counts[t, 0] += above
            counts[t, 1] += highs
            counts[t, 3] += lows
            if most - least > 1:
                counts[t, 2] = _gather(bits, least, most, inside[t], np.uint64(counts[t, 2]))


@_compile
def _gather(bits, low, high, inside, at):
    """Few lie between: a group that holds none of them is passed over at once. Returns how many there were so far."""
    first, width, room = np.uint32(low + 1), np.uint32(high - low - 1), np.uint64(len(inside))
    for start in range(0, len(bits), _GROUP):
        group = bits[start : start + _GROUP]
        some = np.uint32(0)
        for i in range(len(group)):
            some += np.uint32(np.uint32(group[i] - first) < width)
        if some and at + some <= room:
            for i in range(len(group)):
                if np.uint32(group[i] - first) < width:
                    inside[at] = group[i]
                    at += np.uint64(1)
        elif some:
            at = max(at, room) + np.uint64(some)
    return at


@_compile
def histogram(words, base, high, counts):
    """Add to counts (T, bins) int64 the magnitudes of words[t] - base, by their bits; high (T,) int64.

    Where high[t] < 0 by their upper 15 bits; else, of those in bin high[t], by the rest. The bits of a float without
    its sign are ordered as the float is, so bins are exact.
    """
    count, n = words.shape
    tile = np.empty(TILE, np.float32)
    for start in range(0, n, TILE):
        stop = min(start + TILE, n)
        bits = tile[: stop - start].view(np.uint32)
        for t in range(count):
            _subtract(words[t, start:stop], base[start:stop], tile[: stop - start])
            if high[t] < 0:
                _count(bits, counts[t])
            else:
                _count_within(bits, np.uint32(high[t]), counts[t])


@_compile
def _count(bits, counts):
    for i in range(len(bits)):
        counts[np.uint32((bits[i] & _SIGNLESS) >> np.uint32(16))] += 1


@_compile
def _count_within(bits, high, counts):
    """Few are in one bin: a group that holds none of them is passed over at once."""
    for start in range(0, len(bits), _GROUP):
        group = bits[start : start + _GROUP]
        some = np.uint32(0)
        for i in range(len(group)):
            some += np.uint32(np.uint32((group[i] & _SIGNLESS) >> np.uint32(16)) == high)
        if some:
            for i in range(len(group)):
                if np.uint32((group[i] & _SIGNLESS) >> np.uint32(16)) == high:
                    counts[np.uint32(group[i] & np.uint32(0xFFFF))] += 1


@_compile
def cut(counts, wanted, bins):
    """bins (T,) int64: the bin of counts[t] (T, bins), from the top, in which the wanted[t]-th lies.

    wanted (T,) int64 becomes how many are left to take in that bin.
    """
    for t in range(len(wanted)):
        at = counts.shape[1] - 1
        while at > 0 and counts[t, at] < max(wanted[t], 1):
            wanted[t] -= counts[t, at]
            at -= 1
        bins[t] = at


# -- differences, made sparse and made to agree ------------------------------------------------------------------------


class Thinning(NamedTuple):
    """Which elements of T differences stay.

    By `mode` all; those between two magnitudes, and of the equals of an edge the first ones by position; each with a
    chance, drawn from the tensor's key and the element's position; with a chance that rises with the rank in the row.
    """

    mode: int  # EVERY, BAND, CHANCE or BY_RANK
    low: NDArray[np.uint32]  # (T,)
    low_left: NDArray[np.int64]  # (T,) equals of low that stay; used up from call to call
    high: NDArray[np.uint32]  # (T,)
    high_left: NDArray[np.int64]  # (T,) equals of high that go; used up from call to call
    keys: NDArray[np.uint32]  # (T, 2)
    chance: NDArray[np.float64]  # (T,)
    epsilon: NDArray[np.float64]  # (T,) by how much the chance of the smallest and the largest rank is another
    row: int  # elements
    ranks: NDArray[np.int32]  # (T, n) of a block's elements in their rows; (T, 0) in other modes


class Weighting(NamedTuple):
    """What the differences that stay are multiplied by, and how they come to one."""

    scales: NDArray[np.float32]  # (T,) of each difference
    weights: NDArray[np.float32]  # (T,) of each difference in the sum
    votes: NDArray[np.float32]  # (T,) of each difference in the election of a sign
    everyone: np.float32  # all the weights, those of differences that are zero included
    elect: bool  # only what has the elected sign counts
    normalise: bool  # divide by the weights that took part: where nothing is elected, by `everyone`
    scale: np.float32  # of the sum


@_compile
def _mix(x):
    """MurmurHash3's 32-bit finaliser (Appleby, public domain): every input bit moves every output bit."""
    x = np.uint32((x ^ (x >> 16)) * 0x85EBCA6B)  # numba widens to 64 bits; the cast wraps
    x = np.uint32((x ^ (x >> 13)) * 0xC2B2AE35)
    return np.uint32(x ^ (x >> 16))


@_compile
def _uniform(position, first, second):
    """A uint32 that is a function of a key (two uint32) and a position alone."""
    inner = _mix(np.uint32(position) ^ first)
    return _mix(np.uint32(inner ^ np.uint32(second + (position >> 32) * 0x9E3779B1)))


@_compile
def _keep_between(bits, t, thinning):
    """Zero what is not in the band of t.

    Equals of low stay until low_left is used up; equals of high go until high_left is.
    """
    least, most, low_left, high_left = thinning.low[t], thinning.high[t], thinning.low_left, thinning.high_left
    lows, highs = np.uint32(0), np.uint32(0)
    for i in range(len(bits)):
        size = np.uint32(bits[i] & _SIGNLESS)
        lows += np.uint32(size == least)
        highs += np.uint32(size == most)
    if (lows <= low_left[t] or low_left[t] == 0) and (highs <= high_left[t] or high_left[t] == 0):
        least = least if low_left[t] else np.uint32(least + 1)  # inclusive
        most = most if high_left[t] == 0 else np.uint32(most - 1)
        for i in range(len(bits)):
            size = np.uint32(bits[i] & _SIGNLESS)
            bits[i] = bits[i] if (size >= least) & (size <= most) else np.uint32(0)
        low_left[t] = max(low_left[t] - np.int64(lows), 0)
        high_left[t] = max(high_left[t] - np.int64(highs), 0)
        return
    for i in range(len(bits)):  # the one tile in which a share of equals runs out
        size = np.uint32(bits[i] & _SIGNLESS)
        kept = least < size < most
        if size == most:
            kept = high_left[t] == 0
            high_left[t] -= high_left[t] > 0
        if size == least and (kept or least != most):
            kept = low_left[t] > 0
            low_left[t] -= low_left[t] > 0
        bits[i] = bits[i] if kept else np.uint32(0)


@_compile
def _keep_random(bits, position, key, chance):
    first, second = key[0], key[1]
    least = np.uint32(min(chance * 4294967296.0, 4294967295.0))
    for i in range(len(bits)):
        bits[i] = bits[i] if _uniform(position + i, first, second) < least else np.uint32(0)


@_compile
def _keep_by_rank(bits, position, ranks, row, key, density, epsilon):
    """DELLA: the chance to stay rises with the rank in the row, from density - epsilon to density + epsilon."""
    first, second = key[0], key[1]
    for i in range(len(bits)):
        share = np.float32(ranks[i]) / np.float32(max(row - 1, 1))
        chance = (density - epsilon) + share * 2 * epsilon
        least = np.uint32(min(chance, 1.0) * np.float64(4294967295.0))
        bits[i] = bits[i] if _uniform(position + i, first, second) < least else np.uint32(0)


@_compile
def _thin(tile, t, thinning, position, ranks):
    """Zero the elements of tensor t's tile that do not stay; the tile begins at `position`, and `ranks` are its own."""
    bits = tile.view(np.uint32)
    if thinning.mode == BAND:
        _keep_between(bits, t, thinning)
    elif thinning.mode == CHANCE:
        _keep_random(bits, position, thinning.keys[t], thinning.chance[t])
    elif thinning.mode == BY_RANK:
        key, chance, epsilon = thinning.keys[t], thinning.chance[t], thinning.epsilon[t]
        _keep_by_rank(bits, position, ranks, thinning.row, key, chance, epsilon)


@_compile
def sizes(words, base, position, thinning, lanes):
    """Add to lanes (T, 2, LANES) float64 the magnitudes of the differences, and of those that stay.

    The block begins at `position` of the tensor; what stays is what `agree` keeps.
    """
    count, n = words.shape
    whole = np.empty(TILE, np.float32)
    for start in range(0, n, TILE):
        stop = min(start + TILE, n)
        tile, at = whole[: stop - start], position + start
        for t in range(count):
            _subtract(words[t, start:stop], base[start:stop], tile)
            _add_sizes(tile, at, lanes[t, 0])
            _thin(tile, t, thinning, at, thinning.ranks[t, start:stop])
            _add_sizes(tile, at, lanes[t, 1])


@_compile
def _add_sizes(tile, position, lanes):
    head = min(-position % LANES, len(tile))
    whole = len(tile) - (len(tile) - head) % LANES
    for i in range(head):
        lanes[(position + i) % LANES] += np.float64(abs(tile[i]))
    for i in range(head, whole, LANES):
        x = tile[i : i + LANES]
        for j in range(LANES):
            lanes[j] += np.float64(abs(x[j]))
    for i in range(whole, len(tile)):
        lanes[i - whole] += np.float64(abs(tile[i]))


@_compile
def agree(words, base, position, thinning, weighting, out):
    """out (n,) float32 = base + scale sum_t w_t s_t d_t over the differences that stay; the block begins at `position`.

    w are the weights, s the scales. Where `elect`, only differences of the elected sign count: that of
    sum_t v_t s_t d_t, v the votes, zero counting as plus.

    False where a difference is NaN or infinite, be it one that goes.
    """
    weights, elect = weighting.weights, weighting.elect
    factors = weighting.votes if elect else weights
    count, n = words.shape
    tiles = np.empty((count, TILE), np.float32)
    totals, unders = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    mixes, shares = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    worst = np.uint32(0)
    everyone = weighting.everyone if abs(weighting.everyone) >= 1e-8 else np.float32(1)
    for start in range(0, n, TILE):
        stop = min(start + TILE, n)
        m = stop - start
        under, total, mixed, parts = unders[:m], totals[:m], mixes[:m], shares[:m]
        _widen(base[start:stop], under)
        for i in range(m):
            total[i] = np.float32(0)
        for t in range(count):
            tile = tiles[t, :m]
            _subtract(words[t, start:stop], base[start:stop], tile)
            worst = max(worst, _exponent(tile.view(np.uint32)))
            _thin(tile, t, thinning, position + start, thinning.ranks[t, start:stop])
            factor, own = factors[t], weighting.scales[t]
            for i in range(m):
                scaled = tile[i] * own
                tile[i] = scaled
                total[i] += scaled * factor
        if elect:
            _elect(tiles, weights, total, mixed, parts)
        else:
            for i in range(m):
                mixed[i], parts[i] = total[i], everyone
        into = out[start:stop]
        if weighting.normalise:
            for i in range(m):
                mixed[i] /= parts[i]
        for i in range(m):
            into[i] = under[i] + weighting.scale * mixed[i]
    return worst != _INFINITE


@_compile
def _exponent(bits):
    """The largest exponent, where it stands in the bits."""
    worst = np.uint32(0)
    for i in range(len(bits)):
        worst = max(worst, np.uint32(bits[i] & _INFINITE))
    return worst


@_compile
def _elect(tiles, weights, total, mixed, parts):
    for i in range(len(total)):
        mixed[i] = parts[i] = np.float32(0)
    for t in range(len(tiles)):
        tile, weight = tiles[t, : len(total)], weights[t]
        for i in range(len(total)):
            weighted = tile[i] * weight
            same = ((weighted > 0) == (total[i] >= 0)) & (weighted != 0)
            mixed[i] += weighted if same else np.float32(0)
            parts[i] += weight if same else np.float32(0)
    for i in range(len(total)):
        parts[i] = np.float32(1) if parts[i] == 0 else parts[i]


@_compile
def variance(words, base, out):
    """out (n,) float32 = the variance over t of words[t] - base (divided by T)."""
    count, n = words.shape
    tiles = np.empty((count, TILE), np.float32)
    means = np.empty(TILE, np.float32)
    share = np.float32(1) / np.float32(count)
    for start in range(0, n, TILE):
        stop = min(start + TILE, n)
        mean, spread = means[: stop - start], out[start:stop]
        mean[:] = np.float32(0)
        spread[:] = np.float32(0)
        for t in range(count):
            tile = tiles[t, : stop - start]
            _subtract(words[t, start:stop], base[start:stop], tile)
            for i in range(len(mean)):
                mean[i] += tile[i]
        for i in range(len(mean)):
            mean[i] *= share
        for t in range(count):
            tile = tiles[t, : stop - start]
            for i in range(len(mean)):
                spread[i] += (tile[i] - mean[i]) * (tile[i] - mean[i])
        for i in range(len(mean)):
            spread[i] *= share


@_compile
def to_bf16(x, out):
    """out (n,) uint16: the bits of x (n,) float32 as bf16, to nearest even. False where an x is NaN or infinite."""
    bits = x.view(np.uint32)
    worst = np.uint32(0)
    for i in range(len(x)):
        word = bits[i]
        worst = max(worst, word & _INFINITE)
        out[i] = np.uint16((word + np.uint32(0x7FFF) + ((word >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))
    return worst != _INFINITE
