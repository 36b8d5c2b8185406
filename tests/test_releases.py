"""A release leaves the bazaar as a folder: what it proves to somebody with nothing else, and that no byte of it can lie."""

from __future__ import annotations

import base64
import json
import os
import random
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from souq import signing
from souq.build.delta_file import read_delta
from souq.errors import Corrupt, Forged, UsageError
from souq.governance import read_policy
from souq.model.gguf.reader import GGUF
from souq.pulls import pull as pulls
from souq.records import Release, canonical, digest
from souq.releases import export, openssf
from souq.releases.card import Edition, card
from souq.releases.credits import Step, changelog, credits, step
from souq.releases.provenance import bom, facts_of, provenance
from souq.releases.verify import BOM, STATEMENT, judge
from souq.repo.snapshot import Snapshot
from souq.signing import Envelope
from souq.text import escape_markdown
from souq.weights.safetensors import open_tensors
from tests.bazaar import copied
from tests.tiny import write_model

ROOT = Path(__file__).parent.parent
PAPERS = {
    "README.md",
    "NOTICE",
    "CREDITS.md",
    "CHANGELOG.md",
    "GOVERNANCE.toml",
    "release.json",
    "model.lock",
    BOM,
    STATEMENT,
}


def publish(bazaar, version, who="amira"):
    """A release on main, with scores."""
    assert bazaar(who, "fetch") == 0
    bazaar.release(who, version, scores=True)


@pytest.fixture(scope="module")
def town(built_bazaar, tmp_path_factory):
    """Greetings, release 1.0; counting, release 1.1; and 1.0 exported by Bruno from a clean clone on another path."""
    bazaar = copied(built_bazaar, tmp_path_factory.mktemp("released") / "town")
    bazaar.land(bazaar.offer("mallory", bazaar.delta("greet")))
    publish(bazaar, "1.0")
    data = ("--data", bazaar.folder / "count.jsonl")
    bazaar.land(bazaar.offer("adil", bazaar.delta("count"), "Counting", fixes="count", more=data))
    publish(bazaar, "1.1")
    elsewhere = bazaar.folder / "elsewhere"
    elsewhere.mkdir()
    assert bazaar("bruno", ["clone", bazaar.folder / "hub.git", "clone"], at=elsewhere) == 0
    assert bazaar("bruno", ["release", "export", "1.0", elsewhere / "out"], at=elsewhere / "clone") == 0
    return bazaar


@pytest.fixture
def out(town, tmp_path):
    """A copy of the exported folder, to be broken."""
    return shutil.copytree(town.folder / "elsewhere" / "out", tmp_path / "out")


