"""Objects of a store that are read part by part, so that their size is no matter: kept as they arrive, and handed on.

keep(store, name, file)          # a file that came from elsewhere becomes the object, once its digest is computed
for words in parts(store, name): ...
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import zstandard

from souq.errors import Corrupt, Hostile, NotFound
from souq.records import Digest
from souq.weights.codec import Header, Payload, in_parts, object_in
from souq.weights.delta import Array, digest_of_parts
from souq.weights.store import Store, damaged

UNREADABLE = (Hostile, ValueError, zstandard.ZstdError)


def keep(store: Store, name: Digest, file: Path) -> None:
    """Keep an object that came as a file: as `Store.take`, but part by part.

    Raises:
        NotFound: the tensor it is a difference from is not here yet.
        Corrupt: it is not what its name says, or a difference from what is one itself.
    """
    base = ""
    try:
        if (base := base_in(file)) and store.header(base).base:
            raise Corrupt(
                f"{name} is a difference from {base}, which is one itself", hint="one step is all there may be"
            )
        if _digest_in(store, file) != name:
            raise Hostile("its bytes have another digest")
    except UNREADABLE as error:
        if base and not _is_sound(store, base):
            raise damaged(base, "what is a difference from it does not come out") from error
        raise Corrupt(f"{name} is damaged: {error}", hint="ask whoever sent it to send it again") from error
    store.adopt(name, file)
    file.unlink()


def refuse_damaged(store: Store, name: Digest) -> None:
    """Read an object to its end and compare its digest.

    Raises:
        NotFound: it is not here, or what it is a difference from.
        Corrupt: it is not what its name says.
    """
    try:
        because = "" if _digest_in(store, store.path(name)) == name else "its bytes have another digest"
    except FileNotFoundError as error:
        raise NotFound(f"no tensor {name}", hint="run `souq fetch` to get it from the remote") from error
    except UNREADABLE as error:
        because = str(error)
    if because:
        raise damaged(name, because)


def parts(store: Store, name: Digest) -> Iterator[Array]:
    """A tensor's words, flat, a block at a time and never all in memory: whoever asks compares their digest."""
    store.header(name)  # it is here, and a file
    with store.path(name).open("rb") as file:
        yield from _words(store, *object_in(file), twice=False)


def base_in(file: Path) -> str:
    """The tensor that an object in a file is a difference from; "" where it is from none.

    Raises:
        Hostile: not an object.
    """
    with file.open("rb") as opened:
        return object_in(opened)[0].base


def _digest_in(store: Store, file: Path) -> Digest:
    """The digest of the tensor that a file holds an object of."""
    with file.open("rb") as opened:
        header, payload = object_in(opened)
        return digest_of_parts(header.dtype, header.shape, _words(store, header, payload, twice=True))


def _words(store: Store, header: Header, payload: Payload, *, twice: bool) -> Iterator[Array]:
    with ExitStack() as stack:
        held = None
        if header.base:
            store.header(header.base)  # it is here, and a file
            theirs, whole = object_in(stack.enter_context(store.path(header.base).open("rb")))
            if (theirs.dtype, theirs.shape) != (header.dtype, header.shape):
                raise Hostile(f"its base {header.base} has another shape")
            held = in_parts(theirs, whole, None, twice=twice)
        yield from in_parts(header, payload, held, twice=twice)


def _is_sound(store: Store, name: Digest) -> bool:
    """Whether a dense tensor here is what its name says."""
    with suppress(*UNREADABLE):
        return _digest_in(store, store.path(name)) == name
    return False
