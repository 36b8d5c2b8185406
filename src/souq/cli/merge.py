"""`souq merge`: whole checkpoints by a mergekit configuration, without a repository."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import click

from souq.cli.console import answer, bars, done, json_option, out
from souq.cli.sizes import bytes_of
from souq.errors import NotFound, UsageError
from souq.merge.mergekit.config import MAX_TEXT, parse_config
from souq.text import decoded


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("folder", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--shard-size", default="5GB", show_default=True, help="The most a file of weights may hold.")
@json_option
def merge(config: Path, folder: Path, shard_size: str, as_json: bool) -> None:
    """Merge the models a mergekit CONFIG names into the folder OUT."""
    from souq.merge.mergekit.files import merge_files

    if not config.is_file():
        raise NotFound(f"no file {config}", hint="name a mergekit configuration, a .yml file")
    if config.stat().st_size > 4 * MAX_TEXT:
        raise UsageError(f"{config} is larger than {4 * MAX_TEXT:,} bytes")
    text = decoded(config.read_bytes(), str(config))
    shard, configs = bytes_of(shard_size, "--shard-size"), parse_config(text)
    with bars() as progress:
        report = merge_files(configs, text, folder, progress, shard=shard, write_out=_write_out)

    def show() -> None:
        out.print(f"{report['digest']}\n{report['tensors']} tensors by {report['method']}")
        for name in report["unused"]:
            done(f"{name} is set, and {report['method']} does not use it")
        for note in report["notes"]:
            done(note)

    answer(report, as_json, show)


def _write_out(config: dict[str, Any]) -> tuple[dict[str, Any], Collection[str]]:
    """transformers' defaults, asked for only where layers change their order: it takes a while to load."""
    from souq.lab.config_defaults import write_out

    return write_out(config)
