"""Whether a git repository holds all that its refs lead to, read as a stranger's: nothing it says of itself is heard.

Whole(git_dir, None).lost()
"""

from __future__ import annotations

from souq.repo.git import GitRepo, last_line


class Whole(GitRepo):
    """A repository that is looked through."""

    def lost(self) -> str:
        """What is missing of all that the refs lead to, as git says it; "" where everything is there."""
        heads = "".join(f"{oid}\n" for oid in sorted({*self.refs("refs").values()})).encode()
        done = self._git("rev-list", "--objects", "--quiet", "--stdin", stdin=heads, check=False)
        return last_line(done.stderr) if done.returncode else ""
