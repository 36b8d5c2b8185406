"""What Hugging Face's own clients ask a hub: they work unmodified with HF_ENDPOINT set."""

from __future__ import annotations

from starlette.routing import BaseRoute


def routes() -> list[BaseRoute]:
    """Where each answer is."""
    return []
