"""What do longer n-grams, and n-grams of more text, bring to a mixture? One trained network, many n-gram models.

For each order and each length of text the n-grams are counted anew, their powers fitted, and the whole mixture
measured on the validation split of the run's own corpus; beside it the n-grams alone.

    charlm train --corpus tiny_shakespeare.txt --budget 100s --out RUN
    python benchmarks/ngram_orders.py RUN [--orders 7,9,12] [--counted 12000000]
"""

from __future__ import annotations

import argparse
import json
import time

import torch

import charlm
from charlm.scoring.evaluation import evaluate, evaluate_baseline, ngram_model
from charlm.scoring.mixture import fit_mixture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a run with model.ngram")
    parser.add_argument("--orders", default="6,7,8,9,10,12")
    parser.add_argument("--counted", default="12000000", help="symbols at the end of the training split")
    options = parser.parse_args()
    lm = charlm.load(options.run)
    if lm.model.ngram_powers is None:
        parser.error(f"{options.run}: has no n-grams to be replaced")
    model, vocabulary, corpus = lm.model, lm.vocabulary, lm.corpus()
    for counted in map(int, options.counted.split(",")):
        for order in map(int, options.orders.split(",")):
            start = time.perf_counter()
            ngram = ngram_model(vocabulary, corpus.train, order, most=counted)
            seconds = time.perf_counter() - start
            model.ngram_powers = torch.ones(order, 2)
            model.attach(ngram)
            fit_mixture(model, vocabulary, corpus.validation.ids)
            row = {
                "counted": min(counted, len(corpus.train.ids)),
                "order": order,
                "alone": round(evaluate_baseline(ngram, vocabulary, corpus.validation), 4),
                "mixed": round(evaluate(model, vocabulary, corpus.validation).nats_per_character, 4),
                "seconds": round(seconds, 1),
                "megabytes": round(sum(array.nbytes for array in ngram.arrays().values()) / 1e6),
            }
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
