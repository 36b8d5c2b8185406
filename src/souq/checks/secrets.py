"""What must not be published, and what a tokenizer would read as a command: keys, people's numbers, control tokens.

Private keys and access tokens (detect-secrets' patterns of known shapes, never its guesses by entropy) are refused;
e-mail addresses, telephone, card and account numbers are counted for people to look at. A control token of this model
inside a text forges a turn of conversation, so it is refused too. No verdict repeats what it found.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from souq.checks.cases import Answer, Case, check
from souq.records import Outcome
from souq.repo.rows import conversation
from souq.repo.snapshot import base_files
from souq.text import visible

SHOWN = 20
SPEAKING = ("chat_template.jinja", "tokenizer_config.json", "special_tokens_map.json")
ROLES = ("system", "user", "assistant", "tool", "developer")
INSTALL = 'pip install "souq[checks]"'
# Of detect-secrets: what has a shape of its own. Left out: entropy, keywords and addresses, which real text is full of.
SHAPES = (
    "artifactory.ArtifactoryDetector", "aws.AWSKeyDetector", "azure_storage_key.AzureStorageKeyDetector",
    "basic_auth.BasicAuthDetector", "discord.DiscordBotTokenDetector", "github_token.GitHubTokenDetector",
    "gitlab_token.GitLabTokenDetector", "jwt.JwtTokenDetector", "mailchimp.MailchimpDetector", "npm.NpmDetector",
    "openai.OpenAIDetector", "private_key.PrivateKeyDetector", "pypi_token.PypiTokenDetector",
    "sendgrid.SendGridDetector", "slack.SlackDetector", "square_oauth.SquareOAuthDetector", "stripe.StripeDetector",
    "telegram_token.TelegramBotTokenDetector", "twilio.TwilioKeyDetector",
)  # fmt: skip
# How other models mark turns: no command to this one, but data that was meant to be.
MARKERS = re.compile(
    r"<\|(?:im_start|im_end|im_sep|system|user|assistant|end|eot_id|eom_id|begin_of_text|end_of_text|endoftext|"
    r"start_header_id|end_header_id|channel|message|start|return|tool_call)\|>|</?(?:start|end)_of_turn>|\[/?INST\]|"
    r"<</?SYS>>|\[/?(?:AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|SYSTEM_PROMPT)\]|"
    r"<[｜|](?:User|Assistant|begin▁of▁sentence|end▁of▁sentence)[｜|]>"
)
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@((?:[a-z0-9-]{1,63}\.)+[a-z]{2,24})\b", re.IGNORECASE)
_RESERVED = re.compile(r"(?:^|\.)(?:example(?:\.(?:com|net|org))?|test|invalid|localhost)$", re.IGNORECASE)  # RFC 2606
_CARD = re.compile(r"(?<![\w.-])(?:4|5[1-5]|2[2-7]|3[47]|6(?:011|5))(?:[ -]?\d){11,17}(?![\w.-])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b")


@dataclass(frozen=True)
class Match:
    """Something in a line of a file: what it is, never what it says."""

    kind: str
    path: str
    line: int
    outcome: Outcome

    @property
    def shown(self) -> dict[str, Any]:
        return {"kind": self.kind, "path": self.path, "line": self.line}


@check("secrets")
def secrets(case: Case) -> Answer:
    """Nothing it would publish is a key or somebody's number, and no text holds a control token of this model."""
    control = control_tokens(base_files(case.main))
    matches = [match for path, data in sorted(case.offer.files.items()) for match in _in_file(path, data, control)]
    counts = dict(sorted(Counter(match.kind for match in matches).items()))
    shown = [match.shown for match in matches[:SHOWN]]
    evidence: dict[str, Any] = {"found": counts, "where": shown} if matches else {}
    if refused := [match for match in matches if match.outcome == "refuse"]:
        first, places = refused[0], [match.shown for match in refused[:SHOWN]]
        return "refuse", f"{first.path}, line {first.line}: {first.kind}", evidence | {"where": places}
    if matches:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
        return "needs-eyes", f"{kinds}: somebody must say whether they may be published", evidence
    if missing := [name for name in ("detect_secrets", "phonenumbers", "stdnum") if not _installed(name)]:
        return "needs-eyes", f"keys and numbers were not all looked for: {INSTALL}", {"missing": missing}
    return "pass", "no key, nobody's number, no control token", {}


# Unicode's tag letters, which models read and people do not see, but after the flag that they name a land for.
_UNSEEN = re.compile("(?<!\U0001f3f4)(?<![\U000e0020-\U000e007f])[\U000e0000-\U000e007f]")


