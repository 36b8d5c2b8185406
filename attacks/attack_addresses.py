"""Addresses that a remote, or main's souq.toml, would have its reader ask: their own machine, their cloud's keys, a shell."""

import pytest

from souq.errors import SouqError, UsageError
from souq.repo.outside import outside
from souq.weights.place import check_url

URLS = [
    "https://169.254.169.254/latest/meta-data", "https://localhost/x", "https://127.0.0.1:8443/x", "https://127.1/x",
    "https://2130706433/x", "https://0x7f.1/x", "https://0/x", "https://a.localhost/x", "https://LOCALHOST./x",
    "https://metadata.google.internal/x", "file:///etc", "memory://x", "http://x.example/a", "ftp://x/a", "ext::sh -c id",
    "s3://user:secret@bucket/a", "s3://a/../../b", "https://x.example/a?b=c", "https://x.example/a%2e%2e/b", "zip://x::s3://a",
    "--upload-pack=x", "https://[::1]/x", "https://x.example/\u202ea", "https:// x.example/",
]  # fmt: skip


@pytest.mark.parametrize("url", URLS)
def test_main_s_store_is_elsewhere(url):
    """Nothing is asked there; a person's own `git config souq.store` may still name a folder of theirs."""
    with pytest.raises(UsageError):
        check_url(url, local=False)


@pytest.mark.parametrize("url", ["--upload-pack=touch pwned", "ext::sh -c 'touch pwned'", "-oProxyCommand=touch pwned", "ssh://-oProxyCommand=touch/x"])  # fmt: skip
def test_a_clone_runs_nothing(tmp_path, monkeypatch, url):
    from souq.repo.travel import clone

    monkeypatch.chdir(tmp_path)

    with pytest.raises(SouqError):
        clone(url, tmp_path / "new")
    assert not [*tmp_path.rglob("pwned*")]


@pytest.mark.parametrize("ref", ["--upload-pack=x", "-x", "a b", "a:b", "+a", "", "a\nb", "\u202ea"])
def test_a_ref_of_a_forge_is_no_option(bazaar, ref):
    with pytest.raises(SouqError), outside(bazaar.repo("amira"), ref, 1 << 20):
        pass
