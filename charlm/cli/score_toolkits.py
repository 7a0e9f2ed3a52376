"""The formats of other toolkits: what KenLM's `query` and SRILM's `ngram` print, and Kaldi's archives of costs.

For KenLM and SRILM a character is a word.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from charlm.cli.score_formats import Printer

KALDI_KEY = "key"  # the column that names an utterance

if TYPE_CHECKING:
    from charlm.cli.score_formats import Alternatives
    from charlm.scoring.measures import Score
    from charlm.scoring.summary import Summary
    from charlm.text.columns import Record


class KenlmPrinter(Printer):
    """The output of KenLM's `query`: `character=id length log10` for each character, then the totals.

    The id is the symbol's in the vocabulary, 0 for an unknown character; at byte level it is the code point.
    """

    def print_sentence(self, score: Score, rank: int | None, alternatives: Alternatives, record: Record) -> None:
        """Prints one line."""
        text = "".join(char.char for char in score.chars[: score.characters])
        byte_level = self.vocabulary.level == "byte"
        ids = list(map(ord, text)) if byte_level else self.vocabulary.encode_sentence(text).tolist()
        ids.append(self.vocabulary.boundary_id)
        for length, (char, symbol) in enumerate(zip(score.chars, ids, strict=False), self.history_length + 1):
            print(f"{token(char.char)}={symbol} {length} {_log10(char.logprob):.8g}", end="\t")
        print(f"Total: {_log10(score.logprob):.8g} OOV: {score.unknown}")

    def print_summary(self, summary: Summary) -> None:
        """Prints the perplexities and counts of all sentences."""
        including, excluding = (
            1.0 if math.isnan(perplexity) else perplexity  # without any token: that of the empty product
            for perplexity in (summary.perplexity, summary.perplexity_excluding_unknown)
        )
        print(f"Perplexity including OOVs:\t{including:.10g}\nPerplexity excluding OOVs:\t{excluding:.10g}")
        print(f"OOVs:\t{summary.unknown}\nTokens:\t{summary.n}")


class SrilmPrinter(Printer):
    """The output of SRILM's `ngram -ppl FILE -debug 2`; as there, sums leave out unknown characters."""

    def print_sentence(self, score: Score, rank: int | None, alternatives: Alternatives, record: Record) -> None:
        """Prints the sentence, a line for each character, and the statistics of the sentence."""
        from charlm.scoring.summary import Summary

        print(*(token(char.char) for char in score.chars[: score.characters]))
        history = "<s> " if self.conditions.bos else " "
        if self.context:
            history = f"{token(self.context[-1])} ..."
        for order, char in enumerate(score.chars, self.history_length + 1):
            word = "<unk>" if char.unknown else token(char.char)
            log10 = _log10(char.logprob)
            value = "[OOV] 0 [ -inf ]" if char.unknown else f"[{order}gram] {10**log10:.7g} [ {log10:.7g} ]"
            print(f"\tp( {word} | {history}) \t= {value}")
            history = f"{word} ..."
        statistics = Summary()
        statistics.add(score)
        _print_srilm_statistics(statistics)
        print()

    def print_summary(self, summary: Summary) -> None:
        """Prints the statistics of all sentences."""
        print(f"file {self.source or '-'}: ", end="")
        _print_srilm_statistics(summary)


class KaldiPrinter(Printer):
    """Kaldi's archive of costs as text: `KEY cost` for each line `KEY words`, as lmrescore and nbest tools take it.

    A cost is the negative natural logarithm of the probability, the end of the sentence included.
    """

    def print_sentence(self, score: Score, rank: int | None, alternatives: Alternatives, record: Record) -> None:
        """Prints one line."""
        print(f"{record.others[KALDI_KEY]} {0.0 - score.logprob:.8g}")


def token(char: str) -> str:
    """Returns a character as a word that KenLM's and SRILM's readers accept: without white space, never empty."""
    if char == " ":
        return "<space>"
    return char if len(char) > 1 or char.isprintable() else f"<U+{ord(char):04X}>"


def _print_srilm_statistics(summary: Summary) -> None:
    """Prints SRILM's two lines; it counts as sentences those whose end is scored, and characters as words."""
    ends, words, unknown = summary.ends, summary.characters, summary.unknown
    print(f"{ends} sentences, {words} words, {unknown} OOVs")
    if words + ends:
        logprob = _log10(summary.logprob - summary.unknown_logprob)
        ppl, ppl1 = (
            f"{10 ** (-logprob / n):.7g}" if n else "undefined" for n in (words - unknown + ends, words - unknown)
        )
        print(f"0 zeroprobs, logprob= {logprob:.7g} ppl= {ppl} ppl1= {ppl1}")


def _log10(nats: float) -> float:
    return nats / math.log(10)
