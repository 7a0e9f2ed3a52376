"""Counts the n-grams of a run and writes them as an ARPA file, which KenLM and other toolkits read.

    python benchmarks/arpa.py RUN OUT.arpa [--order 6]

They are counted from the training split of the run, which must be one of lines. Tokens are characters, and `|`
stands for the space.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import charlm
from charlm.experts.ngram import NgramModel
from charlm.scoring.log_probs import cut_sequences
from charlm.text.vocabulary import Vocabulary


def count(lm: charlm.LanguageModel, order: int) -> NgramModel:
    """Counts the n-grams of the text that a model of lines was trained on."""
    lines = cut_sequences(lm.vocabulary, lm.corpus().train.ids)
    return NgramModel(lines, len(lm.vocabulary), lm.vocabulary.boundary_id, order)


def write_arpa(model: NgramModel, vocabulary: Vocabulary, path: Path, *, space: str = "|") -> None:
    """Writes n-grams of characters: `<s>` is the boundary that begins one, `</s>` the boundary that ends one.

    ARPA has backoff, these are interpolated (Kneser-Ney): what was counted is written with its whole probability,
    and a context with what it leaves to the shorter one, so that both say the same.

    Args:
        model: counted from lines that each begin and end with the boundary.
        vocabulary: the model's.
        path: of the file.
        space: the token that stands for a space.
    """
    V, boundary = len(vocabulary), vocabulary.boundary_id
    names = [space if symbol == " " else symbol for symbol in vocabulary.symbols]
    tables, order = model.tables, len(model.tables)
    found = [table.probabilities for table in tables]
    grams = [np.arange(V)[:, None]]  # of each order, (N, n)
    p = [found[0].alpha.astype(np.float64) + float(found[0].gamma[0]) / V]
    for n in range(2, order + 1):
        contexts = tables[n - 1].keys >> 32
        gram = np.column_stack([grams[-1][contexts], tables[n - 1].symbols])
        shorter = gram[:, 1]  # the place of the n-gram without its first symbol, found symbol by symbol
        for k in range(2, n):
            shorter = tables[k - 1].find(shorter, gram[:, k])
        p.append(found[n - 1].alpha + found[n - 1].gamma.astype(np.float64)[contexts] * p[-1][shorter])
        grams.append(gram)
    with path.open("w", encoding="utf-8") as file:
        file.write("\\data\\\n")
        file.writelines(f"ngram {n}={len(gram) + (n == 1)}\n" for n, gram in enumerate(grams, 1))
        for n, gram in enumerate(grams, 1):
            file.write(f"\n\\{n}-grams:\n")
            left = found[n].gamma if n < order else np.ones(len(gram))
            columns = zip(gram.tolist(), np.log10(p[n - 1]).tolist(), np.log10(left).tolist(), strict=True)
            for symbols, log_p, backoff in columns:
                tokens = [names[symbol] for symbol in symbols]
                if symbols[0] == boundary and n > 1:
                    tokens[0] = "<s>"
                if symbols[-1] == boundary:
                    tokens[-1] = "</s>"
                file.write(f"{log_p:.6f}\t{' '.join(tokens)}" + (f"\t{backoff:.6f}\n" if n < order else "\n"))
                if n == 1 and symbols[0] == boundary:
                    file.write(f"-99\t<s>\t{backoff:.6f}\n")
        file.write("\n\\end\\\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("out", type=Path, metavar="OUT.arpa")
    parser.add_argument("--order", type=int, default=6)
    arguments = parser.parse_args()
    lm = charlm.load(arguments.run)
    write_arpa(count(lm, arguments.order), lm.vocabulary, arguments.out)


if __name__ == "__main__":
    main()
