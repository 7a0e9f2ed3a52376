"""What a corpus has already, and samples that it does not have.

With novelty asked for, samples 0, 1, 2 … are written as always, and those that the corpus has are passed over: the
n-th text that is left depends only on the seed and n, and each keeps its number.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

from charlm.config import SamplingConfig
from charlm.errors import CharlmError
from charlm.experts.mixture import Mixture
from charlm.sampling import Sample, normalize_stop, write_texts
from charlm.system.counts import count_of
from charlm.text.corpus import Corpus, Split
from charlm.text.plain import read_parts
from charlm.text.vocabulary import Vocabulary

_MOST_REFUSED = 1000  # in a row; then hardly anything new is to be expected
_MAX_BATCH = 64


class KnownTexts(Container[str]):
    """The texts of a corpus: its lines in lines framing, and all that stands in it in a row in a stream.

    Args:
        vocabulary: of the corpus; what is looked for is normalised as its text was.
        splits: its parts.
    """

    def __init__(self, vocabulary: Vocabulary, splits: Iterable[Split]) -> None:
        self._vocabulary = vocabulary
        texts = (read_parts(vocabulary, split, len(split.ids)) for split in splits)
        self._lines, self._streams = set[str](), list[str]()
        if vocabulary.framing == "lines":
            for text in texts:
                self._lines.update(text.split("\n"))
        else:
            self._streams.extend(texts)

    @classmethod
    def of(cls, corpus: Corpus) -> KnownTexts:
        """Returns the texts of a whole corpus, what is held out included."""
        return cls(corpus.vocabulary, [corpus.train, corpus.validation, corpus.test])

    def __contains__(self, text: object) -> bool:
        """Says whether the corpus has a text; an empty one is never new."""
        wanted = self._vocabulary.normalize(str(text))
        return not wanted or wanted in self._lines or any(wanted in stream for stream in self._streams)


def write_new_texts(
    mixture: Mixture,
    vocabulary: Vocabulary,
    count: int,
    rule: SamplingConfig,
    known: Container[str],
    *,
    prompt: str = "",
    seed: int = 0,
    stop: str | None = None,
    only_new: bool = False,
    most_refused: int = _MOST_REFUSED,
) -> Iterator[Sample]:
    """Yields the first `count` samples that are not known; see the module, and `write_texts`.

    A sample is known if its whole text is, or what is left of it with `only_new`.

    Args:
        mixture: see `write_texts`.
        vocabulary: see `write_texts`.
        count: how many.
        rule: see `write_texts`.
        known: texts that are not to be written.
        prompt: see `write_texts`.
        seed: see `write_texts`.
        stop: see `write_texts`.
        only_new: see `write_texts`.
        most_refused: gives up when so many samples in a row are known.

    Raises:
        CharlmError: it has given up.
    """
    ending = normalize_stop(vocabulary, stop)
    first = found = in_a_row = 0
    while found < count:
        size = min(_MAX_BATCH, count - found + in_a_row)
        texts = write_texts(
            mixture, vocabulary, size, rule, first=first, prompt=prompt, seed=seed, stop=stop, only_new=only_new
        )
        for text in texts:
            whole = prompt + text + (ending if text.ended == "stop" else "") if only_new else text
            if text not in known and whole not in known:
                found, in_a_row = found + 1, 0
                yield text
                if found == count:
                    return
                continue
            in_a_row += 1
            if in_a_row == most_refused:
                raise CharlmError(
                    f"the last {count_of(in_a_row, 'sample')} all occur in the corpus, after "
                    f"{count_of(found, 'new one')}; raise the temperature or write longer texts"
                )
        first += size
