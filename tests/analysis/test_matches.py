"""The longest context that a training text has: in small texts it is evident."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.analysis.characters import Characters
from charlm.analysis.matches import LONGEST_CONTEXT, Match, find_matches
from charlm.text.corpus import Split
from charlm.text.vocabulary import Vocabulary

LETTERS = Vocabulary.build("abcdefghijklmnopqrstuvwxyz .\n")
LINES = Vocabulary.build("abcdefghijklmnopqrstuvwxyz .\n", framing="lines")


def characters(*parts: str, vocabulary: Vocabulary = LETTERS) -> Characters:
    starts = np.cumsum([0, *map(len, parts)])[:-1].tolist()
    text = "".join(parts)
    return Characters.of(vocabulary, Split(vocabulary.encode(text), len(text), len(text), tuple(starts)))


def match_last(training: Characters, text: Characters, *, lines: bool = False) -> Match | None:
    return find_matches(training, text, lines=lines)[-1]


def test_the_longest_context_is_found_with_what_stands_around_it() -> None:
    match = match_last(characters("the boat sees a boat has it. a boat has."), characters("we say a boat h"))
    assert match == Match(
        length=8,  # " a boat " and not the first "boat ", which sees follows
        before="the boat sees a boat ",
        after="as it. a boat has.",
        position=21,
        followed_by="h",
        agrees=True,
    )


def test_a_place_that_is_followed_by_the_true_character_is_preferred() -> None:
    training = characters("my cat, my cow, my cod")
    both = find_matches(training, characters("my ca"), lines=False)[-1], match_last(training, characters("my cod"))
    assert [(m.length, m.position, m.followed_by, m.agrees) for m in both if m] == [
        (4, 4, "a", True),
        (5, 21, "d", True),
    ]
    other = match_last(training, characters("my cx"))
    assert other
    assert (other.length, other.position, other.followed_by, other.agrees) == (4, 4, "a", False)


def test_what_the_training_text_lacks_has_no_context() -> None:
    found = find_matches(characters("aaaa"), characters("ab", "za"), lines=False)
    assert [match and match.length for match in found] == [None, 1, None, None]


def test_a_match_does_not_reach_across_the_parts_of_a_stream() -> None:
    joined, apart = characters("one two three"), characters("one tw", "o three")
    text = characters("one two t")
    whole, cut = match_last(joined, text), match_last(apart, text)
    assert whole
    assert cut
    assert (whole.length, whole.before, cut.length, cut.before) == (8, "one two ", 2, "o ")
    assert cut.position == whole.position == 8
    assert cut.after == "hree"
    end = match_last(characters("xone", "two"), characters("onet"))
    assert end
    assert (end.length, end.followed_by, end.after, end.agrees) == (3, "", "", False)
    new_part = find_matches(joined, characters("one ", "two"), lines=False)[4]
    assert new_part is None, "nothing stands before the first character of a part"


def test_a_match_does_not_reach_across_lines_but_knows_their_beginning() -> None:
    training = characters("ana\nanna\nbea\n", vocabulary=LINES)
    found = find_matches(training, characters("anna\nab\n", vocabulary=LINES), lines=True)
    assert [match and (match.length, match.before, match.followed_by, match.agrees) for match in found] == [
        (1, "\n", "a", True),
        (2, "\na", "n", True),
        (3, "\nan", "n", True),
        (4, "\nann", "a", True),
        (5, "\nanna", "\n", True),
        (1, "\n", "a", True),
        (2, "\na", "n", False),
        (1, "\nb", "e", False),
    ]
    assert [match.position for match in found if match] == [0, 1, 6, 7, 8, 0, 1, 10]
    assert found[4]
    assert found[4].after == ""


def test_contexts_end_at_sixty_characters() -> None:
    text = "abcdefghij" * 9
    match = match_last(characters(text + "k"), characters(text + "k"))
    assert match
    assert (match.length, len(match.before)) == (LONGEST_CONTEXT, LONGEST_CONTEXT)
    assert (match.position, match.agrees) == (90, True)


def test_unknown_characters_match_nothing() -> None:
    known = Vocabulary.build("ab")
    found = find_matches(characters("aXab", vocabulary=known), characters("aXaYb", vocabulary=known), lines=False)
    assert [match and match.length for match in found] == [None, 1, None, 1, None]
    assert found[1]
    assert found[1].followed_by == "\N{REPLACEMENT CHARACTER}"
    assert not found[1].agrees, "two unknown characters need not be the same"


def test_an_empty_training_text_has_nothing() -> None:
    assert find_matches(characters(""), characters("abc"), lines=False) == [None] * 3


@pytest.mark.parametrize("alphabet", ["ab", "abc"])
@given(data=st.data())
def test_matches_are_those_of_a_plain_search(alphabet: str, data: st.DataObject) -> None:
    training = data.draw(st.lists(st.text(alphabet, min_size=1, max_size=40), min_size=1, max_size=4))
    text = data.draw(st.text(alphabet, min_size=1, max_size=20))
    for place, match in enumerate(find_matches(characters(*training), characters(text), lines=False)):
        lengths = [n for n in range(1, place + 1) if any(text[place - n : place] in part for part in training)]
        length = max(lengths, default=0)
        assert (match.length if match else 0) == length
        if match:
            context = text[place - length : place]
            assert match.before.endswith(context)
            assert match.agrees == any(context + text[place] in part for part in training)
            assert match.agrees == (match.followed_by == text[place])
