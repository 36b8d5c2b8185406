"""The peers' side of bench/near.py, run by a Python that has them: python bench/near_peers.py TOOL FOLDER THRESHOLD.

Reads FOLDER/texts.json (and exam.json, held.json's texts), prints one line of JSON: seconds, and what it found.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

NGRAM, EXAM = 5, 13


def datasketch(texts, threshold):
    """Clusters by union of what LSH returns, as its documentation has it; words by str.split after lower()."""
    import re

    from datasketch import MinHash, MinHashLSH

    begun = time.perf_counter()
    lsh, parent = MinHashLSH(threshold=threshold, num_perm=128), list(range(len(texts)))
    for i, text in enumerate(texts):
        words = re.findall(r"\w+", text.lower())
        runs = {" ".join(words[j : j + NGRAM]).encode() for j in range(max(1, len(words) - NGRAM + 1))}
        sketch = MinHash(num_perm=128)
        sketch.update_batch(runs)
        for other in lsh.query(sketch):
            _join(parent, other, i)
        lsh.insert(i, sketch)
    return time.perf_counter() - begun, [_root(parent, i) for i in range(len(texts))]


def datatrove(texts, workers=2):
    """Its four stages through its own executor, as its example has them; 32 buckets of 4 hashes."""
    from datatrove.executor.local import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers.jsonl import JsonlWriter

    config = MinhashConfig(n_grams=NGRAM, num_buckets=32, hashes_per_bucket=4)
    with tempfile.TemporaryDirectory() as name:
        at = Path(name)
        (at / "in").mkdir()
        halves = [list(range(k, len(texts), workers)) for k in range(workers)]
        for k, half in enumerate(halves):
            (at / "in" / f"{k}.jsonl").write_text("".join(json.dumps({"id": str(i), "text": texts[i]}) + "\n" for i in half))  # fmt: skip
        reader = JsonlReader(str(at / "in"))
        begun = time.perf_counter()
        logs = {"logging_dir": str(at / "logs"), "skip_completed": False}
        for n, (steps, tasks) in enumerate(
            (
                ([reader, MinhashDedupSignature(str(at / "sig"), config=config)], workers),
                ([MinhashDedupBuckets(str(at / "sig"), str(at / "buckets"), config=config)], 32),
                ([MinhashDedupCluster(str(at / "buckets"), str(at / "remove"), config=config, save_cluster_id=True)], 1),
                ([reader, MinhashDedupFilter(str(at / "remove"), load_cluster_ids=True), JsonlWriter(str(at / "out"), compression=None)], workers),
            )
        ):  # fmt: skip
            LocalPipelineExecutor(pipeline=steps, tasks=tasks, workers=workers, **{**logs, "logging_dir": str(at / f"logs{n}")}).run()  # fmt: skip
        took = time.perf_counter() - begun
        kept = {int(json.loads(line)["id"]) for path in (at / "out").glob("*.jsonl") for line in path.open()}
    return took, [i if i in kept else -1 for i in range(len(texts))]


def decontaminate(texts, exam):
    """Its filter on an index of the exam's runs of 13 words; built through its own hashing, since its indexer wants lighteval."""
    from types import SimpleNamespace

    import numpy as np
    from datatrove.data import Document
    from datatrove.pipeline.decont import NGramsDecontConfig, NGramsDecontFilter, NGramsDecontIndexer
    from datatrove.utils.hashing import create_hash_func
    from datatrove.utils.word_tokenizers import load_word_tokenizer

    config = NGramsDecontConfig(n_grams=EXAM)
    indexer = SimpleNamespace(config=config, tokenizer=load_word_tokenizer("en"), hash_func=create_hash_func(config.hash_config))  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        hashes = {h for case in exam for h in NGramsDecontIndexer.compute_hashes(indexer, case)}
        np.array(list(hashes), dtype=config.hash_config.np_descr).tofile(os.path.join(name, "exam.index.hashes"))
        judge = NGramsDecontFilter(name, config=config)
        begun = time.perf_counter()
        found = [judge.filter(Document(text=text, id=str(i))) for i, text in enumerate(texts)]
        return time.perf_counter() - begun, [told is not True for told in found]


def _root(parent, i):
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


def _join(parent, a, b):
    a, b = _root(parent, a), _root(parent, b)
    parent[max(a, b)] = min(a, b)


if __name__ == "__main__":
    tool, folder, threshold = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    texts = json.loads((folder / "texts.json").read_text())
    if tool == "datasketch":
        took, found = datasketch(texts, threshold)
    elif tool == "datatrove":
        took, found = datatrove(texts)
    else:
        took, found = decontaminate(json.loads((folder / "held.json").read_text()), json.loads((folder / "exam.json").read_text()))  # fmt: skip
    sys.stdout.write("\n" + json.dumps({"seconds": took, "found": found}) + "\n")
