"""How much does a mixture gain from longer n-grams, and from n-grams counted on more text?

Takes the network of a trained run. For each order and each amount of text it counts the n-grams anew, fits the
powers of the mixture, and measures on the validation split of the run's own corpus: the n-grams alone, and beside
them the mixture.

    charlm train --corpus tiny_shakespeare.txt --budget 100s --out RUN
    python dev/ngram_orders.py RUN [--orders 7,9,12] [--counted 12000000]
"""

from __future__ import annotations

import argparse
import json
import time

import charlm
from charlm.experts.mixture import Mixture
from charlm.experts.ngram import NgramModel
from charlm.experts.powers import fit_powers
from charlm.scoring.evaluation import evaluate
from charlm.scoring.log_probs import cut_sequences


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a run folder")
    parser.add_argument("--orders", default="6,7,8,9,10,12", help="orders of the n-grams, separated by commas")
    parser.add_argument(
        "--counted", default="12000000", help="how many symbols at the end of the training split to count"
    )
    options = parser.parse_args()
    lm = charlm.load(options.run)
    vocabulary, corpus = lm.vocabulary, lm.corpus()
    held_out = cut_sequences(vocabulary, corpus.validation.ids)
    for counted in map(int, options.counted.split(",")):
        sequences = cut_sequences(vocabulary, corpus.train.ids[-counted:])
        for order in map(int, options.orders.split(",")):
            start = time.perf_counter()
            ngram = NgramModel(sequences, len(vocabulary), vocabulary.boundary_id, order)
            seconds = time.perf_counter() - start
            nats = -sum(float(log_probs.sum()) for log_probs in ngram.sequence_log_probs(held_out))
            mixture = Mixture(lm.mixture.network, [ngram])
            fit_powers(mixture, vocabulary, corpus.validation.ids)
            row = {
                "counted": min(counted, len(corpus.train.ids)),
                "order": order,
                "alone": round(nats / corpus.validation.characters, 4),
                "mixed": round(evaluate(mixture, vocabulary, corpus.validation).nats_per_character, 4),
                "seconds": round(seconds, 1),
                "megabytes": round(sum(array.nbytes for array in ngram.arrays().values()) / 1e6),
            }
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
