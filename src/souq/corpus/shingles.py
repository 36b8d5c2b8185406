"""Runs of words as numbers, compiled by numba: hashing, MinHash signatures, overlap. Knows bytes and arrays.

A text is UTF-8 bytes that are already plain (text.skeleton). A word is a run of letters and digits; a character of
a script that sets no words apart (text.words) is a word of its own. A word's hash is FNV-1a's, finished by murmur's
mixer; a run's mixes those of its words in order. MinHash is Broder's (1997): multiplied and added to modulo 2^64, the
upper half kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

_compile: Any = njit(nogil=True, cache=True)
_spread: Any = njit(nogil=True, cache=True, parallel=True)
_FNV, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_M1, _M2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
EMPTY = np.uint32(0xFFFFFFFF)


@_compile
def _mixed(h):
    """murmur3's last step: every bit of the result depends on every bit of h."""
    h = (h ^ (h >> np.uint64(33))) * _M1
    h = (h ^ (h >> np.uint64(33))) * _M2
    return h ^ (h >> np.uint64(33))


@_compile
def _kind(data, i, end):
    """(what begins here, its bytes): 0 nothing of a word, 1 part of a word, 2 a word of its own."""
    byte = data[i]
    if byte < 0x80:
        letter = (0x61 <= byte <= 0x7A) or (0x30 <= byte <= 0x39) or (0x41 <= byte <= 0x5A) or byte == 0x5F
        return (1 if letter else 0), 1
    after = data[i + 1] if i + 1 < end else 0
    if byte == 0xE3 and after == 0x80:  # punctuation of Chinese and Japanese
        return 0, 3
    if 0xE4 <= byte <= 0xE9 or (byte == 0xE3 and (after <= 0x83 or after >= 0x90)):
        return 2, 3
    if byte == 0xE0 and after >= 0xB8:  # Thai, Lao, Tibetan
        return 2, 3
    if byte == 0xE1 and (0x80 <= after <= 0x81 or after in (0x9E, 0x9F)):  # Burmese, Khmer
        return 2, 3
    if byte == 0xE1 and after == 0x82 and i + 2 < end and data[i + 2] <= 0x9F:
        return 2, 3
    if byte == 0xF0 and 0xA0 <= after <= 0xB2:  # rarer characters of Chinese
        return 2, 4
    if byte == 0xE2 and after in (0x80, 0x81):
        return 0, 3
    if byte == 0xC2:
        return 0, 2
    return 1, 1


@_compile
def _words(data, start, end, out):
    """Hashes of the words in data[start:end], written to out; how many."""
    count, h, inside, i = 0, _FNV, False, start
    while i < end:
        kind, size = _kind(data, i, end)
        if kind != 1 and inside:
            out[count] = _mixed(h)
            count += 1
            h, inside = _FNV, False
        if kind:
            for j in range(i, min(i + size, end)):
                h = (h ^ np.uint64(data[j])) * _PRIME
            inside = True
        if kind == 2:
            out[count] = _mixed(h)
            count += 1
            h, inside = _FNV, False
        i += size
    if inside:
        out[count] = _mixed(h)
        count += 1
    return count


@_compile
def _runs(words, count, n, out):
    """Hashes of every n words in a row, or of all where there are fewer; how many."""
    if count == 0:
        return 0
    size = min(n, count)
    for i in range(count - size + 1):
        h = np.uint64(size)
        for j in range(size):
            h = _mixed(h * _PRIME + words[i + j])
        out[i] = h
    return count - size + 1


@_spread
def shingled(data, bounds, n, out, counts):
    """Sorted different hashes of runs of n words of texts data[bounds[t]:bounds[t + 1]], into out from bounds[t] on.

    data (bytes,) uint8; bounds (texts + 1,) int64; counts (texts,) int64, written to: how many hashes each text has. A
    text of b bytes has at most b words, so its place in out (bytes,) uint64 is large enough.
    """
    for t in prange(len(counts)):
        start, end = bounds[t], bounds[t + 1]
        words = np.empty(end - start + 1, np.uint64)
        room = np.empty(len(words), np.uint64)
        part = np.unique(room[: _runs(words, _words(data, start, end, words), n, room)])
        out[start : start + len(part)] = part
        counts[t] = len(part)


@_spread
def signed(shingles, starts, counts, factors, terms, out):
    """MinHash signatures into out (texts, k) uint32, of shingles[starts[t]:starts[t] + counts[t]]; EMPTY of none.

    `factors` and `terms` (k,) uint64: the k hash functions.
    """
    for t in prange(len(counts)):
        row = out[t]
        row[:] = EMPTY
        for i in range(starts[t], starts[t] + counts[t]):
            h = shingles[i]
            for j in range(len(factors)):
                value = np.uint32((h * factors[j] + terms[j]) >> np.uint64(32))
                row[j] = min(row[j], value)


@_compile
def jaccard(shingles, a, size_a, b, size_b):
    """The Jaccard index of two texts' sorted shingles, shingles[a:a + size_a] and shingles[b:b + size_b]; 1 of none."""
    i, j, both = 0, 0, 0
    while i < size_a and j < size_b:
        x, y = shingles[a + i], shingles[b + j]
        both += x == y
        i += x <= y
        j += y <= x
    total = size_a + size_b - both
    return both / total if total else 1.0


@_compile
def _root(parents, i):
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i


@_compile
def join_near(order, edges, shingles, starts, counts, threshold, most, first, ranks, parents):
    """Join each text with those of the `most` before it in its bucket order[edges[b]:edges[b + 1]] that are near it.

    parents (texts,) int64 is a forest, written to; the root of a tree has its least rank, of ranks (texts,) int64.
    A text numbered below `first` is joined by later ones alone.
    """
    for b in range(len(edges) - 1):
        for place in range(edges[b], edges[b + 1]):
            i = order[place]
            if i < first:
                continue
            for j in order[max(edges[b], place - most) : place]:
                a, other = _root(parents, i), _root(parents, j)
                if a != other and jaccard(shingles, starts[i], counts[i], starts[j], counts[j]) >= threshold:
                    if ranks[a] > ranks[other]:
                        a, other = other, a
                    parents[other] = a


@_spread
def holding(data, bounds, lengths, needles, offsets, out):
    """Which needle each text data[bounds[t]:bounds[t + 1]] holds, the first by length and place, or -1.

    Into out (texts,) int64; `needles` (needles,) uint64 are hashes of runs, those of lengths[l] words sorted in
    needles[offsets[l]:offsets[l + 1]].
    """
    for t in prange(len(out)):
        start, end = bounds[t], bounds[t + 1]
        words = np.empty(end - start + 1, np.uint64)
        count = _words(data, start, end, words)
        room = np.empty(len(words), np.uint64)
        out[t] = -1
        for at in range(len(lengths)):
            if out[t] >= 0 or count < lengths[at]:
                continue
            part = needles[offsets[at] : offsets[at + 1]]
            for i in range(_runs(words, count, lengths[at], room)):
                where = np.searchsorted(part, room[i])
                if where < len(part) and part[where] == room[i]:
                    out[t] = offsets[at] + where
                    break


@_compile
def counted(data, start, end):
    """How many words stand in data[start:end], of data (bytes,) uint8."""
    return _words(data, start, end, np.empty(end - start + 1, np.uint64))
