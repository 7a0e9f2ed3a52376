"""Which change lowers the loss of a network, and of its mixture, after as many characters as the recipe reads?

As `ideas.py`, but at the lengths and sizes that a budget of 30, 100 or 300 seconds buys on two cores, with the
recipe's dropout, and for several seeds. Each run gives the loss of the network alone, at the one power (inverse
temperature) that suits it best, and that of the mixture with the n-grams that the recipe mixes in.

    python dev/at_length.py FOLDER --scale "shakespeare 100s" --only "nothing;lr 1.5" [--seeds 1,2] [--results FILE]

FOLDER is the same as for recipe_sweep.py; python.txt in it, the joined modules of Python's library, is for one
scale alone. Each run appends a line to the results file.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ideas import LockedDropout, OpenNetwork
from recipe_sweep import held_out
from torch import Tensor

from charlm.config import Config, TrainingConfig, load_config, parse_amount
from charlm.config.recipe import dropout, learning_rate, output_rank
from charlm.experts.mixture import Mixture
from charlm.experts.ngram import NgramModel
from charlm.experts.powers import _sample_lines, _sample_pieces, find_powers, fit_powers
from charlm.experts.torch_network import SharedNetworkExpert, TorchNetworkExpert
from charlm.model.network import CharacterModel, NetworkState, drop, plan_layers
from charlm.model.transfer import initialize_output_bias
from charlm.scoring.evaluation import evaluate
from charlm.scoring.log_probs import cut_sequences
from charlm.text.batches import IGNORE, Window
from charlm.text.corpus import Corpus, load_corpus
from charlm.training.gradient import Gradient, GradientComputer
from charlm.training.loss import cross_entropy
from charlm.training.step import StepResult, TrainingStep, make_batches

CPU = torch.device("cpu")
B, T, H, LR = "training.batch_size", "training.sequence_length", "model.hidden_size", "training.learning_rate"
DROPOUT, WEIGHTS = "model.dropout", "model.recurrent_dropout"
# text, millions of characters, hidden size, lines
SCALES: dict[str, tuple[str, float, int, int]] = {
    "shakespeare 30s": ("shakespeare", 1.7, 256, 16),
    "shakespeare 100s": ("shakespeare", 4.0, 384, 16),
    "shakespeare 300s": ("shakespeare", 8.0, 512, 16),
    "names 30s": ("names", 2.3, 256, 128),
    "tang 100s": ("tang", 1.9, 256, 64),
    "python 100s": ("python", 4.0, 384, 16),
    "half of shakespeare": ("half", 2.0, 272, 16),  # a small copy of 100 s: the same passes and weights a character
    "quarter of shakespeare": ("quarter", 1.0, 192, 16),
    "python, read in part": ("python", 1.0, 192, 16),  # 0.37 passes, as 100 s are of all 12 million characters
    "half of shakespeare, 8 passes": ("half", 4.0, 336, 16),  # of 300 s
}


@dataclass(frozen=True)
class Idea:
    settings: Mapping[str, Any] = field(default_factory=dict)
    network: type[CharacterModel] = CharacterModel
    step: Callable[[CharacterModel, TrainingConfig, Corpus], TrainingStep] | None = None
    phases: tuple[tuple[float, int, int], ...] = ()  # until which fraction, B, T
    factor: Callable[[float], float] | None = None  # of the learning rate, by the fraction


class WithPlaces:
    """Batches whose windows also say where each target stands in the text; IGNORE elsewhere."""

    def __init__(self, corpus: Corpus, config: TrainingConfig) -> None:
        self.batches = make_batches(corpus, config)
        self.places = make_batches(corpus, config)
        self.places._ids = np.arange(len(corpus.train.ids), dtype=np.int32)  # type: ignore[attr-defined]

    def epoch(self, number: int) -> Iterator[tuple[Window, Any]]:
        for window, places in zip(self.batches.epoch(number), self.places.epoch(number), strict=True):
            yield window, places.targets


class OwnStep(TrainingStep):
    """A step that is told the places of its targets."""

    places: Any = None


# ------------------------------------------------------------------------------------------ noise on the input


class Noise(OwnStep):
    """Replaces symbols of the input by others, drawn by how many different symbols they follow."""

    def __init__(self, network: Any, config: Any, corpus: Corpus, *, gamma: float, length: int | None) -> None:
        super().__init__(network, config)
        ids, V = corpus.train.ids, len(corpus.vocabulary)
        model = NgramModel(
            cut_sequences(corpus.vocabulary, ids, corpus.train.parts),
            V,
            corpus.vocabulary.boundary_id,
            (length or 1) + 1,
        )
        self.q = np.cumsum(model.tables[0].counts / model.tables[0].counts.sum())
        self.rng = np.random.default_rng(config.seed)
        self.after = np.full(len(ids) + 1, gamma, np.float32)  # [i]: of the input that stands before target i
        if length:
            state = model.initial_state(1)
            readings = []
            for a in range(0, len(ids), 1 << 16):
                reading, state = model.advance(ids[a : a + (1 << 16), None], state)
                readings.append(reading[:, 0, length - 1])
            rank = np.concatenate(readings)  # of the `length` symbols that end at i
            table = model.tables[length]
            children = np.diff(table.first)
            total = np.add.reduceat(
                table.counts.astype(np.int64), np.minimum(table.first[:-1], len(table.counts) - 1)
            )
            share = np.where(rank >= 0, (children / np.maximum(total, 1))[rank], 0).clip(0, 1)
            self.after[1:] = gamma * share
            print("mean noise", float(self.after.mean()), flush=True)

    def __call__(self, window: Window, fraction: float) -> StepResult:
        p = self.after[np.maximum(self.places, 0)]
        hit = self.rng.random(p.shape, np.float32) < p
        inputs = window.inputs.copy()
        inputs[hit] = np.searchsorted(self.q, self.rng.random(int(hit.sum())))
        return super().__call__(Window(inputs, window.targets, window.carry), fraction)


# ----------------------------------------------------------------------------------- regularisation of activity


class Penalised(GradientComputer):
    """Adds α |s|² and β |s_t - s_{t-1}|² to the loss (Merity et al. 2018), mean over places, sum over units / H."""

    alpha = beta = 0.0

    def _of_rows(self, x: Tensor, y: Tensor, state: NetworkState, symbols: int, seed: int) -> Gradient:
        network, output = self._network, self._network.output
        features, last = network.features(x, state, torch.Generator(x.device).manual_seed(seed))
        s = features.detach()
        loss = cross_entropy(
            s.flatten(0, 1), output.weight, output.bias, y.flatten(), scale=1 / symbols, dtype=network.plan.dtype
        )
        d = loss.features.view(features.shape)
        if self.alpha:
            d = d + (2 * self.alpha / s.numel()) * s
        if self.beta:
            jump = (2 * self.beta / s.numel()) * (s[1:] - s[:-1])
            d = d.clone()
            d[1:] += jump
            d[:-1] -= jump
        earlier = torch.autograd.grad(features, self._before_output, d)
        return Gradient(
            loss.total, (*earlier, loss.weight, loss.bias), [tuple(e.detach() for e in layer) for layer in last]
        )


def penalised(network: Any, config: Any, corpus: Corpus, *, alpha: float, beta: float) -> TrainingStep:
    step = TrainingStep(network, config)
    step._gradient = Penalised(network)
    step._gradient.alpha, step._gradient.beta = alpha, beta
    return step


class Ahead(GradientComputer):
    """Also predicts the symbols after the next one, by output matrices of their own, which are then thrown away."""

    weight = 0.0

    def __init__(self, network: CharacterModel, heads: int) -> None:
        super().__init__(network)
        V, R = network.output.weight.shape
        bias = network.output.bias.detach()
        self.heads = [torch.nn.Parameter(torch.zeros(V, R)) for _ in range(heads)]
        self.biases = [torch.nn.Parameter(bias.clone()) for _ in range(heads)]
        self.optimizer = torch.optim.AdamW([*self.heads, *self.biases], lr=1e-3, betas=(0.9, 0.99), fused=True)

    def _of_rows(self, x: Tensor, y: Tensor, state: NetworkState, symbols: int, seed: int) -> Gradient:
        network, output = self._network, self._network.output
        features, last = network.features(x, state, torch.Generator(x.device).manual_seed(seed))
        s, dtype = features.detach(), network.plan.dtype
        flat = s.flatten(0, 1)
        loss = cross_entropy(flat, output.weight, output.bias, y.flatten(), scale=1 / symbols, dtype=dtype)
        d = loss.features.view(features.shape)
        if self.weight:
            for k, (w, b) in enumerate(zip(self.heads, self.biases, strict=True), 1):
                later = torch.full_like(y, IGNORE)
                later[:-k] = y[k:]
                scale = self.weight / symbols
                own = cross_entropy(flat, w.detach(), b.detach(), later.flatten(), scale=scale, dtype=dtype)
                w.grad, b.grad = own.weight, own.bias
                d = d + own.features.view(features.shape)
            self.optimizer.step()
        earlier = torch.autograd.grad(features, self._before_output, d)
        return Gradient(
            loss.total, (*earlier, loss.weight, loss.bias), [tuple(e.detach() for e in layer) for layer in last]
        )


class LookingAhead(OwnStep):
    def __init__(
        self, network: Any, config: Any, corpus: Corpus, *, heads: int, weight: float, fade: bool = False
    ) -> None:
        super().__init__(network, config)
        self._gradient = Ahead(network, heads)
        self.weight, self.fade = weight, fade

    def __call__(self, window: Window, fraction: float) -> StepResult:
        g = self._gradient
        g.weight = self.weight * (1 - fraction if self.fade else 1)
        w = self._config.warmup
        g.optimizer.param_groups[0]["lr"] = self._peaks[0] * (
            fraction / w if fraction < w else (1 - fraction) / (1 - w)
        )
        return super().__call__(window, fraction)


# --------------------------------------------------------------------------------------- a factor of the product


class Product(GradientComputer):
    """The gradient of (1 - alone) · CE of softmax(z + a_k log p_n-gram) + alone · CE of softmax(z)."""

    extra: Tensor  # (N, V) log-probabilities
    kinds: Tensor  # (N,)
    powers: Tensor  # (kinds,)
    alone = 0.0

    @torch.no_grad()
    def _of_rows(self, x: Tensor, y: Tensor, state: NetworkState, symbols: int, seed: int) -> Gradient:
        network, output = self._network, self._network.output
        with torch.enable_grad():
            features, last = network.features(x, state, torch.Generator(x.device).manual_seed(seed))
        s = features.detach().flatten(0, 1)
        dtype = network.plan.dtype
        w = output.weight.to(dtype)
        flat = y.flatten()
        counts = flat != IGNORE
        y_ = flat.where(counts, 0)[:, None]
        total = s.new_zeros(())
        d_s, d_w, d_b = torch.empty_like(s), torch.zeros_like(output.weight), torch.zeros_like(output.bias)
        d_powers = torch.zeros_like(self.powers)
        rows = max(1, (1 << 20) // len(w))
        for i in range(0, len(s), rows):
            part = slice(i, i + rows)
            s_n = s[part].to(dtype)
            z = torch.nn.functional.linear(s_n, w).float() + output.bias
            a = self.powers[self.kinds[part]]
            extra = self.extra[part]
            mixed = (z + a[:, None] * extra).log_softmax(1)
            c = counts[part]
            total -= mixed.gather(1, y_[part]).squeeze(1).where(c, 0).sum()
            d = mixed.exp()
            d.scatter_add_(1, y_[part], d.new_full((len(d), 1), -1)).mul_(c[:, None] / symbols)
            d_powers.index_add_(0, self.kinds[part], (d * extra).sum(1))
            if self.alone:
                p = z.softmax(1)
                p.scatter_add_(1, y_[part], d.new_full((len(d), 1), -1)).mul_(c[:, None] / symbols)
                d = (1 - self.alone) * d + self.alone * p
            d_b += d.sum(0)
            d = d.to(dtype)
            d_s[part] = d @ w
            d_w += d.t() @ s_n
        self.d_powers = d_powers
        earlier = torch.autograd.grad(features, self._before_output, d_s.view(features.shape))
        return Gradient(total, (*earlier, d_w, d_b), [tuple(e.detach() for e in layer) for layer in last])


class ProductStep(OwnStep):
    """Trains the network as a factor of the product with n-grams that are counted on other folds of the text."""

    def __init__(
        self,
        network: Any,
        config: Any,
        corpus: Corpus,
        *,
        folds: int,
        piece: int | None = None,
        alone: float = 0.0,
        power: float = 0.5,
        learn: float = 0.01,
        order: int | None = None,
    ) -> None:
        super().__init__(network, config)
        self._gradient = Product(network)
        self._gradient.alone = alone
        self.learn = learn
        ids, vocabulary = corpus.train.ids, corpus.vocabulary
        V, first = len(vocabulary), vocabulary.boundary_id
        order = order or (7 if V > 512 else 9)
        N = len(ids)
        start = time.perf_counter()
        if vocabulary.framing == "lines":
            line = np.concatenate(([0], np.cumsum(ids == first)[:-1]))
            fold = (line * 2654435761 >> 7) % folds
        elif piece:
            fold = np.arange(N) // piece % folds
        else:
            fold = np.arange(N) * folds // N
        self.fold = fold.astype(np.int8)
        self.models, self.readings = [], np.zeros((N, order), np.int64)
        for k in range(folds):
            if vocabulary.framing == "lines":
                text = ids[fold != k]
                sequences = cut_sequences(vocabulary, text, (0,))
            else:
                edges = np.flatnonzero(np.diff((fold != k).astype(np.int8), prepend=0, append=0))
                sequences = [ids[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]
            model = NgramModel(sequences, V, first, order)
            self.models.append(model)
            if vocabulary.framing == "lines":  # the readings before each target of its lines
                own = np.flatnonzero(fold == k)
                starts = np.flatnonzero(np.concatenate(([True], ids[own][:-1] == first)))
                before = np.concatenate(([first], ids[own][:-1])).astype(np.int64)
                before[starts] = first
                lengths = np.diff(np.append(starts, len(own)))
                for length in np.unique(lengths):
                    rows = starts[lengths == length][None] + np.arange(length)[:, None]  # (T, n)
                    reading, _ = model.advance(before[rows], model.initial_state(rows.shape[1]))
                    self.readings[own[rows]] = reading
            else:
                edges = np.flatnonzero(np.diff((fold == k).astype(np.int8), prepend=0, append=0))
                for a, b in zip(edges[::2], edges[1::2], strict=True):
                    state = model.initial_state(1)
                    begin = max(0, a - 300)
                    before = np.concatenate(
                        ([first] if begin == 0 else [ids[begin - 1]], ids[begin : b - 1])
                    ).astype(np.int64)
                    reading, _ = model.advance(before[:, None], state)
                    self.readings[a:b] = reading[a - begin :, 0]
        kinds = self.models[0].contexts
        self._gradient.powers = torch.full((kinds,), power)
        self.m, self.v, self.n = torch.zeros(kinds), torch.zeros(kinds), 0
        print("folds counted", round(time.perf_counter() - start, 1), flush=True)

    def __call__(self, window: Window, fraction: float) -> StepResult:
        places = np.maximum(self.places.T.reshape(-1), 0)
        V = self.network.output.out_features
        readings, fold = self.readings[places], self.fold[places]
        extra, kinds = np.zeros((len(places), V), np.float32), np.zeros(len(places), np.int64)
        for k, model in enumerate(self.models):
            rows = np.flatnonzero(fold == k)
            if len(rows):
                extra[rows], kinds[rows] = model.log_probs(readings[rows]), model.context(readings[rows])
        g = self._gradient
        g.extra, g.kinds = torch.from_numpy(extra), torch.from_numpy(kinds)
        result = super().__call__(window, fraction)
        self.n += 1
        self.m.lerp_(g.d_powers, 0.1)
        self.v.lerp_(g.d_powers**2, 0.01)
        rate = self.learn * (1 - fraction)
        g.powers -= rate * (self.m / (1 - 0.9**self.n)) / ((self.v / (1 - 0.99**self.n)).sqrt() + 1e-8)
        return result


# ------------------------------------------------------------------------------------------------- networks


class InputDrop(LockedDropout):
    """Locked dropout of the state, and symbols dropped from the input for a whole window."""

    share = 0.05

    def input_weights(self, weight: Tensor, training: torch.Generator | None) -> Tensor:
        return weight * drop(torch.ones(weight.shape[1]), self.share, training)


class ModulatedFunction(torch.autograd.Function):
    """The LSTM whose recurrent product is W (m_t ∘ s_{t-1}), m_t given; for the rest as `cells.lstm`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, m: Tensor, s0: Tensor, c0: Tensor, weight: Tensor, dtype: torch.dtype) -> Any:
        T, B, H = len(x), *s0.shape
        wt = weight.to(dtype).t()
        gates, states, cells = x.clone(), x.new_empty(T + 1, B, H), x.new_empty(T + 1, B, H)
        tanhs, read = x.new_empty(T, B, H), x.new_empty(T, B, H)
        states[0], cells[0] = s0, c0
        for t in range(T):
            torch.mul(m[t], states[t], out=read[t])
            a = gates[t]
            a += read[t].to(dtype) @ wt
            a[:, : 2 * H].sigmoid_()
            a[:, 2 * H : 3 * H].tanh_()
            a[:, 3 * H :].sigmoid_()
            i, f, g, o = a.chunk(4, 1)
            torch.mul(f, cells[t], out=cells[t + 1]).addcmul_(i, g)
            torch.tanh(cells[t + 1], out=tanhs[t])
            torch.mul(o, tanhs[t], out=states[t + 1])
        ctx.dtype = dtype
        ctx.save_for_backward(gates, states, cells, tanhs, read, m, weight)
        return states[1:].clone(), cells[-1].clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_c: Tensor) -> Any:
        gates, states, cells, tanhs, read, m, weight = ctx.saved_tensors
        w = weight.to(ctx.dtype)
        T, B, H = grad.shape
        i, f, g, o = gates.chunk(4, 2)
        k_c = o * (1 - tanhs * tanhs)
        k_o = tanhs * o * (1 - o)
        k = torch.cat([g * i * (1 - i), cells[:-1] * f * (1 - f), i * (1 - g * g)], 2).view(T, B, 3, H)
        da, dm = torch.empty_like(gates), torch.empty_like(m)
        ds, dc = torch.zeros_like(grad_c), grad_c.clone()
        for t in range(T - 1, -1, -1):
            ds += grad[t]
            dc.addcmul_(ds, k_c[t])
            torch.mul(dc[:, None], k[t], out=da[t].view(B, 4, H)[:, :3])
            torch.mul(ds, k_o[t], out=da[t][:, 3 * H :])
            dc *= f[t]
            v = (da[t].to(ctx.dtype) @ w).to(ds.dtype)
            torch.mul(v, states[t], out=dm[t])
            ds = v * m[t]
        dw = (da.flatten(0, 1).to(ctx.dtype).t() @ read.flatten(0, 1).to(ctx.dtype)).to(weight.dtype)
        return da, dm, ds, dc, dw, None