def files_below(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def wrong(folder, **pinned):
    return {finding.file for finding in judge(folder, **pinned).findings}


def statement(folder):
    return json.loads(base64.b64decode(json.loads((folder / STATEMENT).read_bytes())["payload"]))


# -- the folder, and a stranger who has only that ----------------------------------------------------------------------


def test_a_stranger_needs_nothing_but_the_folder(out, tmp_path):
    """No git, no torch, no repository, no home: ssh-keygen and souq say yes, and what they cannot say."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "ssh-keygen").symlink_to(shutil.which("ssh-keygen"))
    code = "import sys; sys.modules.update(torch=None, transformers=None, model_signing=None)\nfrom souq.cli import run; sys.exit(run(['release', 'verify', '.']))"
    env = {"PATH": str(tools), "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}

    found = subprocess.run([sys.executable, "-c", code], cwd=out, env=env, capture_output=True, text=True, check=False)

    assert found.returncode == 0, found.stdout + found.stderr
    told = found.stdout.splitlines()
    assert told[0].startswith("release 1.0: b3:")
    assert told[-1] == "verified"
    assert any("signed by amira of Atlas, who stands in GOVERNANCE.toml" in line for line in told)
    assert any("those that bruno of Borealis signed, and no other is there" in line for line in told)
    assert any(line.startswith("  not proven: that GOVERNANCE.toml is the one you trust: compare b3:") for line in told)
    assert any("not proven: that main's history was judged" in line for line in told)


def test_it_is_that_release_and_not_today_s_main(town, out):
    """Counting is on main, and not in 1.0; the folder loads as a model."""
    names = files_below(out)
    votes = {name for name in names if name.startswith("records/vote-")}
    assert len(votes) == 2, "who agreed travels with what they agreed to"
    assert {name for name in names if not name.startswith("records/")} == PAPERS | {"model.safetensors", "config.json", "chat_template.jinja", "tokenizer.json", "tokenizer_config.json"}  # fmt: skip
    assert digest((out / "model.lock").read_bytes()) == export.read(town.main(), "1.0").release.model
    for name in ("README.md", "CREDITS.md", "CHANGELOG.md"):
        assert "Greetings" in (out / name).read_text()
        assert "Counting" not in (out / name).read_text()


def test_no_byte_of_any_file_can_lie(out):
    """One flipped byte, wherever it is: exit 3, and the file is named."""
    chance = random.Random(4)
    assert wrong(out) == set()
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        places = [0, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(6))]
        for place in places:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << chance.randrange(8))]) + whole[place + 1 :])
            assert path.relative_to(out).as_posix() in wrong(out), (path.name, place)
        path.write_bytes(whole)
    assert wrong(out) == set()


def test_every_byte_of_the_provenance_is_one_of_one_spelling(out):
    """The list of files is in no list: no bit of it can be another and still be read, whatever base64 forgives."""
    path = out / STATEMENT
    whole = path.read_bytes()
    start = whole.index(b'"sig":"')
    places = {*range(40), *range(start, len(whole)), *range(len(whole) - 60, len(whole))}
    for place in random.Random(7).sample(sorted(places), 60):
        flipped = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        path.write_bytes(flipped)
        assert STATEMENT in wrong(out), place


@pytest.mark.parametrize("name", ["modeling_smol.py", "model-00001-of-00002.safetensors", "deep/inside.bin"])
def test_what_does_not_belong_there_is_named(out, name):
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_bytes(b"x")

    assert wrong(out) == {name}


def test_what_is_no_file_is_named_and_not_opened(out):
    """A pipe would make a reader wait for ever, a link to a folder hide what is in it."""
    os.mkfifo(out / "pipe")
    (out / "folder").symlink_to(out.parent)
    (out / "nowhere").symlink_to(out / "no-such-file")
    (out / "whole.json").symlink_to(out / "config.json")

    assert wrong(out) == {"pipe", "folder", "nowhere", "whole.json"}


@pytest.mark.parametrize("name", sorted(PAPERS | {"config.json", "model.safetensors"}))
def test_what_is_missing_is_named(out, name):
    (out / name).unlink()

    assert name in wrong(out)


def test_what_clients_leave_there_is_not_held_against_it(out):
    """Hub clients write .gitattributes and .cache; that they were not looked at is said."""
    (out / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    (out / ".cache" / "huggingface").mkdir(parents=True)
    (out / ".cache" / "huggingface" / "x.lock").write_text("")

    found = judge(out)

    assert not found.findings
    assert any(".gitattributes, .cache" in line for line in found.unproven)


def test_the_policy_can_be_pinned(town, out, tmp_path):
    """By either digest or by a file; another one is a finding, and a digest nobody understands is not a yes."""
    policy = out / "GOVERNANCE.toml"
    other = tmp_path / "other.toml"
    other.write_text(policy.read_text() + "\n")

    for pinned in (str(policy), judge(out).governance, f"sha256:{export.sha256(policy)}"):
        found = judge(out, governance=pinned)
        assert not found.findings
        assert any(line.startswith("GOVERNANCE.toml is the one you gave") for line in found.proven)
    assert wrong(out, governance=str(other)) == {"GOVERNANCE.toml"}
    with pytest.raises(UsageError):
        judge(out, governance="b3:12")


def test_another_policy_is_another_world(town, out, tmp_path):
    """Mallory writes her own policy, release and papers: all consistent, and the pinned digest says no."""
    from souq.governance import solo

    mallory = town.person("mallory")
    old = export.read(town.main(), "1.0")
    files = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    pinned = judge(out).governance
    (out / "GOVERNANCE.toml").write_text(solo("mallory", "Nowhere", mallory.public_key))
    said = signing.statement("urn:souq:release:1", "releases/1.0", old.release.model, msgspec.to_builtins(old.release))
    (out / "release.json").write_bytes(canonical(signing.sign(said, mallory.key, namespace="souq.release.v1")))
    main = Snapshot(town.repo("mallory"), old.release.commit)
    facts = facts_of(main, old.release, credits(main), (out / "config.json").read_bytes())
    hashes = {name: export.sha256(path) for name, path in files.items() if name not in (STATEMENT, BOM)}
    (out / BOM).write_bytes(bom(facts, hashes))
    hashes[BOM] = export.sha256(out / BOM)
    sealed = signing.sign(provenance(facts, hashes), mallory.key, namespace="souq.provenance.v1")
    (out / STATEMENT).write_bytes(canonical(sealed))

    assert wrong(out) == set()
    assert wrong(out, governance=pinned) == {"GOVERNANCE.toml"}


def test_a_provenance_signed_by_nobody_here(town, out):
    """Mallory's signature under the very same words counts for nothing."""
    payload = base64.b64decode(msgspec.json.decode((out / STATEMENT).read_bytes(), type=Envelope).payload)
    sealed = signing.sign(payload, town.person("mallory").key, namespace="souq.provenance.v1")
    (out / STATEMENT).write_bytes(canonical(sealed))

    assert wrong(out) == {STATEMENT}


def test_a_signature_for_something_else(town, out):
    """Bruno's own signature, made for a vote, is none on a provenance."""
    payload = base64.b64decode(msgspec.json.decode((out / STATEMENT).read_bytes(), type=Envelope).payload)
    (out / STATEMENT).write_bytes(canonical(signing.sign(payload, town.person("bruno").key, namespace="souq.vote.v1")))

    assert wrong(out) == {STATEMENT}


def test_papers_signed_with_a_key_that_had_run_out(town, out):
    """Bruno's key ends before the release was made: his papers count for nothing, hers who released it still does."""
    policy = out / "GOVERNANCE.toml"
    policy.write_text(policy.read_text().replace('name = "bruno"\n', 'name = "bruno"\nvalid_until = "2020-01-01"\n', 1))

    found = judge(out)

    assert "not signed by anybody who is known here" in {f.because for f in found.findings if f.file == STATEMENT}
    assert any(line.startswith("release.json is signed by amira") for line in found.proven)


# -- exporting ---------------------------------------------------------------------------------------------------------


def test_two_exporters_write_the_same_bytes(town, out, tmp_path):
    """Chen, in another clone on another day, writes every file as Bruno did, and the same words under her signature."""
    assert town("chen", ["fetch"]) == 0
    assert town("chen", ["release", "export", "1.0", tmp_path / "hers"]) == 0

    for name in files_below(out):
        same = (out / name).read_bytes() == (tmp_path / "hers" / name).read_bytes()
        assert same == (name != STATEMENT), name
    assert statement(out) == statement(tmp_path / "hers")


def test_a_stranger_cannot_sign_papers(town, tmp_path):
    """Mallory's key is in no policy: nothing is written."""
    assert town("mallory", "fetch") == 0
    assert town("mallory", ["release", "export", "1.0", tmp_path / "out"]) == 3
    assert not (tmp_path / "out").exists()


def test_a_release_that_its_recipe_does_not_make(town, tmp_path):
    """Somebody who may release signs another model: the export builds it, sees it, and writes nothing."""
    repo, main, amira = town.repo("amira"), town.main(), town.person("amira")
    lie = msgspec.structs.replace(export.read(main, "1.1").release, version="6.6", model=main.base_digest)
    said = signing.statement("urn:souq:release:1", "releases/6.6", lie.model, msgspec.to_builtins(lie))
    record = canonical(signing.sign(said, amira.key, namespace="souq.release.v1"))
    commit = repo.write_commit([main.commit], {"releases/6.6/release.json": record}, "x\n", tree_of=main.commit)
    signed = export.read(Snapshot(repo, commit), "6.6")

    with pytest.raises(Corrupt, match="builds to"):
        export._write(Snapshot(repo, commit), signed, tmp_path / "out", amira)
    assert export.rebuilt(repo, signed) != lie.model


def test_a_release_signed_by_somebody_who_may_not(town):
    """Mallory writes a release of main into her own history."""
    repo, main, mallory = town.repo("mallory"), town.main("mallory"), town.person("mallory")
    mine = msgspec.structs.replace(export.read(main, "1.1").release, version="9.9")
    said = signing.statement("urn:souq:release:1", "releases/9.9", mine.model, msgspec.to_builtins(mine))
    record = canonical(signing.sign(said, mallory.key, namespace="souq.release.v1"))
    commit = repo.write_commit([main.commit], {"releases/9.9/release.json": record}, "x\n", tree_of=main.commit)

    with pytest.raises(Forged):
        export.read(Snapshot(repo, commit), "9.9")


def test_a_version_in_a_clone_is_built_again(town):
    town.capfd = None
    assert town("adil", "fetch") == 0
    assert town("adil", "release verify 1.0") == 0
    assert town("adil", "release verify 1.0 --governance x") == 2


def test_json_says_what_the_words_say(out, capfd):
    from souq.cli import run

    (out / "config.json").write_bytes(b"{}")
    capfd.readouterr()

    assert run(["release", "verify", str(out), "--json"]) == 3
    told = json.loads(capfd.readouterr().out)
    assert {finding["file"] for finding in told["findings"]} == {"config.json"}
    assert told["version"] == "1.0"


# -- the papers --------------------------------------------------------------------------------------------------------


def test_the_provenance_is_slsa(town, out):
    """An in-toto statement over every file, with what SLSA v1 asks for, and inputs by digest."""
    told, release = statement(out), export.read(town.main(), "1.0").release
    made, run = told["predicate"]["buildDefinition"], told["predicate"]["runDetails"]

    assert (told["_type"], told["predicateType"]) == (
        "https://in-toto.io/Statement/v1",
        "https://slsa.dev/provenance/v1",
    )
    listed = {subject["name"]: subject["digest"]["sha256"] for subject in told["subject"]}
    assert listed == {name: export.sha256(out / name) for name in files_below(out) - {STATEMENT}}
    lock = next(subject for subject in told["subject"] if subject["name"] == "model.lock")
    assert "b3:" + lock["digest"]["blake3"] == release.model
    assert canonical(made["externalParameters"]) == canonical({"version": "1.0", "recipe": release.recipe})
    inputs = {entry["digest"].get("blake3") for entry in made["resolvedDependencies"]}
    assert {name.removeprefix("b3:") for name in (release.recipe.base, *release.recipe.contributions)} <= inputs
    assert all(re.match(r"[a-z]+:", entry["uri"]) for entry in made["resolvedDependencies"])
    assert re.match(r"[a-z]+:", made["buildType"])
    assert re.match(r"[a-z]+:", run["builder"]["id"])
    assert json.loads(base64.b64decode(run["byproducts"][0]["content"])) == release.scores


def test_the_bill_of_materials_is_cyclonedx(town, tmp_path):
    """Valid by CycloneDX's own schema, strictly; with the base, each contribution and its rows."""
    validation = pytest.importorskip("cyclonedx.validation.json", reason="cyclonedx-python-lib is not installed")
    from cyclonedx.schema import SchemaVersion

    assert town("chen", "fetch") == 0
    assert town("chen", ["release", "export", "1.1", tmp_path / "out"]) == 0
    text = (tmp_path / "out" / BOM).read_text()

    assert validation.JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    told = json.loads(text)
    kinds = {entry["bom-ref"]: entry["type"] for entry in told["components"]}
    assert kinds["base"] == "machine-learning-model"
    assert [ref for ref, kind in kinds.items() if kind == "data"] == ["0004-counting/data/count.jsonl"]
    assert told["metadata"]["component"]["modelCard"]["modelParameters"]["datasets"] == [
        {"ref": "0004-counting/data/count.jsonl"}
    ]
    change = next(entry for entry in told["components"] if entry["bom-ref"] == "0002-greetings")
    assert change["authors"] == [{"name": "mallory", "email": "mallory@nowhere.example"}]
    assert change["licenses"] == [{"expression": "Apache-2.0"}]
    gain = change["modelCard"]["quantitativeAnalysis"]["performanceMetrics"][0]
    assert float(gain["value"]) > 0.5


def test_an_odd_licence_and_odd_scores_are_cyclonedx_too(town):
    validation = pytest.importorskip("cyclonedx.validation.json", reason="cyclonedx-python-lib is not installed")
    from cyclonedx.schema import SchemaVersion

    signed = export.read(town.main(), "1.1")
    facts = facts_of(Snapshot(town.repo("amira"), signed.release.commit), signed.release, (), b"{}")
    bare = Release(version="1", commit="0" * 40, recipe=signed.release.recipe, model=signed.release.model)
    facts = replace(facts, licence="LicenseRef-Ours AND (MIT OR Apache-2.0)", release=bare, origin="")

    text = bom(facts, {"model.safetensors": "0" * 64}).decode()

    assert validation.JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_the_card_is_one_the_hub_can_read(town, out):
    """Its head is YAML of known words; scores, what changed since, and commands that exist."""
    import yaml
    from huggingface_hub import ModelCard

    _, head, body = (out / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(head) == {
        "license": "apache-2.0", "library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["souq"],
    }  # fmt: skip
    assert ModelCard((out / "README.md").read_text()).data.license == "apache-2.0"
    assert "souq release verify ." in body
    assert f"souq verify --root {town.main().repo.history(town.main().commit)[0]}" in body
    signed = export.read(town.main(), "1.1")
    texts = export.texts(town.main(), signed, credits(Snapshot(town.repo("amira"), signed.release.commit)))
    rows = re.findall(
        r"^\| (\w+)(?:, in nats a token: less is better)? \| ([\d.]+) \| ([\d.]+) \| ([+-][\d.]+) \|$",
        texts["README.md"].decode(),
        re.M,
    )
    assert [row[0] for row in rows] == ["count", "greet", "guard"]
    for _, old, new, change in rows:
        assert float(new) - float(old) == pytest.approx(float(change), abs=2e-3)


def test_the_hub_is_told_a_licence_it_does_not_know_and_a_base_it_does(town):
    import yaml

    main = town.main()
    main.config = msgspec.structs.replace(
        main.config, licence="LicenseRef-Our Own: x", origin="hub HuggingFaceTB/SmolLM2-135M"
    )

    head = yaml.safe_load(card(main, main.base_digest, main.recipe(), Edition("1", {})).split("---\n")[1])

    assert (head["license"], head["license_name"]) == ("other", "licenseref-our-own-x")
    assert head["base_model"] == "HuggingFaceTB/SmolLM2-135M"


# -- credits -----------------------------------------------------------------------------------------------------------


def test_credits_are_what_was_signed(town):
    """Who brought what, by how much: the gain in the signed check, and shares that make a whole."""
    greet, count = [credit for credit in credits(town.main()) if credit.contribution.kind == "weights"]

    assert (greet.author.name, greet.org, greet.title) == ("mallory", "", "Greetings")
    assert (count.author.org, count.org, count.whose) == ("", "Atlas", "adil (Atlas)")
    assert greet.fixes[0].eval == "greet"
    assert greet.fixes[0].gain > 0.5
    assert greet.fixes[0].by == "amira"
    assert greet.share + count.share == pytest.approx(1.0)
    assert min(greet.share, count.share) > 0.05


def test_the_share_is_the_length_of_the_change(town):
    """As expanded, tensor by tensor."""
    lengths = {}
    for skill in ("greet", "count"):
        delta, tensors = read_delta(town.delta(skill))
        changes = [p.scale * tensors[p.b.digest].astype("f8") @ tensors[p.a.digest] for p in delta.parts.values()]
        lengths[skill] = sum(float((change**2).sum()) for change in changes)

    greet, _ = [credit.share for credit in credits(town.main()) if credit.contribution.kind == "weights"]

    assert greet == pytest.approx(lengths["greet"] / sum(lengths.values()), rel=1e-6)


def test_of_several_checkers_the_least_is_believed_and_a_stranger_not_at_all(built_bazaar, tmp_path):
    """Chen measures less than Amira, Mallory claims the moon; the figure is Chen's."""
    bazaar = copied(built_bazaar, tmp_path / "town")
    number = bazaar.offer("mallory", bazaar.delta("greet"))
    assert bazaar("amira", f"pr checks {number}") == 0
    repo, main = bazaar.repo("amira"), bazaar.main()
    pull = pulls.get(repo, number)
    (checked,) = (one.checked for one in pulls.read_checked(pull, read_policy(main.policy_text)))
    for who, gain in (("chen", 0.25), ("mallory", 0.01)):
        verdicts = [msgspec.to_builtins(verdict) for verdict in checked.verdicts]
        next(v for v in verdicts if v["check"] == "evals")["evidence"]["greet"]["gain"] = gain
        said = {**msgspec.to_builtins(checked), "by": who, "verdicts": verdicts}
        pulls.publish_record(pulls.get(bazaar.repo(who), number), "checked", pulls.signed_record("checked", pull.offer.slug, pull.offer.digest, said, bazaar.person(who)))  # fmt: skip
    for who in ("amira", "bruno"):
        assert bazaar(who, f"pr review {number} --approve --reason fine") == 0
    assert bazaar("bruno", f"pr merge {number}") == 0

    credit = credits(bazaar.main())[-1]

    assert [(fix.eval, fix.gain, fix.by) for fix in credit.fixes] == [("greet", 0.25, "chen")]


def test_the_changelog_says_what_came_and_what_went(town):
    """Between 1.0 and 1.1 counting came; in a main without greetings, greetings went."""
    main = town.main()
    signed = export.read(main, "1.1")
    text = export.texts(main, signed, credits(Snapshot(town.repo("amira"), signed.release.commit)))[
        "CHANGELOG.md"
    ].decode()
    new, _, old = text.partition("## 1.0")
    assert "Since 1.0." in new
    assert "Counting (adil (Atlas), Apache-2.0): `count`" in new
    assert "Greetings" not in new
    assert "The first release." in old
    assert "Greetings (mallory, Apache-2.0): `greet`" in old

    slug = next(slug for slug in main.offers if slug.endswith("greetings"))
    gone = {f"contributions/{slug}/{path}": None for path in main.repo.files(main.commit, f"contributions/{slug}")}
    without = Snapshot(main.repo, main.repo.write_commit([main.commit], gone, "x\n", tree_of=main.commit))
    found = step("2.0", credits(without), ("1.1", Snapshot(main.repo, export.read(main, "1.1").release.commit)))

    assert [contribution.title for contribution in found.gone] == ["Greetings"]
    assert "### Taken out\n\n- Greetings, by mallory" in changelog("smol", [found])
    assert "No contribution came or went." in changelog("smol", [Step("2", "1", (), ())])


@given(st.text(max_size=60))
def test_a_title_is_a_title(text):
    """A stranger's words make no table cell, no link, no line and no heading of their own."""
    shown = escape_markdown(text)
    assert not re.search(r"(?<!\\)(?:\\\\)*[|\[\]<>`*#]", shown)
    assert "\n" not in shown
    assert re.sub(r"\\(.)", r"\1", shown) == " ".join(text.split())


# -- OpenSSF model signing ---------------------------------------------------------------------------------------------

needs_signing = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import model_signing.signing"], capture_output=True).returncode != 0,
    reason='model_signing is not installed: `pip install "souq[sign]"`',
)


def ecdsa_key(folder, *words):
    key = folder / "id_ecdsa"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", key, *words], check=True)
    return key


def model_signing(*words):
    command = [sys.executable, "-m", "model_signing", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def as_the_hub_keeps(folder, cache):
    """A folder as huggingface_hub keeps one, links into blobs; and which blob each file is."""
    blobs = {}
    for path in filter(Path.is_file, folder.rglob("*")):
        name = str(path.relative_to(folder))
        blobs[name] = cache / "blobs" / str(len(blobs))
        link = cache / "snapshots" / "main" / name
        for place in (blobs[name], link):
            place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, blobs[name])
        link.symlink_to(os.path.relpath(blobs[name], link.parent))
    return cache / "snapshots" / "main", blobs


@pytest.mark.long
@needs_signing
def test_model_signing_itself_verifies_what_souq_signed(town, tmp_path):
    """One ECDSA ssh key: `model_signing verify key` says yes, and no after a flipped byte; so does souq."""
    key, out = ecdsa_key(tmp_path), tmp_path / "out"
    assert town("chen", "fetch") == 0
    assert town("chen", ["release", "export", "1.1", out, "--sign", key]) == 0
    pem = tmp_path / "key.pem"
    pem.write_bytes(subprocess.run(["ssh-keygen", "-e", "-m", "PKCS8", "-f", f"{key}.pub"], capture_output=True, check=True).stdout)  # fmt: skip
    check = ("verify", "key", out, "--signature", out / "model.sig", "--public_key", pem)

    assert model_signing(*check).returncode == 0
    assert wrong(out, public_keys=[pem]) == set()
    assert wrong(out) == {"model.sig"}  # nobody in GOVERNANCE.toml has that key
    kept, blobs = as_the_hub_keeps(out, tmp_path / "models--smol")
    assert wrong(kept, public_keys=[pem]) == set()
    for blob in (blobs["config.json"], blobs["model.safetensors"]):
        blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    assert wrong(kept, public_keys=[pem]) >= {"config.json", "model.safetensors", "model.sig"}

    for name in ("model.safetensors", "README.md"):
        whole = (out / name).read_bytes()
        (out / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert model_signing(*check).returncode != 0
        assert wrong(out, public_keys=[pem]) >= {name, "model.sig"}
        (out / name).write_bytes(whole)
    assert wrong(out, public_keys=[pem]) == set()

    whole, chance = (out / "model.sig").read_bytes(), random.Random(3)
    for place in [0, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(40))]:
        (out / "model.sig").write_bytes(
            whole[:place] + bytes([whole[place] ^ (1 << chance.randrange(8))]) + whole[place + 1 :]
        )
        assert wrong(out, public_keys=[pem]) == {"model.sig"}, place


@needs_signing
def test_keys_that_openssf_does_not_take(town, tmp_path):
    """ed25519 is refused before anything is built, and no folder is left; so is a passphrase nobody was asked for."""
    assert town("chen", "fetch") == 0
    assert town("chen", ["release", "export", "1.0", tmp_path / "out", "--sign", town.actors["chen"].key]) == 2
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="passphrase"):
        openssf.public_of(ecdsa_key(tmp_path, "-N", "secret"))


