"""Downloads of known corpora: how they behave when all goes well or does not, and files that are there already."""

import dataclasses
import hashlib
import io
import re
import socket
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from charlm.errors import CorpusError
from charlm.text.library import KnownCorpus, fetch, find

pytestmark = pytest.mark.usefixtures("folder")
TEXT = bytes(range(32, 127)) * 2000  # 190,000 bytes: three reads of the downloader


def sample_of(url: str, download: bytes, *, member: str | None = None) -> KnownCorpus:
    """A public corpus of the text above with the checksum of a download."""
    checksum = hashlib.sha256(download).hexdigest()
    return KnownCorpus("sample", "public", "a sample", len(TEXT), "MIT", checksum, url, member)


class Server(ThreadingHTTPServer):
    """A loopback file server that keeps a log of the requests and can misbehave."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.speaks_http = True
        self.ignores_range = False
        self.breaks_after: int | None = None
        self.corpus = sample_of(self.url("/sample"), TEXT)
        self.log: list[tuple[str | None, int]] = []  # (Range header, bytes of the body sent)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if not self.server.speaks_http:
            self.wfile.write(b"good day\r\n")
            return
        if self.headers["User-Agent"].startswith("Python-urllib"):  # as wikitext.smerity.com does
            self.send_error(403)
            return
        body, wanted = self.server.files.get(self.path), self.headers["Range"]
        start = 0
        if wanted and not self.server.ignores_range:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
        if body is None or (start and start >= len(body)):
            self.server.log.append((wanted, 0))
            self.send_error(404 if body is None else 416)
            return
        sent = body[start : self.server.breaks_after]
        self.server.log.append((wanted, len(sent)))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def sample(server: Server) -> Server:
    """The server with its corpus, a plain text."""
    server.files["/sample"] = TEXT
    return server


@pytest.fixture
def zipped(server: Server) -> Server:
    """The server with its corpus in a zip archive with other members, one of them with a hostile path."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../escaped.txt", "hostile")
        archive.writestr("deep/down/sample.raw", TEXT)
        archive.writestr("README", "not wanted")
    server.files["/sample"] = buffer.getvalue()
    server.corpus = sample_of(server.url("/sample"), buffer.getvalue(), member="deep/down/sample.raw")
    return server


# --- downloads ------------------------------------------------------------------------------------


def test_a_fetched_corpus_lies_in_the_cache_and_nothing_else_does(sample: Server, folder: Path):
    path = fetch(sample.corpus)
    assert path == folder / "sample.txt"
    assert path.read_bytes() == TEXT
    assert list(folder.iterdir()) == [path]


def test_progress_ends_with_the_whole_size(sample: Server):
    seen: list[tuple[int, int | None]] = []
    fetch(sample.corpus, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(TEXT), len(TEXT))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert len(seen) > 1


def test_a_second_fetch_makes_no_request(sample: Server):
    fetch(sample.corpus)
    assert fetch(sample.corpus).read_bytes() == TEXT
    assert len(sample.log) == 1


def test_a_folder_and_a_mirror_can_be_chosen(sample: Server, tmp_path: Path):
    sample.files = {"/mirror": TEXT}
    path = fetch(sample.corpus, folder=tmp_path / "mine", source=sample.url("/mirror"))
    assert path == tmp_path / "mine" / "sample.txt"
    assert path.read_bytes() == TEXT


