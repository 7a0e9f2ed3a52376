"""How fast does a network read and write in a page, and what do its packed weights cost?

The page of `charlm report` carries the network and computes it in JavaScript (charlm/report/assets/model.js).
The first table has characters per second in headless chromium, of untrained networks over the symbols of charlm's
corpus `english`: text that is priced with the five likeliest alternatives at each place, and text that is written.
The shapes run alternately; the medians of the rounds are printed.

The second table has what a trained run, or where none is named one of `config:quickstart`, loses by its weights
being float16, or int8 with a scale per row: nats per character of its validation split, of the network alone, and
by how much the price of a character changes on average, up or down.

    python benchmarks/page.py [--rounds 5] [--seconds 1] [--run RUN]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, sync_playwright

import charlm
import charlm.report
from charlm.config import ModelConfig, load_config
from charlm.experts.mixture import Mixture
from charlm.experts.network import NetworkExpert
from charlm.model.inference import InferenceNetwork, weight_shapes
from charlm.report.network_data import FLOAT16_BYTES, pack_network, with_dequantized_weights
from charlm.store.trained import TrainedModel
from charlm.text.library import fetch
from charlm.text.vocabulary import Vocabulary
from measure import Meter, alternating_medians, describe_machine, print_table

# cell, H, and the characters a second that must be reached
SHAPES = [("lstm", 256, None), ("lstm", 512, 500), ("gru", 512, None)]
READING = "model.score(text.slice(0, 100)).characters.length"
WRITING = 'Array.from(model.write({prompt: "The ", length: 100, seed: seed++})).length'


def make_model(cell: str, hidden: int, text: str) -> charlm.LanguageModel:
    """An untrained network, each weight drawn as PyTorch draws it."""
    vocabulary = Vocabulary.build(text)
    config = ModelConfig(cell=cell, hidden_size=hidden)
    rng, bound = np.random.default_rng(0), hidden**-0.5
    shapes = weight_shapes(len(vocabulary), config)
    weights = {name: rng.uniform(-bound, bound, shape).astype(np.float32) for name, shape in shapes.items()}
    mixture = Mixture(NetworkExpert(InferenceNetwork(config, weights)))
    return charlm.LanguageModel(
        TrainedModel(mixture, vocabulary, load_config({"corpus": {"path": "-"}}), Path("run"))
    )


def open_model(browser: Browser, model: charlm.LanguageModel, text: str) -> Any:
    """A page of its own that has the model, and forgets what it has read."""
    page = browser.new_page()
    script = Path(charlm.report.__file__).parent / "assets" / "model.js"
    page.add_script_tag(content=script.read_text(encoding="utf-8"))
    page.evaluate(
        "([json, given]) => { data = JSON.parse(json); text = given; seed = 0; model = charlm.load(data); }",
        [pack_network(model, None).json, text],
    )
    return page


def meter(page: Any, work: str) -> Meter:
    """Characters per second of this work, in the page."""
    function = f"""seconds => {{
        const start = performance.now();
        let done = 0;
        while (performance.now() - start < 1000 * seconds) {{
            text = text.slice(100) + text.slice(0, 100);
            done += {work};
        }}
        return done / (performance.now() - start) * 1000;
    }}"""
    return partial(page.evaluate, function)


def measure_speed(rounds: int, seconds: float) -> None:
    text = fetch("english").read_text(encoding="utf-8")
    with ExitStack() as stack:
        playwright = stack.enter_context(sync_playwright())
        arguments = ["--headless", "--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        stack.callback(browser.close)
        meters = []
        for cell, hidden, _ in SHAPES:
            page = open_model(browser, make_model(cell, hidden, text), text)
            meters += [meter(page, READING), meter(page, WRITING)]
        for measure in meters:
            measure(seconds)  # the browser compiles what runs often
        medians = alternating_medians(meters, rounds, seconds)
        print(f"{describe_machine()}, chromium {browser.version}\n")
    rows = [("cell, H", "read char/s", "written char/s", "target")]
    for (cell, hidden, target), read, written in zip(SHAPES, medians[::2], medians[1::2], strict=True):
        rows.append((f"{cell}, {hidden}", f"{read:,.0f}", f"{written:,.0f}", f"{target or ''}"))
    print_table(rows)


def measure_cost(run: Path | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lm = charlm.load(run) if run else charlm.train("config:quickstart", out=Path(folder) / "run")
        vocabulary, ids = lm.vocabulary, lm.corpus().validation.ids

        def prices(mixture: Mixture) -> np.ndarray:
            inputs = np.append([vocabulary.boundary_id], ids[:-1])[:, None]
            readings, _ = mixture.advance(inputs, mixture.initial_state(1))
            return mixture.target_log_probs(readings, ids[:, None])

        exact = prices(Mixture(lm.mixture.network))
        size = sum(weight.nbytes for weight in lm.mixture.network.arrays().values())
        rows = [("weights", "bytes", "nats per character", "cost", "mean change of a price")]
        rows.append(("float32", f"{size:,}", f"{-exact.mean():.5f}", "", ""))
        for name, limit in (("float16", 1 << 62), ("int8", 0)):
            data = pack_network(lm, None, float16_bytes=limit)
            found = prices(with_dequantized_weights(lm, float16_bytes=limit).mixture)
            used = " (travels)" if data.format == pack_network(lm, None).format else ""
            change = f"{np.abs(found - exact).mean():.5f}"
            rows.append(
                (name + used, f"{data.bytes:,}", f"{-found.mean():.5f}", f"{(exact - found).mean():+.5f}", change)
            )
    print(f"\n{run or 'config:quickstart'}; float16 travels below {FLOAT16_BYTES:,} bytes of weights\n")
    print_table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--run", type=Path, help="a run folder, instead of training one")
    options = parser.parse_args()
    measure_speed(options.rounds, options.seconds)
    measure_cost(options.run)


if __name__ == "__main__":
    main()