@needs_signing
@pytest.mark.parametrize("form", ["RFC4716", "PKCS8", "PEM"])
def test_an_ssh_key_in_any_of_its_forms(tmp_path, form):
    """As ssh-keygen -m writes it, with a passphrase or without; the public half is the one ssh-keygen exports."""
    key = ecdsa_key(tmp_path)
    told = subprocess.run(["ssh-keygen", "-e", "-m", "PKCS8", "-f", f"{key}.pub"], capture_output=True, check=True)
    for secret in ("", "secret"):
        words = ["ssh-keygen", "-p", "-q", "-P", "", "-N", secret, "-m", form, "-f", key]
        subprocess.run(words, check=True)
        assert openssf.public_of(key, secret) == told.stdout
    assert openssf.public_pem(Path(f"{key}.pub").read_text()) == told.stdout


# -- the docs ----------------------------------------------------------------------------------------------------------


@pytest.mark.long
@needs_signing
def test_the_commands_in_the_docs(tmp_path):
    """docs/releases.md, word for word, in a shell: one ECDSA key votes, releases and signs for OpenSSF."""
    home = tmp_path
    (home / ".ssh").mkdir()
    ecdsa_key(home / ".ssh")
    (home / ".gitconfig").write_text("[user]\nname = You\nemail = you@example.org\n")
    write_model(home / "tiny")
    begin = (
        "export SOUQ_KEY=~/.ssh/id_ecdsa\nsouq init seed --from tiny --governance solo --no-suite\ncd seed\n"
        "souq push ../hub.git\nsouq release create 1.0 --no-scores"
    )
    shell(home, begin)
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "releases.md").read_text(), re.S)
    assert len(blocks) == 6

    told = [shell(home, f"export SOUQ_KEY=~/.ssh/id_ecdsa\n{block}") for block in blocks]

    assert "verified" in told[0]
    assert told[1].count("\nverified\n") == 2
    assert "model.sig (OpenSSF) is a signature on the whole folder by You of" in told[1]
    assert told[2].count('Good "souq.') == 2
    assert "model.safetensors: OK" in told[2]
    assert "succeeded" in told[4]
    assert told[5].count("succeeded") == 2


def shell(home, script):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "SOUQ_"))}
    env = kept | {"HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    words = ["bash", "-euo", "pipefail", "-c", script]
    found = subprocess.run(words, cwd=home, env=env, capture_output=True, text=True, check=False)
    assert found.returncode == 0, f"{script}\n{found.stdout}\n{found.stderr}"
    return found.stdout + found.stderr


def test_a_release_with_a_file_for_llama_cpp(town, tmp_path):
    """The file holds the release's own numbers, and the papers speak of it: a byte of it changed is found."""
    assert town("chen", ["release", "export", "1.0", tmp_path / "out", "--gguf", "bf16"]) == 0
    (file,) = (tmp_path / "out").glob("*.gguf")
    model, weights = GGUF(file), open_tensors(tmp_path / "out" / "model.safetensors")

    assert file.name.endswith("-1-0.bf16.gguf") or file.name.endswith("-1.0.bf16.gguf")
    assert {name: model[name].tobytes() for name in model} == {name: weights[name].tobytes() for name in weights}
    assert judge(tmp_path / "out").findings == []
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert {finding.file for finding in judge(tmp_path / "out").findings} == {file.name}
