"""A run folder as a model of the lm-evaluation-harness.

The harness gives texts and takes natural log-probabilities; on what these are conditioned stands in
`scoring.continuations`.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, islice
from typing import Any, NamedTuple

import lm_eval.models  # noqa: F401  # the harness registers its own models only where none is registered
import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import warning_once

import charlm
from charlm.config import SamplingConfig, change_section
from charlm.errors import InputError
from charlm.sampling import write_after
from charlm.scoring.continuations import Continuation, encode_context, score_continuations
from charlm.text.vocabulary import Ids

_BATCH_TEXTS = 64  # written side by side

_logger = logging.getLogger(__name__)


@register_model("charlm")
class CharlmLM(LM):
    """A trained character model, as the harness asks for it.

    Args:
        pretrained: the run folder, by the name that the harness has for it.
        run: the run folder; one of the two is given.
        device: `auto`, `cpu`, `cuda` or `mps`.
        threads: CPU threads; None leaves torch's choice.
        batch_size: nothing: texts of like length are laid side by side, as many as fit.
        max_batch_size: nothing, see there.

    Raises:
        InputError: no run folder is given, or two are.
        RunError: the folder is missing, incomplete, damaged or of another format.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        *,
        run: str | None = None,
        device: str = "auto",
        threads: int | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        if (pretrained is None) == (run is None):
            raise InputError("name one run folder: --model_args pretrained=RUN, or run=RUN")
        if device == "cuda:0":  # what the harness's command line says where nobody has said anything
            device = "auto"
        folder = str(pretrained if run is None else run)  # the harness makes a number of a folder called 7
        self.language_model = charlm.load(folder, device=device, threads=threads)

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Returns the log-likelihood of each continuation in nats, and whether the model would write just that.

        The arguments of a request are its context and its continuation.
        """
        return [(found.logprob, found.is_greedy) for found in self._score(request.args for request in requests)]

    def loglikelihood_rolling(self, requests: Sequence[Instance]) -> list[float]:
        """Returns the log-likelihood of each text in nats, from its beginning; it is the one argument."""
        return [found.logprob for found in self._score(("", *request.args) for request in requests)]

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """Returns what the model writes after each context, up to the first of the stops, which is left out.

        The arguments of a request are its context and its settings: `until`, `max_gen_toks` (characters; 256),
        `do_sample`, `temperature`, `top_k`, `top_p` and `min_p` are followed, others named in the log. In lines
        framing a text also ends with its line. The seed comes from Python's `random`, which the harness seeds.
        """
        seed = random.getrandbits(64)
        asked = [self._asked(k, *request.args) for k, request in enumerate(requests)]
        asked.sort(key=lambda each: (repr(each.rule), len(each.prompt)))
        written: dict[int, str] = {}
        for rule, alike in groupby(asked, key=lambda each: each.rule):
            while batch := list(islice(alike, _BATCH_TEXTS)):
                written |= self._write(batch, rule, seed)
        return [written[k] for k in range(len(requests))]

    def _score(self, pairs: Iterable[tuple[str, str]]) -> list[Continuation]:
        return score_continuations(self.language_model.mixture, self.language_model.vocabulary, pairs)

    def _asked(self, k: int, context: str, settings: Mapping[str, Any]) -> _Asked:
        vocabulary = self.language_model.vocabulary
        normalized = normalize_gen_kwargs(dict(settings))
        stops = [stop for stop in map(vocabulary.normalize, normalized.pop("until")) if stop]
        prompt = np.append(np.array([vocabulary.boundary_id], np.int32), encode_context(vocabulary, context))
        return _Asked(k, prompt, stops, _sampling(normalized))

    def _write(self, batch: Sequence[_Asked], rule: SamplingConfig, seed: int) -> dict[int, str]:
        """Writes texts side by side, by the same rule."""
        mixture, vocabulary = self.language_model.mixture, self.language_model.vocabulary
        prompts, samples = [each.prompt for each in batch], [each.k for each in batch]
        texts = dict.fromkeys(samples, "")
        going = {each.k: each.stops for each in batch}
        for pieces in write_after(mixture, vocabulary, prompts, samples, rule, seed=seed):
            for k, piece in zip(samples, pieces, strict=True):
                if not piece or k not in going:
                    continue
                texts[k] += piece
                if places := [place for stop in going[k] if (place := texts[k].find(stop)) >= 0]:
                    texts[k] = texts[k][: min(places)]
                    del going[k]
            if not going:
                break
        return texts


class _Asked(NamedTuple):
    """A text to be written: its number, the ids it goes on from, what ends it, and how characters are drawn."""

    k: int
    prompt: Ids
    stops: list[str]
    rule: SamplingConfig


def _sampling(settings: dict[str, Any]) -> SamplingConfig:
    """Turns the harness's settings into the rule by which characters are drawn."""
    length, do_sample = settings.pop("max_gen_toks"), settings.pop("do_sample")
    temperature = settings.pop("temperature", 1.0)
    given = {"temperature": temperature if do_sample else 0.0}
    given |= {name: value for name in ("top_k", "top_p", "min_p") if (value := settings.pop(name, None))}  # 0: off
    if settings:
        warning_once(_logger, f"charlm draws characters without {', '.join(sorted(settings))}")
    return change_section(SamplingConfig(), given).model_copy(update={"length": length})
