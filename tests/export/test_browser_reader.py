"""The browser reader of docs/explanation/export.md, as it stands there.

It is onnxruntime-web in a page that this machine serves.
"""

import functools
import os
import re
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if "CI" not in os.environ:  # there it must be installed
    pytest.importorskip("onnx", reason="onnx is not installed: pip install -c constraints.txt onnx")

import charlm
from browser import Browser
from charlm.export.network import Figures
from charlm.export.onnx_model import write_onnx
from charlm.language_model import LanguageModel
from exported import LINES, PAGE, TEXTS, make_model, program

pytestmark = pytest.mark.slow

RUNTIME = re.findall(r"^npm install (onnxruntime-web@[\d.]+)$", PAGE.read_text(encoding="utf-8"), re.M)[0]
FILES = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
SECONDS = 120  # for a download of 33 MB


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the page needs of onnxruntime-web, from npm, of the version that the document names."""
    folder = tmp_path_factory.mktemp("npm")
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    command = [npm, "pack", RUNTIME, "--pack-destination", str(folder)]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not bring {RUNTIME} within {SECONDS} seconds")
    if done.returncode:
        pytest.skip(f"npm cannot bring {RUNTIME}: {done.stderr.strip()[-200:]}")
    (archive,) = folder.glob("*.tgz")
    target = folder / "node_modules/onnxruntime-web/dist"
    target.mkdir(parents=True)
    with tarfile.open(archive) as files:
        for name in FILES:
            content = files.extractfile(f"package/dist/{name}")
            assert content
            (target / name).write_bytes(content.read())
    archive.unlink()
    return folder / "node_modules"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serves a folder on this machine, and gives its address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def reader(browser: Browser, runtime: Path, lm: LanguageModel, folder: Path) -> Iterator[Any]:
    """Opens the page beside the exported model; there must be no error, and no request to anywhere else."""
    (folder / "page.html").write_text(program("html"), encoding="utf-8")
    (folder / "node_modules").symlink_to(runtime)
    write_onnx(lm, Figures(None, None, "", "not measured"), folder / "model.onnx")
    with serve(folder) as address:
        page = browser.running.new_page()
        try:
            errors: list[str] = []
            asked: list[str] = []
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("console", lambda message: message.type == "error" and errors.append(message.text))
            page.on("request", lambda request: asked.append(request.url))
            page.goto(f"{address}/page.html")
            page.wait_for_selector("#run:enabled")
            yield page
            others = [url for url in asked if not url.startswith((address, "blob:"))]
            assert (errors, others) == ([], [])
        finally:
            page.close()


def answer(page: Any, text: str) -> tuple[float, str]:
    """Types a text; returns its log-probability, and the text with what the page wrote behind it."""
    page.fill("#text", text)
    page.click("#run")
    page.wait_for_selector("#run:enabled")
    shown = page.text_content("#answer")
    nats, _, written = shown.partition(" nats\n")
    return float(nats), written


def write_greedily(lm: LanguageModel, text: str, length: int) -> str:
    vocabulary, mixture = lm.vocabulary, lm.mixture
    step = mixture.make_step(mixture.initial_state(1))
    for symbol in [vocabulary.boundary_id, *vocabulary.encode_sentence(vocabulary.normalize(text)).tolist()]:
        logits = step(np.array([symbol]))[0]
    written: list[int] = []
    while len(written) < length:
        if vocabulary.unknown_id is not None:
            logits[vocabulary.unknown_id] = -np.inf
        symbol = int(logits.argmax())
        if vocabulary.framing == "lines" and symbol == vocabulary.boundary_id:
            break
        written.append(symbol)
        logits = step(np.array([symbol]))[0]
    return vocabulary.decode(written)


@pytest.mark.parametrize(
    ("text", "cell"),
    list(zip(TEXTS, ["lstm", "gru", "gru-before", "rnn"], strict=True)),
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else value,
)
def test_the_page_scores_and_writes_as_charlm_does(
    text: dict[str, Any], cell: str, browser: Browser, runtime: Path, tmp_path: Path
) -> None:
    lm = make_model(text, cell=cell, num_layers=2)
    with reader(browser, runtime, lm, tmp_path) as page:
        for line in (LINES[0], *LINES[4:]):
            nats, written = answer(page, line)
            score = lm.score([line])[0]
            assert nats == pytest.approx(score.logprob, abs=1e-4 * max(1, score.n))
            assert written == line + write_greedily(lm, line, 80)


def test_a_trained_run_works_in_the_page(browser: Browser, runtime: Path, tiny_run: Path, tmp_path: Path) -> None:
    lm = charlm.load(tiny_run, device="cpu")
    with reader(browser, runtime, lm, tmp_path) as page:
        nats, written = answer(page, "the boat")
        assert nats == pytest.approx(lm.score(["the boat"])[0].logprob, abs=1e-3)
        assert written == "the boat" + write_greedily(lm, "the boat", 80)
