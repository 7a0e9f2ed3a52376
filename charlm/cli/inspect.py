"""`charlm inspect`: show what a run folder contains."""

from __future__ import annotations

from charlm.cli import options
from charlm.cli.render import align_columns, draw_curve, format_duration, printable


def inspect(run: options.RunArgument) -> None:
    """Show the architecture, parameters and training curve of a run.

    \b
    $ charlm inspect runs/quickstart
    LSTM, 1 layer, hidden size 256, one-hot input of 64, softmax over 64
    framing stream, character level, trained on data/english.txt
    ...
    all                                   346,176
    ...
    best 1.2393 nats, last 1.2393, 41,937 characters/s
    """
    from charlm import load
    from charlm.model.network import parameter_count
    from charlm.training.reports import load_metrics

    lm = load(run, device="cpu")
    m, c, v = lm.config.model, lm.config.corpus, len(lm.vocabulary)
    layers = "1 layer" if m.num_layers == 1 else f"{m.num_layers} layers"
    inputs = f"embedding of {m.embedding_size}" if m.embedding_size else f"one-hot input of {v}"
    rank = f" of rank {m.output_rank}" if m.output_rank else ""
    print(f"{m.cell.upper()}, {layers}, hidden size {m.hidden_size}, {inputs}, softmax{rank} over {v}")
    path = c.path if isinstance(c.path, str) else ", ".join(c.path)
    print(f"framing {c.framing}, {c.level} level, trained on {printable(path)}\n")
    rows = [(name, str(tuple(p.shape)), f"{p.numel():,}") for name, p in lm.mixture.network.named_parameters()]
    rows.append(("all", "", f"{parameter_count(lm.mixture.network):,}"))
    print("\n".join(align_columns(rows, "<<>")))
    experts, powers = lm.mixture.experts, lm.mixture.powers
    if len(experts) > 1:
        print("\nmixture: the exponent of each expert, by the length of the known context")
        table = [["known", *map(str, range(len(powers)))]]
        for expert, row in zip(experts, powers.T.tolist(), strict=True):
            table.append([expert.name, *(f"{power:.2f}" for power in row)])
        print("\n".join(align_columns(table, "<" + ">" * len(powers))))
    metrics = load_metrics(run)
    points = [(row["characters"], row["validation_loss"] or row["train_loss"]) for row in metrics]
    if not points:
        return
    name = "validation loss" if metrics[-1]["validation_loss"] else "training loss"
    best = min(loss for _, loss in points)
    time = format_duration(metrics[-1]["seconds"])
    print(f"\n{name}, nats per character, over {points[-1][0]:,} characters and {time}")
    print("\n".join(draw_curve(points)))
    print(
        f"best {best:.4f} nats, last {points[-1][1]:.4f}, {metrics[-1]['characters_per_second']:,.0f} characters/s"
    )