def test_a_partial_download_is_resumed_and_only_the_rest_is_sent(sample: Server, folder: Path):
    (folder / "sample.txt.part").write_bytes(TEXT[:1000])
    seen: list[tuple[int, int | None]] = []
    path = fetch(sample.corpus, progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == TEXT
    assert sample.log == [("bytes=1000-", len(TEXT) - 1000)]
    assert seen[0][0] > 1000
    assert seen[-1] == (len(TEXT), len(TEXT))


def test_a_server_that_ignores_range_is_read_from_the_start(sample: Server, folder: Path):
    sample.ignores_range = True
    (folder / "sample.txt.part").write_bytes(TEXT[:1000])
    seen: list[tuple[int, int | None]] = []
    path = fetch(sample.corpus, progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == TEXT
    assert sample.log == [("bytes=1000-", len(TEXT))]
    assert seen[-1] == (len(TEXT), len(TEXT))


def test_a_part_longer_than_the_file_is_thrown_away(sample: Server, folder: Path):
    (folder / "sample.txt.part").write_bytes(TEXT + b"and more")
    assert fetch(sample.corpus).read_bytes() == TEXT
    assert sample.log == [(f"bytes={len(TEXT) + 8}-", 0), (None, len(TEXT))]


def test_a_complete_part_needs_no_request(sample: Server, folder: Path):
    (folder / "sample.txt.part").write_bytes(TEXT)
    assert fetch(sample.corpus).read_bytes() == TEXT
    assert sample.log == []


def test_a_connection_that_breaks_leaves_its_part_for_the_next_call(sample: Server, folder: Path):
    sample.breaks_after = 70_000
    with pytest.raises(CorpusError, match="ended after 70,000 of 190,000 bytes"):
        fetch(sample.corpus)
    assert (folder / "sample.txt.part").read_bytes() == TEXT[:70_000]
    sample.breaks_after = None
    assert fetch(sample.corpus).read_bytes() == TEXT
    assert sample.log[1] == ("bytes=70000-", len(TEXT) - 70_000)


def test_ctrl_c_leaves_the_part_for_the_next_call(sample: Server, folder: Path):
    def interrupt(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(sample.corpus, progress=interrupt)
    kept = (folder / "sample.txt.part").read_bytes()
    assert kept
    assert TEXT.startswith(kept)
    assert not (folder / "sample.txt").exists()


# --- refusals -------------------------------------------------------------------------------------


def test_a_wrong_checksum_names_both_and_keeps_nothing(sample: Server, folder: Path):
    other = TEXT.replace(b"A", b"B")
    sample.files["/sample"] = other
    with pytest.raises(CorpusError) as caught:
        fetch(sample.corpus)
    assert hashlib.sha256(TEXT).hexdigest() in str(caught.value)
    assert hashlib.sha256(other).hexdigest() in str(caught.value)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("begun", [0, 1000])
def test_a_server_that_sends_too_much_is_cut_off_and_nothing_is_kept(sample: Server, folder: Path, begun: int):
    (folder / "sample.txt.part").write_bytes(TEXT[:begun])
    sample.files["/sample"] = TEXT + bytes(1 << 17)
    told: list[int] = []
    with pytest.raises(CorpusError, match=f"more than the {len(TEXT) + 65536:,} bytes of the corpus"):
        fetch(sample.corpus, progress=lambda done, total: told.append(done))
    assert max(told) <= len(TEXT) + 65536
    assert list(folder.iterdir()) == []


def test_an_http_error_is_named(sample: Server, folder: Path):
    sample.files = {}
    with pytest.raises(CorpusError, match="404"):
        fetch(sample.corpus)
    assert list(folder.iterdir()) == []


def test_offline_the_message_says_what_to_download_and_where_to_put_it(folder: Path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/sample"
    corpus = sample_of(url, TEXT)
    with pytest.raises(CorpusError) as caught:
        fetch(corpus)
    message = str(caught.value)
    assert f"download {url} in another way, save it as {folder / 'sample.txt'}" in message
    assert "\n" not in message
    (folder / "sample.txt").write_bytes(TEXT)  # do what it says
    assert fetch(corpus).read_bytes() == TEXT


def test_a_server_that_does_not_speak_http_is_an_error_like_any_other(sample: Server):
    sample.speaks_http = False
    with pytest.raises(CorpusError, match="good day"):
        fetch(sample.corpus)


def test_an_address_without_a_scheme_is_refused(sample: Server):
    with pytest.raises(CorpusError, match="unknown url type"):
        fetch(sample.corpus, source="mirror/sample.txt")


def test_a_folder_that_cannot_be_made_is_refused_with_a_way_out(sample: Server, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CorpusError, match="set CHARLM_CACHE"):
        fetch(sample.corpus, folder=tmp_path / "file" / "corpora")


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(CorpusError, match="did you mean 'tiny-shakespeare'"):
        fetch("tiny-shakespere")
    with pytest.raises(CorpusError, match=r"known ones are .*text8"):
        fetch("zzz")


# --- files placed by hand -------------------------------------------------------------------------


def test_a_hand_placed_text_is_checked_and_used(sample: Server, folder: Path):
    (folder / "sample.txt").write_bytes(TEXT)
    assert fetch(sample.corpus).read_bytes() == TEXT
    assert sample.log == []


def test_a_hand_placed_file_with_another_checksum_is_refused_but_kept(sample: Server, folder: Path):
    (folder / "sample.txt").write_bytes(TEXT[::-1])
    with pytest.raises(CorpusError, match=hashlib.sha256(TEXT).hexdigest()):
        fetch(sample.corpus)
    assert (folder / "sample.txt").read_bytes() == TEXT[::-1]
    assert sample.log == []


def test_a_hand_placed_archive_is_unpacked(zipped: Server, folder: Path):
    (folder / "sample.zip").write_bytes(zipped.files["/sample"])
    assert fetch(zipped.corpus).read_bytes() == TEXT
    assert zipped.log == []


def test_a_name_stands_for_its_corpus(folder: Path):
    assert find("names") is None
    (folder / "names.txt").write_bytes(TEXT)
    for look_up in (find, fetch):
        with pytest.raises(CorpusError, match="is not the download of corpus 'names': its SHA-256 should"):
            look_up("names")


# --- archives -------------------------------------------------------------------------------------


def test_only_the_named_member_is_unpacked_under_our_own_name(zipped: Server, folder: Path, tmp_path: Path):
    path = fetch(zipped.corpus)
    assert path == folder / "sample.txt"
    assert path.read_bytes() == TEXT
    assert {file for file in tmp_path.rglob("*") if file.is_file()} == {path, folder / "sample.zip"}
    fetch(zipped.corpus)
    assert len(zipped.log) == 1


def test_a_cut_text_is_unpacked_again_without_a_request(zipped: Server):
    path = fetch(zipped.corpus)
    path.write_bytes(TEXT[:10])
    assert fetch(zipped.corpus).read_bytes() == TEXT
    assert len(zipped.log) == 1


def test_a_member_larger_than_the_corpus_is_refused(zipped: Server, folder: Path):
    zipped.corpus = dataclasses.replace(zipped.corpus, size_bytes=len(TEXT) - 1)
    with pytest.raises(CorpusError, match="larger than the 189,999 bytes"):
        fetch(zipped.corpus)
    assert [file.name for file in folder.iterdir()] == ["sample.zip"]


# --- what is at hand ------------------------------------------------------------------------------


def test_find_gives_a_public_corpus_only_once_it_is_here(sample: Server):
    assert find(sample.corpus) is None
    assert sample.log == []
    path = fetch(sample.corpus)
    assert find(sample.corpus) == path
    assert len(sample.log) == 1


def test_find_gives_an_unpacked_corpus_and_unpacks_a_hand_placed_one(zipped: Server, folder: Path):
    assert find(zipped.corpus) is None
    (folder / "sample.zip").write_bytes(zipped.files["/sample"])
    assert find(zipped.corpus) == folder / "sample.txt"
    (folder / "sample.zip").unlink()
    assert find(zipped.corpus) == folder / "sample.txt"
    assert zipped.log == []