class Modulated(CharacterModel):
    """An LSTM whose previous state is multiplied by numbers of the current symbol, before the recurrent product."""

    def __init__(self, vocabulary_size: int, *args: Any) -> None:
        super().__init__(vocabulary_size, *args)
        self.modulation = torch.nn.Parameter(torch.zeros(vocabulary_size, self.config.hidden_size))

    def features(self, ids: Tensor, state: NetworkState, training: torch.Generator | None = None) -> Any:
        r = self.recurrent
        x = torch.nn.functional.embedding(ids, r.weight_ih_l0.t()) + (r.bias_ih_l0 + r.bias_hh_l0)
        m = 2 * torch.nn.functional.embedding(ids, self.modulation).sigmoid()
        w = drop(r.weight_hh_l0, self.config.recurrent_dropout, training)
        dtype = torch.bfloat16 if training is not None else torch.float32
        s, c = ModulatedFunction.apply(x, m, *state[0], w, dtype)
        return drop(s, self.config.dropout, training), [(s[-1], c)]


def decayed(network: Any, config: Any, corpus: Corpus, *, amounts: Mapping[str, float]) -> TrainingStep:
    """A step of AdamW with a weight decay for each kind of matrix, by what its name contains."""
    rates = {
        n: next((v for k, v in amounts.items() if k in n and p.dim() > 1), 0.0)
        for n, p in network.named_parameters()
    }
    groups = [{"params": [p], "weight_decay": rates[n]} for n, p in network.named_parameters()]
    betas = (0.9, config.beta2)
    return TrainingStep(
        network, config, optimizer=torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, fused=True)
    )


