"""What the house promises about itself: arrows point one way, heavy things stay outside, the facade is what it says."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import souq

SOURCE = Path(souq.__file__).parent
HEAVY = {"torch", "transformers", "peft", "numba", "ray", "pyarrow", "gguf", "safetensors", "model_signing"}
# Lower may not import higher. A file's floor is its own, or its folder's.
FLOORS = [
    {"errors", "progress", "lazy"},
    {"files", "text"},
    {"records", "yaml_text"},
    {"markup"},
    {"chart"},
    {"signing", "weights"},
    {"model"},
    {"evals"},
    {"governance"},
    {"merge"},
    {"repo"},
    {"build"},
    {"verify"},
    {"licences"},
    {"lab"},
    {"corpus"},
    {"checks"},
    {"pulls"},
    {"releases"},
    {"audit"},
    {"cli"},
    {"__main__"},
]
COMPILED = {"merge/kernels.py", "corpus/shingles.py"}  # imported by its users inside functions, or by files that are
FLOOR = {name: i for i, names in enumerate(FLOORS) for name in names}
# Imports inside functions of what is optional: the lab behind a GGUF, behind an eval, behind a sketch.
DEFERRED = {("sources", "lab"), ("demo", "cli")}


def modules():
    return sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def part_of(path):
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ([f"souq.{alias.name}" for alias in node.names] if node.module == "souq" else [node.module])


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_arrows_point_one_way(path):
    """No file imports from a floor above its own."""
    mine = part_of(path)
    for name in imports(path):
        if name.startswith("souq."):
            theirs = name.split(".")[1]
            assert FLOOR[theirs] <= FLOOR[mine] or (mine, theirs) in DEFERRED, f"{mine} imports {theirs}"


def test_nothing_needs_the_conformance_suite():
    """souq_conformance lies beside the package: it imports souq, and souq never imports it."""
    beside = SOURCE.parent / "souq_conformance"
    names = {name for path in beside.glob("*.py") for name in imports(path)}

    assert any(name.startswith("souq.") for name in names), "it judges with souq's own types"
    assert not {name.split(".")[0] for name in names} & HEAVY
    assert [path for path in modules() for name in imports(path) if name.startswith("souq_conformance")] == []


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_only_the_lab_imports_torch(path):
    """Outside lab/, torch and transformers are never imported, and no heavy library at a file's top."""
    if part_of(path) == "lab":
        return
    tree = ast.parse(path.read_text())
    top = {name.split(".")[0] for node in tree.body for name in imports_of(node)}
    assert str(path.relative_to(SOURCE)) in COMPILED or not top & HEAVY
    assert "torch" not in {name.split(".")[0] for name in imports(path)}


def imports_of(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []


@pytest.mark.parametrize("what", ["import souq", "import souq.verify", "import souq.cli; souq.cli.run(['--help'])"])
def test_nothing_heavy_is_loaded(what):
    """`import souq`, the verifier and `souq --help` load neither torch nor transformers nor numba."""
    code = f"{what}\nimport sys\nsys.exit(sorted(sys.modules.keys() & {HEAVY!r}) != [])"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


CORE = ("governance/policy", "governance/elect", "governance/decide", "governance/replay", "repo/history", "verify")


def lines_of_code(text):
    """Lines that hold a token of the program: no blank ones, no comments, no docstrings."""
    tree, told = ast.parse(text), set()
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            told |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    silent = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    found = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in silent
        for line in range(token.start[0], token.end[0] + 1)
    }
    return len(found - told)


def test_the_verifying_core_is_read_in_one_sitting():
    """docs/verifying.md promises under 1,000 lines."""
    sizes = {name: lines_of_code((SOURCE / f"{name}.py").read_text()) for name in CORE}
    page = (SOURCE.parent.parent / "docs" / "verifying.md").read_text()

    assert sum(sizes.values()) < 1_000, sizes
    assert all(f"| `{name}.py` |" in page for name in CORE)


def test_the_facade_is_about_twenty_names():
    """Every name of the facade is there, and no more than a person can hold."""
    assert 15 <= len(souq.__all__) <= 25
    for name in souq.__all__:
        assert getattr(souq, name).__doc__, name
    with pytest.raises(AttributeError):
        souq.nothing_of_this_name  # noqa: B018
