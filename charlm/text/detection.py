"""Which encoding a text is in that is not UTF-8: a guess, how sure it is, and how the text reads in it.

UTF-16 and UTF-32 are recognised here, with and without a byte order mark, and what switches by escapes (ISO-2022).
For all others charset-normalizer is
asked, among the encodings that files are really found in; of several siblings the one that covers the others is
named, such as GB18030 for GB2312. Short texts mislead it, so a second opinion counts the frequent characters of the
languages that use an encoding; where the two disagree, the guess says that it is not sure.
"""

from __future__ import annotations

import codecs
import re
from itertools import pairwise
from typing import NamedTuple

MAX_SAMPLE_BYTES = 1 << 16  # of a text, examined
_MAX_SHOWN_CHARACTERS = 60
_FEW_CHARACTERS = 12  # beyond ASCII, too few to be sure
_FEW_LETTERS = 4  # fewer without a blank are no text
_VERY_FEW_CHARACTERS = 5  # too few for more than a guess


class Guess(NamedTuple):
    """An encoding that a text may be in.

    Attributes:
        encoding: a name that both Python and iconv know.
        label: the name with the scripts it is used for.
        sureness: `almost certainly`, `probably` or `perhaps`.
        reads: a line of the text, decoded.
    """

    encoding: str
    label: str
    sureness: str
    reads: str


class _Known(NamedTuple):
    label: str
    frequent: tuple[str, ...]  # for each language: its frequent characters beyond ASCII, of alphabets in this order
    expected: float  # their usual share of the characters beyond ASCII
    mixes: bool = False  # whether they stand beside Latin letters in one word, as accented letters do


