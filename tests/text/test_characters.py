"""Characters in messages: each can be told from any other, and none speaks to a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.text.characters import name_character, name_characters


@pytest.mark.parametrize(
    ("char", "name"),
    [
        ("船", "'船' (U+8239)"),
        ("'", '"\'" (U+0027)'),
        (" ", "' ' (U+0020)"),
        ("\x1b", r"'\x1b' (U+001B)"),
        ("\u202e", r"'\u202e' (U+202E)"),
        ("\udce9", r"'\udce9' (U+DCE9)"),
        ("😀", "'😀' (U+1F600)"),
        ("<unk>", "'<unk>'"),
    ],
)
def test_a_character_is_named_by_itself_and_its_code_point(char: str, name: str) -> None:
    assert name_character(char) == name


@given(st.characters(exclude_categories=[]))
def test_any_name_can_be_printed_and_leads_back_to_its_character(char: str) -> None:
    name = name_character(char)
    assert name.isprintable()
    assert chr(int(name.partition("(U+")[2].removesuffix(")"), 16)) == char


def test_many_characters_are_named_as_far_as_they_fit() -> None:
    assert name_characters([]) == ""
    assert name_characters(["a", "b"], 2) == "'a' (U+0061), 'b' (U+0062)"
    assert name_characters(["a", "b", "c", "d"], 2) == "'a' (U+0061), 'b' (U+0062) and 2 more"
    assert name_characters("abcdefghijk").endswith("'j' (U+006A) and 1 more")