def expert_of(network: CharacterModel) -> Any:
    plain = type(network).features is CharacterModel.features or isinstance(network, OpenNetwork)
    return SharedNetworkExpert(network) if plain else TorchNetworkExpert(network)


def ideas(scale: str) -> dict[str, Idea]:
    text, _, hidden, lines = SCALES[scale]
    rate, table = learning_rate(hidden), "embedding" if text == "tang" else "weight_ih"
    late = ((2 / 3, lines, 64), (1.0, lines, 128))
    return {
        "nothing": Idea(),
        "noise 0.05": Idea(step=partial(Noise, gamma=0.05, length=None)),
        "noise 0.2 by 5 symbols": Idea(step=partial(Noise, gamma=0.2, length=5)),
        "windows of 128 late": Idea(phases=late),
        "activity 0.2, its change 0.2": Idea(step=partial(penalised, alpha=0.2, beta=0.2)),
        "two symbols ahead": Idea(step=partial(LookingAhead, heads=2, weight=0.3)),
        "4 folds": Idea(step=partial(ProductStep, folds=4)),
        "modulated": Idea(
            network=Modulated, step=partial(decayed, amounts={"modulation": 0.0, table: 0.0, "weight": 0.1})
        ),
        "recurrent weights dropped, 0.1": Idea({WEIGHTS: 0.1}),
        "recurrent weights dropped, 0.2": Idea({WEIGHTS: 0.2}),
        "locked dropout": Idea(network=LockedDropout),
        "locked dropout, input dropped": Idea(network=InputDrop),
        "1.5 times the learning rate": Idea({LR: rate * 1.5}),
        "beta2 0.999": Idea({"training.beta2": 0.999}),
        "learning rate ends at 0.05": Idea(factor=lambda u: 1 - 0.95 * u),
        **{f"weight decay {a}": Idea({"training.weight_decay": a}) for a in (0.01, 0.05, 0.2, 0.4)},
        **{
            f"weight decay {a} of all matrices": Idea(step=partial(decayed, amounts={"weight": a}))
            for a in (0.01, 0.1, 0.2, 0.3)
        },
        **{
            f"weight decay 0.3 of {name} alone": Idea(step=partial(decayed, amounts={part: 0.3, "weight": 0.01}))
            for name, part in (("W", "weight_hh"), ("U", "weight_ih"), ("V_o", "output"))
        },
    }


