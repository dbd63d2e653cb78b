"""`python -m training`: fetch the corpus, learn the tokenizer, write the token streams."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from circuitd.store.tokenizer import Tokenizer
from training import corpus, prepare, tokenizer

SAMPLE_CHARS = 40_000_000


def main() -> None:
    """Run the three steps that come before `python -m training.train`."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="scratch folder, about 1 GB")
    parser.add_argument("--data", type=Path, default=Path("data"), help="artefact root")
    parser.add_argument("--snippet-tokens", type=int, default=12_000_000)
    parser.add_argument("--drill-share", type=float, default=0.67, help="of the snippets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--new-tokenizer", action="store_true", help="learn the merges again")
    options = parser.parse_args()
    corpus.fetch(options.work / "wheels")
    folder = options.data / "tinypython"
    if options.new_tokenizer or not (folder / "vocab.bpe").exists():
        tokenizer.write(folder, tokenizer.learn_merges(_sample(options.work / "wheels")))
    prepare.write_streams(
        options.work,
        Tokenizer.load(folder),
        n_snippet_tokens=options.snippet_tokens,
        drill_share=options.drill_share,
        seed=options.seed,
    )


def _sample(wheels: Path) -> list[str]:
    """Training documents, in order of a hash, until they hold `SAMPLE_CHARS` characters."""
    documents = [d for d in corpus.documents(wheels) if not d.held_out]
    documents.sort(key=lambda d: hashlib.sha256(d.path.encode()).digest())
    texts: list[str] = []
    n_chars = 0
    for document in documents:
        texts.append(document.text)
        n_chars += len(document.text)
        if n_chars > SAMPLE_CHARS:
            break
    return texts


if __name__ == "__main__":
    main()
