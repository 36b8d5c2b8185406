"""Tensors wherever they are: in the store here, or straight from where they travel, read in parts and compared.

A clone that brought text alone can be built from: what goes into the model as it is, is read once and not kept here.

    with Supply(repo.store, repo.remote_store()) as supply:
        supply.read(ref, file.write)     # raises Corrupt where they are not what the digest says
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack

import zstandard

from souq.errors import Corrupt, Hostile, NotFound
from souq.progress import Progress, quiet
from souq.records import Digest
from souq.weights.bucket import Bucket
from souq.weights.by_parts import parts
from souq.weights.delta import Array, TensorRef, digest_of_parts
from souq.weights.ranges import Reader
from souq.weights.store import Store


class Supply:
    """A store, and the one its tensors come from where they are not in it."""

    def __init__(self, here: Store, there: Bucket | Store | None = None) -> None:
        self.here, self.there, self._left = here, there, ExitStack()
        self._reader: Reader | None = None

    def __enter__(self) -> Supply:
        if isinstance(self.there, Bucket):
            self._reader = self._left.enter_context(Reader(self.there.range))
        return self

    def __exit__(self, *_: object) -> None:
        self._left.close()

    def read(self, ref: TensorRef, use: Callable[[Array], object]) -> None:
        """Hand the words of a tensor on, flat, a block at a time.

        Raises:
            NotFound: it is nowhere.
            Corrupt: they were not those of its digest: what was made of them is to be thrown away.
        """
        try:
            name = digest_of_parts(ref.dtype, ref.shape, passed_on(self._found(ref.digest), use))
        except (Hostile, ValueError, zstandard.ZstdError) as error:
            raise self._damaged(ref.digest, str(error)) from error
        if name != ref.digest:
            raise self._damaged(ref.digest, "its bytes have another digest")

    def _found(self, name: Digest) -> Iterator[Array]:
        if name in self.here or self.there is None:
            return parts(self.here, name)
        return self._reader.parts(name) if self._reader is not None else parts(self._in_folder, name)

    @property
    def _in_folder(self) -> Store:
        assert isinstance(self.there, Store)
        return self.there

    def _damaged(self, name: Digest, because: str) -> Corrupt:
        if name in self.here or self.there is None:
            return Corrupt(f"{name} is damaged: {because}", hint="remove it and run `souq fetch`")
        where = self.there.url if isinstance(self.there, Bucket) else self.there.root
        hint = "whoever keeps it removes the object there, and whoever has the tensor runs `souq push`"
        return Corrupt(f"{name} is damaged: {because}, at {where}", hint=hint)

    def bring(self, names: Iterable[Digest], progress: Progress = quiet) -> int:
        """Keep here what is only there of these; how many came.

        Raises:
            NotFound: one of them is nowhere.
        """
        wanted = [name for name in dict.fromkeys(names) if name not in self.here]
        if wanted and self.there is None:
            raise NotFound(f"no tensor {wanted[0]}", hint="run `souq fetch` to get it from the remote")
        return self.there.copy(self.here, wanted, progress) if wanted and self.there is not None else 0

    def sizes(self, refs: Iterable[TensorRef]) -> tuple[int, int]:
        """How many bytes of some tensors lie here, and how many come from there; these are estimated where unknown."""
        mine = {ref.digest: ref for ref in refs}
        here = sum(self.here.size(name) for name in mine if name in self.here)
        away = {name: ref for name, ref in mine.items() if name not in self.here}
        if isinstance(self.there, Bucket):
            sizes = self.there.sizes([*away])
            return here, sum(sizes.get(name, ref.nbytes) for name, ref in away.items())
        return here, sum(
            self.there.size(name) if self.there is not None and name in self.there else ref.nbytes
            for name, ref in away.items()
        )


def passed_on(parts: Iterable[Array], use: Callable[[Array], object]) -> Iterator[Array]:
    """The parts themselves, each used on its way."""
    for part in parts:
        use(part)
        yield part
