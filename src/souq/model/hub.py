"""What huggingface_hub downloads, pinned by its commit, and compared with the hashes that the hub lists.

It asks the hub of HF_ENDPOINT with the token of HF_TOKEN, as every client of Hugging Face's does. Clients compare sizes
alone; here every file is hashed.

    pinned = download("org/smol", "main", ["*.safetensors", "config.json"])
    pinned.folder, pinned.origin
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from souq.errors import Corrupt, Missing, NotFound
from souq.model.origin import COMMIT, Origin, without_secrets
from souq.records import spelled_out


@dataclass(frozen=True)
class Pinned:
    """A revision of a repository, here; and what its owner is to be told."""

    folder: Path
    origin: Origin
    notes: tuple[str, ...] = ()


def download(name: str, revision: str | None, wanted: Sequence[str]) -> Pinned:
    """The files of a repository that are wanted, in the hub's own cache; what moves is resolved once.

    Raises:
        Missing: huggingface_hub is not installed.
        NotFound: no such repository or revision, or no way to it.
        Corrupt: a file is not the one that the hub lists.
    """
    try:
        from huggingface_hub import constants, snapshot_download
    except ImportError as error:
        raise Missing("huggingface_hub is not installed", hint='run `pip install "souq[lab]"`') from error
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(wanted)))
    except Exception as error:
        hint = "check the id, the revision and your connection; HF_ENDPOINT names the hub, HF_TOKEN who asks"
        raise NotFound(f"cannot get {name} from the hub: {_line(error)}", hint=hint) from error
    commit = folder.name if COMMIT.fullmatch(folder.name) else ""
    origin = Origin(name, commit, without_secrets(constants.ENDPOINT))
    notes = [f"{revision or 'main'} of {name} is {commit} now, and that is the base: pinned"]
    if revision == commit or not commit:
        notes = [] if commit else [f"the hub names no commit of {name}: the base is not pinned"]
    return Pinned(folder, origin, (*notes, *_compared(origin)))


def _compared(origin: Origin) -> list[str]:
    """Compare what is here with what the hub lists; who is offline is told that nobody did."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    again = f"`hf download {origin.repo} --revision {origin.commit or 'main'} --force-download`, then this again"
    try:
        if constants.HF_HUB_OFFLINE:
            return [f"the files of {origin.repo} were not compared with the hub's hashes: HF_HUB_OFFLINE is set"]
        verified = HfApi().verify_repo_checksums(origin.repo, revision=origin.commit or None)
    except (HfHubHTTPError, OSError, ValueError) as error:
        return [f"the files of {origin.repo} were not compared with the hub's hashes: {_line(error)}"]
    if damaged := sorted(mismatch["path"] for mismatch in verified.mismatches):
        names = ", ".join(map(spelled_out, damaged[:5])) + (f" and {len(damaged) - 5} more" if damaged[5:] else "")
        raise Corrupt(f"not the files that the hub lists for {origin.repo}: {names}", hint=again)
    return []


def _line(error: Exception) -> str:
    return spelled_out(" ".join(str(error).split()))[:400]
