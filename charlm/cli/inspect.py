"""`charlm inspect`: show what a run folder contains."""

from __future__ import annotations

import sys

from charlm.cli import options
from charlm.cli.layout import fit_table, terminal_width, wrap_lines
from charlm.cli.render import CURVE_LABEL_CELLS, draw_curve, format_duration, printable
from charlm.system.counts import count_of


def inspect(run: options.RunArgument) -> None:
    """Show the architecture, parameters and training curve of a run.

    \b
    $ charlm inspect runs/quickstart
    LSTM, 1 layer, hidden size 256, one-hot input of 64, softmax over 64
    framing stream, character level, trained on corpus:english
    ...
    all                                   346,176
    ...
    best 1.2393 nats, last 1.2393, 41,937 characters/s
    """
    from charlm import load
    from charlm.training.reports import load_metrics

    lm = load(run, device="cpu")
    width = terminal_width(sys.stdout)
    m, c, v = lm.config.model, lm.config.corpus, len(lm.vocabulary)
    layers = count_of(m.num_layers, "layer")
    inputs = f"embedding of {m.embedding_size}" if m.embedding_size else f"one-hot input of {v}"
    rank = f" of rank {m.output_rank}" if m.output_rank else ""
    shape = f"{m.cell.upper()}, {layers}, hidden size {m.hidden_size}, {inputs}, softmax{rank} over {v}"
    print(wrap_lines(shape, width))
    path = c.path if isinstance(c.path, str) else ", ".join(c.path)
    print(wrap_lines(f"framing {c.framing}, {c.level} level, trained on {printable(path)}", width) + "\n")
    weights = lm.mixture.network.arrays()
    rows = [(name, str(value.shape), f"{value.size:,}") for name, value in weights.items()]
    rows.append(("all", "", f"{sum(value.size for value in weights.values()):,}"))
    print("\n".join(fit_table(rows, "<<>", width, min_name=None)))
    experts, powers = lm.mixture.experts, lm.mixture.powers
    if len(experts) > 1:
        print("\n" + wrap_lines("mixture: the exponent of each expert, by the length of the known context", width))
        table = [["known", *(expert.name for expert in experts)]]
        for kind, row in zip(lm.mixture.kind_names(), powers.tolist(), strict=True):
            table.append([kind, *(f"{power:.2f}" for power in row)])
        print("\n".join(fit_table(table, "<" + ">" * len(experts), width)))
    metrics = load_metrics(run)
    points = [(row["characters"], row["validation_loss"] or row["train_loss"]) for row in metrics]
    if not points:
        return
    name = "validation loss" if metrics[-1]["validation_loss"] else "training loss"
    best = min(loss for _, loss in points)
    time = format_duration(metrics[-1]["seconds"])
    heading = f"{name}, nats per character, over {count_of(points[-1][0], 'character')} and {time}"
    print("\n" + wrap_lines(heading, width))
    print("\n".join(draw_curve(points, width=60 if width is None else max(10, min(60, width - CURVE_LABEL_CELLS)))))
    speed = metrics[-1]["characters_per_second"]
    print(wrap_lines(f"best {best:.4f} nats, last {points[-1][1]:.4f}, {speed:,.0f} characters/s", width))
