"""Decoding: from the bytes of a text to its characters, in pieces.

Every text is decoded here, of corpora and of sentences alike; the ends of lines become newlines here too.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from tempfile import SpooledTemporaryFile

from charlm.errors import CorpusError
from charlm.system.encodings import AUTO, UTF_8, is_utf8, make_decoder
from charlm.system.shell import quote_path
from charlm.text.detection import MAX_SAMPLE_BYTES, Guess, detect, detect_escaped, detect_wide
from charlm.text.source import Source

SETTING = "--set corpus.encoding="
OPTION = "--encoding "
_SPOOLED_BYTES = 1 << 24  # of a text whose encoding is to be found, held in memory
_READ_BYTES = 1 << 20
_MIN_UTF8_CHARACTERS = 10  # beyond ASCII: as many do not look like UTF-8 by chance

Note = Callable[[str], None]


class UndecodableError(CorpusError):
    """A text that is not in the encoding that was said.

    Attributes:
        guess: the encoding it may be in.
    """

    def __init__(self, message: str, guess: Guess | None) -> None:
        super().__init__(message)
        self.guess = guess


def decode(
    source: Source,
    encoding: str,
    level: str,
    *,
    remedy: str = SETTING,
    zeros: bool = False,
    note: Note = lambda text: None,
) -> Iterator[str]:
    """Yields the characters of a text, in pieces; a character that is cut comes with the piece that completes it.

    Args:
        source: its bytes.
        encoding: a name that Python knows, or `auto`: UTF-8, or else what the text is found to be, for which all of
            it is read first.
        level: at `character` level a byte order mark is dropped, and CRLF and CR become newlines. At `byte` level
            they stay, and bytes that are not UTF-8 become lone surrogates, unless another encoding is named.
        remedy: how messages set the encoding.
        zeros: whether zero bytes are taken as characters.
        note: is told which encoding `auto` found.

    Raises:
        CorpusError: the bytes are not in this encoding; what was decoded before is yielded first.
    """
    if encoding == AUTO:
        if level == "byte":
            encoding = UTF_8
        else:
            yield from _decode_any(source, remedy, zeros, note)
            return
    yield from _Decoding(source, encoding, level, remedy, zeros).pieces()


def _decode_any(source: Source, remedy: str, zeros: bool, note: Note) -> Iterator[str]:
    """Decodes as UTF-8, or else as what the whole text is found to be."""
    with SpooledTemporaryFile(_SPOOLED_BYTES) as copy:
        for chunk in source.chunks:
            copy.write(chunk)

        def again(encoding: str) -> Iterator[str]:
            copy.seek(0)
            chunks = iter(lambda: copy.read(_READ_BYTES), b"")
            return _Decoding(source._replace(chunks=chunks), encoding, "character", remedy, zeros).pieces()

        encoding = UTF_8
        try:
            for _ in again(UTF_8):
                pass
        except UndecodableError as error:
            if error.guess is None:
                raise
            guess, encoding = error.guess, error.guess.encoding
            note(f"{source.name}: decoded as {guess.label}, {guess.sureness} right: a line reads “{guess.reads}”")
        yield from again(encoding)


class _Decoding:
    """The decoding of one text; arguments as in `decode`."""

    def __init__(self, source: Source, encoding: str, level: str, remedy: str, zeros: bool) -> None:
        self._source = source
        self._encoding = encoding
        self._is_utf8 = is_utf8(encoding)
        self._is_plain = level != "byte"
        self._remedy = remedy
        self._zeros = zeros
        errors = "surrogateescape" if self._is_utf8 and not self._is_plain else "strict"
        self._decoder = make_decoder(encoding, errors)
        self._offset, self._line = 0, 1  # of the bytes that are not decoded yet
        self._begun = not source.begins  # whether there were characters
        self._beyond_ascii = False  # whether some were beyond ASCII
        self._after_cr = False  # a newline that comes next belongs to the end of the last line

    def pieces(self) -> Iterator[str]:
        """Yields the characters."""
        chunks = itertools.chain(self._source.chunks, [b""])
        for chunk in chunks:
            state = self._decoder.getstate()
            data = state[0] + chunk
            if not self._is_utf8 and not self._beyond_ascii:
                self._refuse_utf8(data)
            try:
                text = self._decoder.decode(chunk, not chunk)
            except UnicodeError as error:
                fault = error.start + len(data) - len(error.object) if isinstance(error, UnicodeDecodeError) else 0
                self._decoder.setstate(state)
                before = self._decoder.decode(chunk[: max(0, fault - len(state[0]))], False)
                yield self._finish(before, data)
                raise self._undecodable(data, fault, chunks) from None
            yield self._finish(text, data)
            self._offset += len(data) - len(self._decoder.getstate()[0])

    def _finish(self, text: str, data: bytes) -> str:
        """Drops the mark, makes the ends of lines plain, and counts them."""
        if not text:
            return ""
        if self._is_plain:
            if not self._begun:
                text = text.removeprefix("\ufeff")
            if "\0" in text:
                self._check_zeros(data)
            if self._is_utf8 and "\x1b$" in text and (guess := detect_escaped(data)):
                place = f"an escape at offset {self._offset + data.find(0x1B)}"
                raise UndecodableError(f"{self._source.name}: not UTF-8: {place}; {self._advise(guess)}", guess)
            if "\r" in text or self._after_cr:
                after_cr, self._after_cr = self._after_cr, text.endswith("\r")
                text = (text.removeprefix("\n") if after_cr else text).replace("\r\n", "\n").replace("\r", "\n")
        self._begun = True
        self._beyond_ascii = self._beyond_ascii or not text.isascii()
        self._line += text.count("\n")
        return text

    def _check_zeros(self, data: bytes) -> None:
        """Refuses zero bytes, which UTF-16 without a mark is full of.

        Raises:
            CorpusError: there is such a byte, unless it is taken for a character.
        """
        place = f"a NUL byte at offset {self._offset + max(0, data.find(0))}"
        if self._offset == 0 and (guess := detect_wide(data)):
            raise UndecodableError(f"{self._source.name}: not UTF-8: {place}; {self._advise(guess)}", guess)
        if not self._zeros:
            remedy = "remove it, or set corpus.level: byte to train on bytes"
            raise CorpusError(
                f"{self._source.name}: not a text file ({place}); "
                + (remedy if self._remedy == SETTING else "name a file of text")
            )

    def _refuse_utf8(self, data: bytes) -> None:
        """Refuses UTF-8 where another encoding was named: nearly any would decode it, into nonsense."""
        try:
            text = make_decoder(UTF_8).decode(data, False)
        except UnicodeError:
            return
        if len(re.findall("[^\x00-\x7f]", text)) >= _MIN_UTF8_CHARACTERS:
            raise CorpusError(
                f"{self._source.name}: this file is UTF-8, not {self._encoding}; use `{self._remedy}{AUTO}` to "
                "recognise the encoding of each file"
            )

    def _undecodable(self, data: bytes, fault: int, rest: Iterable[bytes]) -> UndecodableError:
        """Returns what to raise where a byte of `data` cannot be decoded."""
        sample = data
        if self._remedy == SETTING:  # a corpus, for which waiting is no harm
            for chunk in rest:
                sample += chunk
                if len(sample) >= fault + MAX_SAMPLE_BYTES:
                    break
        guess = detect_wide(sample) if self._offset == 0 else None
        line = data.rfind(b"\n", 0, fault) + 1
        sample = sample[line:][:MAX_SAMPLE_BYTES]
        if guess is None and self._is_mostly_utf8(sample):
            advice = "most of it is UTF-8: it is damaged here, or it was joined from files of different encodings"
            if self._source.is_file:
                advice += f"; `iconv -c -f utf-8 -t utf-8 {quote_path(self._source.name)}` removes such bytes"
        else:
            guess = guess or detect(sample, begins=self._offset + line == 0)
            advice = self._advise(guess)
        if self._remedy == SETTING:
            advice += "; to train on the bytes as they are, set corpus.level: byte"
        name = "UTF-8" if self._is_utf8 else self._encoding
        return UndecodableError(
            f"{self._source.name}: not {name}: byte 0x{data[fault]:02x} at offset {self._offset + fault} "
            f"(line {self._line}); {advice}",
            guess,
        )

    def _is_mostly_utf8(self, sample: bytes) -> bool:
        text = sample.decode(UTF_8, "replace")
        n_faults = text.count("\N{REPLACEMENT CHARACTER}")
        n_good = len(re.findall("[^\x00-\x7f\ufffd]", text))
        return (self._is_utf8 and self._beyond_ascii and self._offset > MAX_SAMPLE_BYTES) or n_good > 4 * n_faults

    def _advise(self, guess: Guess | None) -> str:
        """Says which encoding it may be, and the ways out."""
        if guess is None:
            encoding, found = "NAME", "its encoding was not recognised; if you know it,"
        else:
            encoding = guess.encoding
            found = f"it is {guess.sureness} {guess.label}: a line then reads “{guess.reads}”; if that is right,"
        advice = f"{found} use `{self._remedy}{encoding}`"
        if self._source.is_file:
            advice += f", or convert the file with `iconv -f {encoding} -t utf-8 {quote_path(self._source.name)}`"
        return advice
