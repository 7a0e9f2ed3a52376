"""Whether a text is lines or a stream, found out from its beginning."""

import json
import random
from collections.abc import Callable

import pytest

from charlm.text.framing import find_framing, judge

Rng = random.Random
# ruff: noqa: SIM905 (words are easier to read in one text)
SYLLABLES = "ka ri mo len ta vi sor na bel du fi gar ho ja pe ul wen xi yo zan co er qui is".split()
WORDS = (
    "the river under old bridge carried little boats toward sea and nobody who lived there had ever asked "
    "why it ran so fast in spring when snow was gone but children knew that water remembers every stone"
).split()
NAMES = "Anna Boris Clara Dmitri Élodie Farid Greta Hiroshi Ines Jonas".split()
HANZI = "我你他她在画水山大小人天地风雨花鸟鱼书桌走看听说想去来吃喝好高长的了是不有和这那里上下月"
EMOJI = "😀 😂 ❤️ 👍 🎉 🙏 🔥".split()


def word(rng: Rng) -> str:
    return "".join(rng.choices(SYLLABLES, k=rng.choice([1, 2, 2, 3])))


def clause(rng: Rng) -> str:
    return " ".join(rng.choices(WORDS, k=6))


def sentence(rng: Rng, shortest: int = 6, longest: int = 18) -> str:
    words = rng.choices(WORDS, k=rng.randint(shortest, longest))
    if len(words) > 9 and rng.random() < 0.5:
        words[len(words) // 2] += ","
    return words[0].capitalize() + " " + " ".join(words[1:]) + rng.choice(".....?!")


def hanzi(rng: Rng, shortest: int, longest: int) -> str:
    return "".join(rng.choices(HANZI, k=rng.randint(shortest, longest)))


def chinese_sentence(rng: Rng) -> str:
    return "，".join(hanzi(rng, 4, 10) for _ in range(rng.randint(1, 3))) + rng.choice("。。。？！")


def wrap(text: str, width: int) -> list[str]:
    lines, line = [], ""
    for each in text.split():
        if line and len(line) + 1 + len(each) > width:
            lines.append(line)
            line = ""
        line = f"{line} {each}" if line else each
    return [*lines, line]


# --- Lines


def names(rng: Rng) -> list[str]:
    return [word(rng).capitalize() for _ in range(300)]


def full_names(rng: Rng) -> list[str]:
    return [f"{rng.choice(NAMES)} {word(rng).capitalize()}" for _ in range(300)]


def sorted_words(rng: Rng) -> list[str]:
    return sorted({word(rng) for _ in range(600)})


def chinese_words(rng: Rng) -> list[str]:
    return [hanzi(rng, 1, 4) for _ in range(400)]


def mixed_words(rng: Rng) -> list[str]:
    return [hanzi(rng, 1, 4) if rng.random() < 0.4 else word(rng) for _ in range(400)]


def dictionary(rng: Rng) -> list[str]:
    return [f"{hanzi(rng, 1, 3)}\t{word(rng)} {word(rng)}" for _ in range(300)]


def verses(rng: Rng) -> list[str]:
    return [" ".join(rng.choices(WORDS, k=rng.randint(5, 9))).capitalize() + rng.choice(",.;,") for _ in range(200)]


def chinese_sentences(rng: Rng) -> list[str]:
    return [chinese_sentence(rng) for _ in range(200)]


def chinese_poems(rng: Rng) -> list[str]:
    return [f"{hanzi(rng, 5, 5)}，{hanzi(rng, 5, 5)}。" for _ in range(200)]


def sentences(rng: Rng) -> list[str]:
    return [sentence(rng) for _ in range(300)]


def tokenized_sentences(rng: Rng) -> list[str]:
    return [sentence(rng).lower().replace(",", " ,")[:-1] + " ." for _ in range(300)]


def spoken_sentences(rng: Rng) -> list[str]:
    return [" ".join(rng.choices(WORDS, k=rng.randint(2, 12))) for _ in range(300)]  # as ASR has them


def json_lines(rng: Rng) -> list[str]:
    return [
        json.dumps({"id": i, "text": " ".join(sentence(rng) for _ in range(rng.randint(1, 6)))}) for i in range(100)
    ]


def csv(rng: Rng) -> list[str]:
    return ["id,name,text", *(f'{i},{rng.choice(NAMES)},"{sentence(rng)}"' for i in range(100))]


def csv_by_name(rng: Rng) -> list[str]:
    return ["name,city,text", *(f"{rng.choice(NAMES)},{word(rng)},{sentence(rng)}" for i in range(100))]


def tsv(rng: Rng) -> list[str]:
    return [f"{word(rng)}\t{rng.random():.4f}\t{sentence(rng)}" for _ in range(100)]


def logs(rng: Rng) -> list[str]:
    levels = ["INFO", "WARN", "ERROR"]
    return [
        f"2026-03-{i % 28 + 1:02} 12:{i % 60:02}:07 {rng.choice(levels)} {word(rng)}: {clause(rng)}"
        for i in range(200)
    ]


def system_logs(rng: Rng) -> list[str]:
    return [
        f"Mar {i % 28 + 1} 12:00:07 host {word(rng)}[{i}]: {' '.join(rng.choices(WORDS, k=6))}" for i in range(200)
    ]


def web_logs(rng: Rng) -> list[str]:
    return [f'10.0.{i % 9}.7 - - [01/Mar/2026] "GET /{word(rng)} HTTP/1.1" 200 {i}' for i in range(200)]


def chat(rng: Rng) -> list[str]:
    return [
        f"[{i % 24:02}:{i % 60:02}] {rng.choice(NAMES)}: {' '.join(rng.choices(WORDS, k=rng.randint(1, 9)))} "
        f"{rng.choice([*EMOJI, '', ''])}".rstrip()
        for i in range(300)
    ]


def chat_by_name(rng: Rng) -> list[str]:
    return [
        f"{rng.choice(NAMES)}: {' '.join(rng.choices(WORDS, k=rng.randint(1, 9)))}{rng.choice([*EMOJI, '!', ''])}"
        for _ in range(300)
    ]


def bible(rng: Rng) -> list[str]:
    return [
        f"Gen {i // 30 + 1}:{i % 30 + 1} {rng.choice(['And', 'For', 'But'])} "
        + "; ".join(sentence(rng).rstrip(".?!").lower() for _ in range(rng.randint(1, 2)))
        + rng.choice(".:;")
        for i in range(300)
    ]


def urls(rng: Rng) -> list[str]:
    return [f"https://{word(rng)}.example/{word(rng)}/{rng.randint(1, 999)}" for _ in range(200)]


def molecules(rng: Rng) -> list[str]:
    return [
        "".join(rng.choices(["C", "c1ccccc1", "N", "O", "(=O)", "Cl", "[nH]"], k=rng.randint(3, 12)))
        for _ in range(200)
    ]


def questions_and_answers(rng: Rng) -> list[str]:
    return [f"{sentence(rng)[:-1]}?\t{sentence(rng)}" for _ in range(150)]


def names_spaced(rng: Rng) -> list[str]:
    return "\n\n".join(names(rng)).split("\n")


def fixed_width_hashes(rng: Rng) -> list[str]:
    return [f"{rng.getrandbits(256):064x}" for _ in range(200)]


def chat_of_short_answers(rng: Rng) -> list[str]:
    return [rng.choice(["?", "...", ":)", "👍", "!", " ".join(rng.choices(WORDS, k=3))]) for _ in range(200)]


def words_with_marks(rng: Rng) -> list[str]:
    return [f"{word(rng)}/{rng.choice('ABC')}" if rng.random() < 0.9 else f"-{word(rng)}" for _ in range(300)]


def titles_in_tags(rng: Rng) -> list[str]:
    return [f"<s>{clause(rng)}</s>" for _ in range(200)]


LINES = [
    names, full_names, sorted_words, chinese_words, mixed_words, dictionary, verses, chinese_sentences,
    chinese_poems, sentences, tokenized_sentences, spoken_sentences, json_lines, csv, csv_by_name, tsv, logs,
    system_logs, web_logs, chat, chat_by_name, bible, urls, molecules, questions_and_answers,
    names_spaced, fixed_width_hashes, chat_of_short_answers, words_with_marks, titles_in_tags,
]  # fmt: skip


# --- Streams


def wrapped_prose(rng: Rng) -> list[str]:
    return wrap(" ".join(sentence(rng) for _ in range(200)), rng.choice([60, 72, 79]))  # no blank line at all


def book(rng: Rng) -> list[str]:
    lines = ["CHAPTER I", ""]
    for _ in range(30):
        lines += [*wrap(" ".join(sentence(rng) for _ in range(rng.randint(2, 8))), 70), ""]
    return lines


def indented_book(rng: Rng) -> list[str]:
    lines = []
    for _ in range(60):
        first, *rest = wrap(" ".join(sentence(rng) for _ in range(rng.randint(2, 6))), 64)
        lines += ["    " + first, *rest]
    return lines


def paragraphs(rng: Rng) -> list[str]:
    return [" ".join(sentence(rng) for _ in range(rng.randint(2, 9))) for _ in range(100)]


def novel_with_dialogue(rng: Rng) -> list[str]:
    def paragraph() -> str:
        if rng.random() < 0.5:
            return f"“{sentence(rng)}” said {rng.choice(NAMES)}."
        return " ".join(sentence(rng) for _ in range(rng.randint(3, 9)))

    return [paragraph() for _ in range(150)]


def chinese_paragraphs(rng: Rng) -> list[str]:
    return ["　　" + "".join(chinese_sentence(rng) for _ in range(rng.randint(3, 8))) for _ in range(80)]


def chinese_paragraphs_without_indent(rng: Rng) -> list[str]:
    return ["".join(chinese_sentence(rng) for _ in range(rng.randint(3, 8))) for _ in range(80)]


def chinese_wrapped(rng: Rng) -> list[str]:
    text = "".join(chinese_sentence(rng) for _ in range(200))
    return [text[i : i + 35] for i in range(0, len(text), 35)]


def python(rng: Rng) -> list[str]:
    lines = ["import os", "", ""]
    for _ in range(30):
        lines += [
            f"def {word(rng)}({word(rng)}, {word(rng)}=None):",
            f'    """{sentence(rng)}"""',
            f"    for {word(rng)} in range({rng.randint(1, 9)}):",
            f"        {word(rng)} = {word(rng)}({word(rng)})",
            f"    return {word(rng)}",
            *([""] * rng.choice([1, 2])),
        ]
    return lines


def c(rng: Rng) -> list[str]:
    lines = ["#include <stdio.h>"]
    for _ in range(40):
        lines += [
            f"int {word(rng)}(int {word(rng)}) {{",
            f"\tif ({word(rng)} > {rng.randint(1, 9)}) {{",
            f"\t\t{word(rng)}({word(rng)});",
            "\t}",
            f"\treturn {word(rng)};",
            "}",
        ]
    return lines


def play(rng: Rng) -> list[str]:
    lines = []
    for _ in range(60):
        lines += [rng.choice(NAMES).upper() + ":", *(sentence(rng, 5, 8) for _ in range(rng.randint(1, 5))), ""]
    return lines


def play_without_blanks(rng: Rng) -> list[str]:
    lines = []
    for _ in range(80):
        lines += [rng.choice(NAMES).upper() + ".", *wrap(" ".join(sentence(rng) for _ in range(3)), 50)]
    return lines


def poems(rng: Rng) -> list[str]:
    lines = []
    for _ in range(40):
        lines += [*verses(rng)[:4], ""]  # stanzas
    return lines


def markdown(rng: Rng) -> list[str]:
    lines = []
    for _ in range(20):
        lines += [f"## {word(rng)}", "", *wrap(sentence(rng) + " " + sentence(rng), 72), ""]
        lines += [*(f"- {' '.join(rng.choices(WORDS, k=4))}" for _ in range(3)), ""]
    return lines


def letters(rng: Rng) -> list[str]:
    lines = []
    for _ in range(25):
        lines += [f"Dear {rng.choice(NAMES)},", "", *wrap(" ".join(sentence(rng) for _ in range(5)), 66), ""]
        lines += ["Yours,", f"    {rng.choice(NAMES)}", ""]
    return lines


def yaml(rng: Rng) -> list[str]:
    lines = []
    for _ in range(60):
        lines += [
            f"{word(rng)}:",
            f"  name: {word(rng)}",
            f"  size: {rng.randint(1, 99)}",
            "  parts:",
            f"    - {word(rng)}",
        ]
    return lines


def subtitles(rng: Rng) -> list[str]:
    lines = []
    for i in range(100):
        lines += [str(i + 1), f"00:00:{i % 60:02},000 --> 00:00:{i % 60:02},900", sentence(rng, 3, 7), ""]
    return lines


def one_long_line(rng: Rng) -> list[str]:
    return [" ".join(rng.choices(WORDS, k=20_000))]  # as text8


def fortunes(rng: Rng) -> list[str]:
    lines = []
    for _ in range(60):
        lines += [*(sentence(rng, 3, 7) for _ in range(rng.randint(1, 5))), "%"]
    return lines


def documents(rng: Rng) -> list[str]:
    lines = []
    for _ in range(60):
        lines += [*(sentence(rng, 3, 7) for _ in range(rng.randint(1, 9))), "<|endoftext|>"]
    return lines


def scenes(rng: Rng) -> list[str]:
    lines = []
    for _ in range(30):
        lines += [*(f"{rng.choice(NAMES)}: {clause(rng)}" for _ in range(rng.randint(1, 9))), "* * *"]
    return lines


def manual(rng: Rng) -> list[str]:
    lines = [".TH NAME 1"]
    for _ in range(60):
        lines += [".TP", f".B {word(rng)}", *wrap(sentence(rng), 60)]
    return lines


def web_page(rng: Rng) -> list[str]:
    lines = ["<html>", "<body>"]
    for _ in range(60):
        lines += ["<p>", *wrap(sentence(rng), 60), "</p>"]
    return lines


def fasta(rng: Rng) -> list[str]:
    lines = []
    for i in range(60):
        lines += [f">sp|{i}| {word(rng)}", *("".join(rng.choices("ACDEFGHIKLMNPQRSTVWY", k=60)) for _ in range(4))]
    return lines


STREAMS = [
    wrapped_prose, book, indented_book, paragraphs, novel_with_dialogue, chinese_paragraphs,
    chinese_paragraphs_without_indent, chinese_wrapped, python, c, play, play_without_blanks, poems, markdown,
    letters, yaml, subtitles, one_long_line, fortunes, documents, scenes, manual, web_page, fasta,
]  # fmt: skip

Maker = Callable[[Rng], list[str]]


@pytest.mark.parametrize(
    ("maker", "framing"),
    [(m, "lines") for m in LINES] + [(m, "stream") for m in STREAMS],
    ids=lambda value: getattr(value, "__name__", value),
)
@pytest.mark.parametrize("ending", ["\n", ""], ids=["ended", "open"])
def test_a_text_is_framed_as_its_kind_is(maker: Maker, framing: str, ending: str) -> None:
    for seed in range(5):
        text = "\n".join(maker(Rng(f"{maker.__name__} {seed}")))
        assert judge(text + ending) == (framing, judge(text)[1])


@pytest.mark.parametrize("maker", LINES, ids=lambda maker: maker.__name__)
def test_lines_that_are_mixed_with_a_few_blank_ones_stay_lines(maker: Maker) -> None:
    lines = maker(Rng("blank"))
    lines.insert(len(lines) // 2, "")
    assert judge("\n".join(["", *lines, "", ""]))[0] == "lines"


def test_of_a_few_lines_nothing_is_said() -> None:
    assert judge("one\ntwo\nthree\n")[0] == "stream"
    assert judge("")[0] == "stream"


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_what_was_looked_at_is_still_read_and_the_note_says_what_was_found_and_how_to_read_it_otherwise(
    size: int,
) -> None:
    for maker, framing, other in ((names, "lines", "stream"), (book, "stream", "lines")):
        text = "\n".join(maker(Rng("read")) * 50)
        notes: list[str] = []
        found, pieces = find_framing((text[i : i + size] for i in range(0, len(text), size)), notes)
        assert found == framing
        assert "".join(pieces) == text
        (note,) = notes
        assert note.startswith(f"framing: {framing} (")
        assert note.endswith(f"; --set corpus.framing={other} changes this")
