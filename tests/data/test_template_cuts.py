"""Where a prompt that is too long is cut: at its end, and before the mask in the last sentence first."""

import pytest
from transformers import AutoTokenizer

from kronlit.modules.template import Template, pieces

WORDS = ("The cat sat on the house", "A dog ran")
FIRST, SECOND = ["The", "Ġcat", "Ġsat", "Ġon", "Ġthe", "Ġhouse"], ["A", "Ġdog", "Ġran"]


@pytest.fixture
def cut(mlm_roberta):
    """The tokens of a row of two sentences before the mask, and where the mask is, at most `max_length` long."""
    words = AutoTokenizer.from_pretrained(mlm_roberta)

    def cut(max_length, template="*cls**sent_0**sent_1**mask*.*sep+*", limits=(None, None)):
        (tokens,), (position,) = Template(template, 2, words).queries([[w] for w in WORDS], max_length, *limits)
        tokens = words.convert_ids_to_tokens(tokens)
        assert tokens[position] == "<mask>"
        return tokens

    return cut


@pytest.mark.parametrize(
    ("max_length", "first", "second", "tail"),
    [
        (99, 6, 3, 2),
        (13, 6, 3, 2),  # as long as it is: nothing is cut
        (12, 6, 3, 1),
        (11, 6, 3, 0),  # the mask is the last token
        (10, 6, 2, 0),
        (9, 6, 1, 0),
        (8, 6, 0, 0),
        (7, 5, 0, 0),  # the second sentence is gone, and so the first is cut
        (3, 1, 0, 0),
        (2, 0, 0, 0),
    ],
)
def test_the_tail_goes_first_and_then_the_end_of_the_sentence_nearest_to_the_mask(cut, max_length, first, second, tail):
    assert cut(max_length) == ["<s>", *FIRST[:first], *SECOND[:second], "<mask>", *[".", "</s>"][:tail]]


def test_a_sentence_after_the_mask_loses_its_end_alone(cut):
    assert cut(9, "*cls**sent_0**mask**sent_1**sep+*") == ["<s>", *FIRST, "<mask>", "A"]
    assert cut(7, "*cls**sent_0**mask**sent_1**sep+*") == ["<s>", *FIRST[:5], "<mask>"]


def test_limits_keep_the_beginning_of_each_sentence(cut):
    assert cut(99, limits=(2, 1)) == ["<s>", *FIRST[:2], *SECOND[:1], "<mask>", ".", "</s>"]


def test_a_row_with_demonstrations_loses_the_end_of_them(mlm_roberta):
    template = Template("*cls**sent_0*_It*mask*.*sep+*", 1, AutoTokenizer.from_pretrained(mlm_roberta))
    joined = template.join([1, 2, 3], [[4, 5], [6, 7, 8]], 7, 2)
    assert joined == {
        "input_ids": [1, 2, 3, 4, 5, 6, 7],
        "attention_mask": [1] * 7,
        "token_type_ids": [0, 0, 0, 1, 1, 1, 1],
    }


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("sent_0", "the Cat."),
        ("sent-_0", "the Cat"),
        ("sentu-_0", "The Cat"),
        ("+sentl_0", " the Cat."),
        ("+sent-_0", " the Cat"),
    ],
)
def test_a_sentence_loses_its_last_character_where_its_variable_says_so(variable, said):
    (piece, *_) = (piece for piece in pieces(f"*cls**{variable}**mask*", 1) if piece.sentence == 0)
    assert piece.fill_in("the Cat.") == said