_HAN = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事"
    "成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此"
    "已工使情明性知全三又关点正业外将两高间由问很最重新什话老水手走给今书名位请早晚吃喝见听做打儿四五六七八九二百千车门口"
)
_HAN_TRADITIONAL = (
    "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡用道行所然家種事"
    "成方多經麼去法學如都同現當沒動面起看定天分還進好小部其些主樣理心她本前開但因只從想實日軍者意無力它與長把機十民第公此"
    "已工使情明性知全三又關點正業外將兩高間由問很最重新什話老水手走給今書名位請早晚吃喝見聽做打兒四五六七八九二百千車門口"
)
_KANA = (
    "あいうえおかがきぎくぐけげこごさしじすずせそただちっつてでとどなにねの"
    "はばひびふへほまみむめもやよらりるれろわをんー"
)
_HANGUL = (
    "이다는의에을가고하지를한은로도사기자있어나리서대인그시아해들"
    "수것정게과일보스전부라으주여상니와장만면제원구안무우오성"
)
_RUSSIAN = "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфё"
_UKRAINIAN = "оаинвіетрсдлкупмязьбгчйхїжцюєшщфґ"
_TYPOGRAPHY = "«»„“”‚‘’–—…€§°·"
_CJK_MARKS = "，。、！？：；（）「」『』《》“”‘’…—・～"
_GREEK = "αοιετνσηυρπκμλςωγδχθφβξζψάέήίόύώ"
_ARABIC = "اليومنترهبةعدسفكقحجشطصخأىضغذثزءظئإآؤ"
_WESTERN = ("éèàêçùâîôûëïœÉÀÇÊ", "äöüßÄÖÜ", "áéíóúñü¿¡Á", "ãõçáéíóúâêôà", "åäöÅÄÖé", "æøåÆØÅé", "àèéìòùÈ", "éëïóöü")
_CENTRAL = ("ąćęłńóśźżŁŚŹ", "áčďéěíňóřšťúůýžČŘŠŽ", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüűÁÉ", "ăâîşţ", "čćđšžČŠŽ")
_KNOWN = {
    "gb18030": _Known("gb18030 (Chinese)", (_HAN,), 0.5),
    "cp950": _Known("cp950 (Big5, traditional Chinese)", (_HAN_TRADITIONAL,), 0.5),
    "big5-hkscs": _Known("big5-hkscs (Big5 of Hong Kong)", (_HAN_TRADITIONAL,), 0.5),
    "cp932": _Known("cp932 (Shift-JIS, Japanese)", (_KANA,), 0.5),
    "euc-jp": _Known("euc-jp (Japanese)", (_KANA,), 0.5),
    "cp949": _Known("cp949 (EUC-KR, Korean)", (_HANGUL,), 0.5),
    "cp1251": _Known("cp1251 (Cyrillic)", (_RUSSIAN, _UKRAINIAN), 0.9),
    "iso-8859-5": _Known("iso-8859-5 (Cyrillic)", (_RUSSIAN, _UKRAINIAN), 0.9),
    "koi8-r": _Known("koi8-r (Cyrillic)", (_RUSSIAN,), 0.9),
    "koi8-u": _Known("koi8-u (Cyrillic, Ukrainian)", (_UKRAINIAN,), 0.9),
    "cp866": _Known("cp866 (Cyrillic, DOS)", (_RUSSIAN,), 0.9),
    "mac-cyrillic": _Known("mac-cyrillic (Cyrillic, Mac OS)", (_RUSSIAN,), 0.9),
    "cp1253": _Known("cp1253 (Greek)", (_GREEK,), 0.9),
    "cp1252": _Known("cp1252 (Western European)", _WESTERN, 0.95, True),
    "cp1250": _Known("cp1250 (Central European)", _CENTRAL, 0.95, True),
    "iso-8859-2": _Known("iso-8859-2 (Central European)", _CENTRAL, 0.95, True),
    "cp1254": _Known("cp1254 (Turkish)", ("çğıİöşüâÇÖŞÜ",), 0.95, True),
    "cp1255": _Known("cp1255 (Hebrew)", ("יוהלאתרבשמנחעדקפסגטזכצםןךףץ",), 0.95),
    "cp1256": _Known("cp1256 (Arabic)", (_ARABIC,), 0.95),
    "iso-8859-6": _Known("iso-8859-6 (Arabic)", (_ARABIC,), 0.95),
    "tis-620": _Known("tis-620 (Thai)", ("านรอกเงมยลวดทตสปบคหจพชขใไแโะ่้ิีัุู์",), 0.95),
    "cp850": _Known("cp850 (Western European, DOS)", _WESTERN, 0.95, True),
    "cp852": _Known("cp852 (Central European, DOS)", _CENTRAL, 0.95, True),
    "macintosh": _Known("macintosh (Western European, Mac OS)", _WESTERN, 0.95, True),
}
_LIKELY = re.compile(
    "[\t\n\r -~\xa0-\u06ff\u0e00-\u0e7f\u1e00-\u206f\u20ac\u3000-\u30ff\u4e00-\u9fff\uac00-\ud7a3\uff00-\uffef]"
)
_INSIDE_LATIN = re.compile("(?<=[A-Za-z])[^\x00-\xbf]|[^\x00-\xbf](?=[A-Za-z])")
_LETTER = "[A-Za-z\xc0-\u04ff]"
_MISPLACED = re.compile(f"(?<={_LETTER})(?:[„‚]|[“”‘«»§°·€](?={_LETTER}))")
_MOST_FREQUENT = 10  # letters, by which alphabets are told apart
_ESCAPES = (b"\x1b$B", "iso-2022-jp"), (b"\x1b$@", "iso-2022-jp"), (b"\x1b$)C", "iso-2022-kr")
_WIDE = ("utf-32le", "utf-32be", "utf-16le", "utf-16be")
# Those that decode the same text with the same result; only the first of them that decodes it is considered.
_SIBLINGS = {"big5-hkscs": "cp950"}
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def detect(data: bytes, *, begins: bool = True) -> Guess | None:
    """Guesses the encoding of bytes that are not UTF-8, whose last character may be cut off; None: none fits.

    Args:
        data: the bytes.
        begins: whether a text begins with them: only there it may have the mark of UTF-16 or UTF-32.
    """
    if begins and (guess := detect_wide(data)):
        return guess
    if b"\0" in data:
        return None
    data = data[:MAX_SAMPLE_BYTES]
    texts: dict[str, str] = {}
    for encoding in _KNOWN:
        if _SIBLINGS.get(encoding) not in texts and (text := _decode(data, encoding)) is not None:
            texts[encoding] = text
    if not texts:
        return None
    scores = {encoding: _plausibility(text, _KNOWN[encoding]) for encoding, text in texts.items()}
    is_ascii_but_for_few = sum(byte > 0x7F for byte in data) < _VERY_FEW_CHARACTERS

    def rank(encoding: str) -> tuple[float, bool, float]:
        accented = is_ascii_but_for_few and _KNOWN[encoding].mixes  # a lone é is likelier than a lone й
        known = _KNOWN[encoding]
        order = scores[encoding] if known.mixes else _share_of_letters(texts[encoding], known)
        return min(1.0, scores[encoding]), accented, order

    by_characters = max(scores, key=rank)
    by_library = _ask_charset_normalizer(data, list(texts))
    best = by_characters if scores[by_characters] >= 0.5 or by_library is None else by_library
    agreed = by_library is not None and texts[by_library] == texts[best]
    n_beyond_ascii = sum(char > "\x7f" for char in texts[best])
    if scores[best] >= 0.75 and agreed and n_beyond_ascii >= _FEW_CHARACTERS:
        sureness = "almost certainly"
    elif n_beyond_ascii >= _VERY_FEW_CHARACTERS and (scores[best] >= 0.75 or (agreed and scores[best] >= 0.5)):
        sureness = "probably"
    else:
        sureness = "perhaps"
    return Guess(best, _KNOWN[best].label, sureness, _line_beyond_ascii(texts[best]))


def detect_wide(data: bytes) -> Guess | None:
    """Recognises UTF-16 and UTF-32, by their mark or else by characters that are likely in a text."""
    data = data[:MAX_SAMPLE_BYTES]
    for mark, encoding in _MARKS:
        if data.startswith(mark) and (text := _decode(data, encoding)) is not None:
            return Guess(encoding, encoding, "almost certainly", _line_beyond_ascii(text.removeprefix("\ufeff")))
    if b"\0" not in data:
        return None
    texts = {encoding: text for encoding in _WIDE if (text := _decode(data, encoding)) and _is_likely_text(text)}
    if not texts:
        return None
    # A script is a row or a few of them; with the bytes exchanged, rows would be as many as letters.
    encoding = min(texts, key=lambda name: len({ord(char) >> 8 for char in texts[name]}))
    text = texts[encoding]
    sureness = "almost certainly" if len(text) >= _FEW_CHARACTERS else "probably"
    return Guess(encoding, encoding, sureness, _line_beyond_ascii(text))


def detect_escaped(data: bytes) -> Guess | None:
    """Recognises ISO-2022, which is ASCII to look at: escapes say what the bytes behind them mean."""
    data = data[:MAX_SAMPLE_BYTES]
    for escape, encoding in _ESCAPES:
        if escape in data and (text := _decode(data, encoding)) and not text.isascii():
            return Guess(encoding, encoding, "almost certainly", _line_beyond_ascii(text))
    return None


def _decode(data: bytes, encoding: str) -> str | None:
    try:
        return codecs.getincrementaldecoder(encoding)().decode(data, False)
    except UnicodeError:
        return None


def _plausibility(text: str, known: _Known) -> float:
    """Compares the share of frequent characters with the usual one: 0: none of them; 1: as usual."""
    beyond_ascii = [char for char in text if char > "\x7f"]
    if not beyond_ascii:
        return 0.0
    if any(0x80 <= ord(char) < 0xA0 for char in beyond_ascii):
        return 0.0  # control characters, which no text has
    letters = [char for char in beyond_ascii if char not in _CJK_MARKS] or beyond_ascii
    most = max(sum(map((frequent + _TYPOGRAPHY).__contains__, letters)) for frequent in known.frequent)
    if not known.mixes:
        most -= len(_INSIDE_LATIN.findall(text))
    most -= len(_MISPLACED.findall(text)) + sum(
        a.islower() and b.isupper() for a, b in pairwise(text) if b > "\x7f"
    )
    return most / len(letters) / known.expected


def _share_of_letters(text: str, known: _Known) -> float:
    """Returns the share of a language's letters beyond ASCII; the most frequent ones count twice."""
    chars = [char for char in text.lower() if char > "\x7f"]
    counts = (sum((c in order) + (c in order[:_MOST_FREQUENT]) for c in chars) for order in known.frequent)
    return max(counts) / max(1, len(chars))


def _ask_charset_normalizer(data: bytes, encodings: list[str]) -> str | None:
    from charset_normalizer import from_bytes  # here, since few texts need it

    names = {codecs.lookup(encoding).name.replace("-", "_"): encoding for encoding in encodings}
    found = from_bytes(data, cp_isolation=list(names)).best()
    return None if found is None else names.get(codecs.lookup(found.encoding).name.replace("-", "_"))


def _is_likely_text(text: str) -> bool:
    """Whether nearly all characters are of scripts in use, with blanks or ends of lines, or else mostly letters."""
    if "\0" in text:
        return False
    if not re.search("[\n\r \u3000]", text) and sum(map(str.isalpha, text)) < max(_FEW_LETTERS, 0.7 * len(text)):
        return False
    return len(_LIKELY.findall(text)) >= 0.98 * len(text)


def _line_beyond_ascii(text: str) -> str:
    """Returns a line to judge a decoding by: the first that has characters beyond ASCII, near them."""
    lines = [line.strip() for line in re.split("[\r\n]+", text)]
    line = next((line for line in lines if not line.isascii()), next(filter(None, lines), ""))
    first = next((i for i, char in enumerate(line) if char > "\x7f"), 0)
    begin = first - _MAX_SHOWN_CHARACTERS // 3 if first > _MAX_SHOWN_CHARACTERS // 2 else 0
    shown = line[begin : begin + _MAX_SHOWN_CHARACTERS]
    return ("…" if begin else "") + shown + ("…" if begin + len(shown) < len(line) else "")