def train(config: Config, corpus: Corpus, idea: Idea) -> tuple[CharacterModel, float, float]:
    torch.manual_seed(config.training.seed)
    V, t = len(corpus.vocabulary), config.training
    plan = plan_layers(V, config.model, CPU, kernel=t.kernel, precision=t.precision, batch_size=t.batch_size)
    network = idea.network(V, config.model, plan)
    initialize_output_bias(network, corpus.vocabulary.unigram_log_probs)
    step = TrainingStep(network, t) if idea.step is None else idea.step(network, t, corpus)
    _, budget = parse_amount(t.budget)
    symbols, epoch, late, late_symbols = 0, 0, 0.0, 0
    start = time.perf_counter()
    for until, rows, length in idea.phases or ((1.0, t.batch_size, t.sequence_length),):
        own = t.model_copy(update={"batch_size": rows, "sequence_length": length})
        batches = WithPlaces(corpus, own)
        while symbols < until * budget:
            for window, places in batches.epoch(epoch):
                fraction = symbols / budget
                step.places = places  # type: ignore[attr-defined]
                if idea.factor is not None and fraction > t.warmup:
                    u = (fraction - t.warmup) / (1 - t.warmup)
                    fraction = t.warmup + (1 - idea.factor(u)) * (1 - t.warmup)
                result = step(window, fraction)
                symbols += result.symbols
                if symbols > 0.8 * budget:
                    late, late_symbols = late + result.loss, late_symbols + result.symbols
                if symbols >= until * budget:
                    break
            epoch += 1
    if isinstance(step, ProductStep):
        print("powers", [round(float(a), 2) for a in step._gradient.powers], flush=True)
    return network, late / late_symbols, symbols / (time.perf_counter() - start)