def _in_file(path: str, data: bytes, control: dict[str, Outcome]) -> Iterator[Match]:
    if not path.endswith((".jsonl", ".toml", ".md")):
        return
    # Lines end as JSON's do: split as text, a line separator inside a string would tear a row apart, unread.
    for number, line in enumerate((piece.decode("utf-8", "replace") for piece in data.splitlines()), 1):
        texts = list(_texts(line)) if path.endswith(".jsonl") else [line]
        yield from (Match(kind, path, number, "refuse") for text in texts for kind in dict.fromkeys(keys(text)))
        if path.endswith(".jsonl"):
            yield from (Match(kind, path, number, "needs-eyes") for text in texts for kind in personal(text))
            yield from (
                Match("text that nobody sees", path, number, "needs-eyes") for _ in filter(_UNSEEN.search, texts)
            )
            yield from (Match(kind, path, number, how) for kind, how in _steering(line, texts, control))


def _texts(line: str) -> Iterator[str]:
    """Every string of a JSON line, keys included; of a line that is none, the line."""
    try:
        yield from _strings(json.loads(line))
    except (ValueError, RecursionError):  # the check `files` says what is wrong with it
        yield line


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    inside = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inside:
        yield from _strings(item)


# -- keys and tokens ---------------------------------------------------------------------------------------------------


def keys(text: str) -> Iterator[str]:
    """The kinds of private keys and access tokens in a text."""
    seen = visible(text) if not text.isascii() else text
    for name, find in _finders():
        if any(True for _ in find(seen)):
            yield name


@cache
def _finders() -> tuple[tuple[str, Callable[[str], Iterator[str]]], ...]:
    if not _installed("detect_secrets"):
        return (("Private Key", _private_key),)
    finders = []
    for shape in SHAPES:
        module, _, name = shape.partition(".")
        plugin = getattr(import_module(f"detect_secrets.plugins.{module}"), name)()
        finders.append((str(plugin.secret_type), plugin.analyze_string))
    return tuple(finders)


def _private_key(text: str) -> Iterator[str]:
    return iter(re.findall(r"-----BEGIN [A-Z ]*PRIVATE KEY", text))


# -- people ------------------------------------------------------------------------------------------------------------


def personal(text: str) -> Iterator[str]:
    """The kinds of personal data in a text, each as often as it stands there; addresses for examples are nobody's."""
    yield from ("e-mail address" for match in _EMAIL.finditer(text) if not _RESERVED.search(match[1]))
    if not any(map(str.isdigit, text)):
        return
    if _installed("stdnum"):
        from stdnum import iban, luhn

        cards = [re.sub(r"\D", "", match[0]) for match in _CARD.finditer(text)]
        yield from ("card number" for number in cards if len(number) <= 19 and luhn.is_valid(number))
        yield from ("bank account number" for match in _IBAN.finditer(text) if iban.is_valid(match[0]))
    if _installed("phonenumbers") and "+" in text:  # without a country's prefix, any number might be one
        from phonenumbers import PhoneNumberMatcher

        yield from ("telephone number" for _ in PhoneNumberMatcher(text, None))


# -- control tokens ----------------------------------------------------------------------------------------------------


def control_tokens(files: dict[str, bytes]) -> dict[str, Outcome]:
    """What this model's tokenizer reads as commands, wherever it stands in a text.

    Those its chat template speaks with, and the ends of texts, forge a turn; the others (`<filename>`) may be meant.
    """
    tokenizer = json.loads(files.get("tokenizer.json", b"{}"))
    special = [str(added["content"]) for added in tokenizer.get("added_tokens", []) if added.get("special")]
    speaking = b"".join(files.get(name, b"") for name in SPEAKING).decode("utf-8", "replace")
    return {token: "refuse" if token in speaking else "needs-eyes" for token in special if token}


def _steering(line: str, texts: list[str], control: dict[str, Outcome]) -> Iterator[tuple[str, Outcome]]:
    """Forged turns: this model's control tokens, roles that are none, and how other models mark turns."""
    held = {how for text in texts for token, how in control.items() if token in text}
    drawn = {how for text in texts if not text.isascii() for token, how in control.items() if token in _bare(text)}
    if held or drawn:
        worst: Outcome = "refuse" if "refuse" in held | drawn else "needs-eyes"
        yield f"a control token of this model {'in a text' if held else 'in disguise'}", worst
    elif any(MARKERS.search(text) for text in texts):
        yield "another model's mark of a turn", "needs-eyes"
    if any(role not in ROLES for role in _roles(line)):
        yield f"a role that is none of {', '.join(ROLES)}", "refuse"


def _bare(text: str) -> str:
    return unicodedata.normalize("NFKC", visible(text))


def _roles(line: str) -> list[Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return []
    return [turn.get("role", "") for turn in conversation(row)] if isinstance(row, dict) else []


@cache
def _installed(name: str) -> bool:
    return find_spec(name) is not None
