"""`charlm inspect`: what is in a run folder?"""

from __future__ import annotations

from charlm.cli import options
from charlm.cli.render import columns, curve, duration, printable


def inspect(run: options.Run) -> None:
    """Show a run's architecture, its parameters tensor by tensor, and its training curve.

    \b
    $ charlm inspect runs/quickstart
    LSTM, 1 layer of 256, one-hot input of 64, softmax over 64
    framing stream, character level, trained on data/english.txt
    ...
    all                                   346,176
    ...
    best 1.2603 nats, last 1.2603, 54,376 characters/s
    """
    from charlm import load
    from charlm.language_model import load_metrics
    from charlm.model.network import parameter_count

    lm = load(run, device="cpu")
    m, c, v = lm.config.model, lm.config.corpus, len(lm.vocabulary)
    form = f" (reset {m.reset})" if m.cell == "gru" else ""
    layers = "1 layer" if m.num_layers == 1 else f"{m.num_layers} layers"
    given = f"embedding of {m.embedding_size}" if m.embedding_size else f"one-hot input of {v}"
    rank = f" of rank {m.output_rank}" if m.output_rank else ""
    print(f"{m.cell.upper()}{form}, {layers} of {m.hidden_size}, {given}, softmax{rank} over {v}")
    path = c.path if isinstance(c.path, str) else ", ".join(c.path)
    print(f"framing {c.framing}, {c.level} level, trained on {printable(path)}\n")
    rows = [(name, str(tuple(p.shape)), f"{p.numel():,}") for name, p in lm.model.named_parameters()]
    rows.append(("all", "", f"{parameter_count(lm.model):,}"))
    print("\n".join(columns(rows, "<<>")))
    if lm.model.ngram_powers is not None:
        network, ngram = lm.model.ngram_powers.T.tolist()
        print(f"\nmixed with {m.ngram}-grams: the power of each model, by how many characters the n-grams know")
        table = [["known", *map(str, range(len(network)))]]
        for who, powers in (("network", network), ("n-grams", ngram)):
            table.append([who, *(f"{power:.2f}" for power in powers)])
        print("\n".join(columns(table, "<" + ">" * len(network))))
    metrics = load_metrics(run)
    points = [(row["characters"], row["validation_loss"] or row["train_loss"]) for row in metrics]
    if not points:
        return
    name = "validation loss" if metrics[-1]["validation_loss"] else "training loss"
    best = min(loss for _, loss in points)
    print(f"\n{name}, nats per character, over {points[-1][0]:,} characters and {duration(metrics[-1]['seconds'])}")
    print("\n".join(curve(points)))
    print(
        f"best {best:.4f} nats, last {points[-1][1]:.4f}, {metrics[-1]['characters_per_second']:,.0f} characters/s"
    )