def alone(network: CharacterModel, corpus: Corpus) -> tuple[float, float]:
    """Returns the loss of the network alone, its logits times the power that suits it best, and that power."""
    v, ids = corpus.vocabulary, corpus.validation.ids
    expert = expert_of(network)
    most = min(1 << 14, (1 << 24) // len(v))
    inputs, targets = (
        _sample_lines(v, ids, most)
        if v.framing == "lines"
        else _sample_pieces(v, ids, corpus.validation.parts, most)
    )
    readings, _ = expert.advance(np.ascontiguousarray(inputs.T), expert.initial_state(len(inputs)))
    real = targets.T != IGNORE
    y = targets.T[real]
    power = float(
        find_powers([expert.log_probs(readings[real])], np.zeros(len(y), np.int64), y, 1, prior=1e-3)[0, 0]
    )
    with torch.no_grad():
        network.output.weight *= power
        network.output.bias *= power
    nats = evaluate(Mixture(expert), v, corpus.validation).nats_per_character
    with torch.no_grad():
        network.output.weight /= power
        network.output.bias /= power
    return nats, power


def mixed(network: CharacterModel, corpus: Corpus) -> float:
    v, train_split = corpus.vocabulary, corpus.train
    order = 7 if len(v) > 512 else 9
    model = NgramModel(cut_sequences(v, train_split.ids, train_split.parts), len(v), v.boundary_id, order)
    mixture = Mixture(expert_of(network), [model])
    fit_powers(mixture, v, corpus.validation.ids, corpus.validation.parts)
    return evaluate(mixture, v, corpus.validation).nats_per_character


def run(folder: Path, scale: str, name: str, seed: int, million: float | None) -> dict[str, Any]:
    text, millions, hidden, lines = SCALES[scale]
    millions = million or millions
    idea = ideas(scale)[name]
    with tempfile.TemporaryDirectory() as scratch:
        if text == "python":
            whole = (folder / "python.txt").read_text()
            path = Path(scratch) / "python.txt"
            path.write_text(whole[:2_700_000] + whole[-100_000:])
            fixed = {"corpus.framing": "stream", "corpus.validation": 0.1 / 2.8}
        elif text in ("half", "quarter"):
            whole = (folder / "tiny_shakespeare.txt").read_text()
            tail = len(whole) // 10
            first = (len(whole) - tail) // (2 if text == "half" else 4)
            path = Path(scratch) / "part.txt"
            path.write_text(whole[:first] + whole[-tail:])
            fixed = {"corpus.framing": "stream", "corpus.validation": tail / (first + tail)}
        else:
            path, fixed = held_out(folder, text, Path(scratch))
        fixed["corpus.split"] = "tail"
        corpus = load_corpus(load_config({"corpus": {"path": str(path)}}, fixed).corpus)
        large = len(corpus.vocabulary) > 512
        epochs = millions * 1e6 / len(corpus.train.ids)
        common = {
            H: hidden,
            B: lines,
            T: 64,
            LR: learning_rate(hidden),
            DROPOUT: dropout(epochs / 2, 0.1 if large else 0.05),
            WEIGHTS: dropout(epochs / 4, 0.12),
            "training.weight_decay": 0.1,
            "training.budget": f"{int(millions * 1e6)} characters",
            "training.seed": seed,
        }
        if large:
            common |= {"model.embedding_size": 64, "model.output_rank": output_rank(hidden)}
        config = load_config({"corpus": {"path": str(path)}}, {**fixed, **common, **idea.settings})
        network, late, speed = train(config, corpus, idea)
    nats, power = alone(network, corpus)
    return {
        "text": scale,
        "idea": name,
        "seed": seed,
        "characters": f"{millions:.3g}M",
        "nats": nats,
        "mixture": mixed(network, corpus),
        "power": power,
        "train": late,
        "passes": epochs,
        "speed": round(speed),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", choices=list(SCALES), required=True)
    parser.add_argument("--only", required=True, help="ideas, separated by ;")
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--million", type=float)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "ideas.jsonl")
    o = parser.parse_args()
    for seed in map(int, o.seeds.split(",")):
        for name in o.only.split(";"):
            row = run(o.folder, o.scale, name, seed, o.million)
            line = json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
            print(line, flush=True)
            with o.results.open("a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
