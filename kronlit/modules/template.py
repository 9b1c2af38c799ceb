"""Templates of prompts in the syntax of Gao et al., LM-BFF, 2021, arXiv:2012.15723, as their code tokenises them.

Variables stand between pairs of `*`. All else is text, in which `_` means a space:

- `cls`, `mask`, `sep`: the model's special tokens; after `sep+` the next segment begins.
- `sent_0`, `sent_1`: the row's first and second sentence. `sentl_` has its first letter in lower case, `sentu_` in
  upper case. `sent-_` lacks its last character, whatever that is. A `+` before any of these adds a space.

Each piece is tokenised separately, and a text of one character is the token of that character. A T5 has no `cls`; its
`sep` is the end-of-sequence token, and its `mask` is `<extra_id_0>`.
"""

import re
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from kronlit.config.user_error import UserError

SPECIAL = ("cls", "mask", "sep", "sep+")
SENTENCE = re.compile(r"(\+?)sent([lu]?)(-?)_(\d+)")
SPAN_TOKEN = "<extra_id_0>"


@dataclass(frozen=True)
class Piece:
    """A piece of a template.

    Args:
        special: cls, mask, sep or sep+, for a special token.
        text: the text, for a piece of text.
        sentence: number of the sentence, for a sentence.
        letter: l or u: lower or upper case for the sentence's first letter.
        cut: whether the sentence loses its last character.
        space: whether a space comes before the sentence.
    """

    special: str = ""
    text: str = ""
    sentence: int | None = None
    letter: str = ""
    cut: bool = False
    space: bool = False

    def fill_in(self, sentence: str) -> str:
        """The sentence in the form that this piece gives it."""
        first = {"l": str.lower, "u": str.upper}.get(self.letter, str)(sentence[:1])
        sentence = first + sentence[1:]
        return " " * self.space + (sentence[:-1] if self.cut else sentence)


def pieces(template: str, num_sentences: int) -> tuple[Piece, ...]:
    """The pieces of a template over rows of `num_sentences` sentences.

    Raises:
        ValueError: if it is not in LM-BFF's syntax, or does not have exactly one mask.
    """
    parts = template.split("*")
    rule = f"`model.template`={template!r}"
    if len(parts) % 2 == 0 or any(text in SPECIAL or SENTENCE.fullmatch(text) for text in parts[::2]):
        raise UserError(f"{rule} must have its variables between pairs of `*`, as in '*cls**sent_0*_It_was*mask*.'.")
    found = []
    for number, part in enumerate(parts):
        match = SENTENCE.fullmatch(part)
        if number % 2 == 0:
            found.append(Piece(text=part.replace("_", " ")))
        elif part in SPECIAL:
            found.append(Piece(special=part))
        elif match and int(match[4]) < num_sentences:
            found.append(Piece("", "", int(match[4]), match[2], bool(match[3]), bool(match[1])))
        else:
            names = ", ".join((*SPECIAL, *(f"sent_{i}" for i in range(num_sentences))))
            raise UserError(f"{rule} has the variable {part!r}; there are {names}, and forms of the latter.")
    if sum(piece.special == "mask" for piece in found) != 1:
        raise UserError(f"{rule} must have one mask, which stands for the answer.")
    return tuple(found)


class Template:
    """A template with a tokenizer, which turns rows of sentences into tokens with a mask or an answer.

    Args:
        template: the template, in the syntax above.
        num_sentences: number of sentences of each row.
        tokenizer: the model's tokenizer.

    Raises:
        ValueError: if the template is not valid, or the tokenizer has no mask.
    """

    def __init__(self, template: str, num_sentences: int, tokenizer: PreTrainedTokenizerBase) -> None:
        self.pieces = pieces(template, num_sentences)
        self.tokenizer = tokenizer
        self.mask_id = mask_id(tokenizer)
        self.segments = sum(piece.special == "sep+" for piece in self.pieces)

    def queries(
        self, columns: list[list[str]], max_length: int, first_limit: int | None, other_limit: int | None
    ) -> tuple[list[list[int]], list[int]]:
        """Tokens of each row, cut to `max_length` at the end, and the position of the mask in each.

        If that would cut off the mask, the sentences before it are cut instead.
        """
        tokens, positions = [], []
        for row in self._rows(columns, first_limit, other_limit, [self.mask_id] * len(columns[0])):
            before = next(number for number, piece in enumerate(self.pieces) if piece.special == "mask")
            excess = sum(map(len, row[: before + 1])) - max_length
            for number in reversed(range(before)):
                if excess > 0 and self.pieces[number].sentence is not None:
                    kept = max(0, len(row[number]) - excess)
                    excess -= len(row[number]) - kept
                    row[number] = row[number][:kept]
            tokens.append([token for part in row for token in part][:max_length])
            positions.append(sum(map(len, row[:before])))
        return tokens, positions

    def demonstrations(self, columns: list[list[str]], limit: int | None, answers: list[int]) -> list[list[int]]:
        """Tokens of each row without `cls`, with the token of the answer in place of the mask."""
        rows = self._rows(columns, limit, limit, answers)
        begins = [piece.special == "cls" for piece in self.pieces]
        return [[token for begin, part in zip(begins, row, strict=True) if not begin for token in part] for row in rows]

    def join(
        self, query: list[int], shown: list[list[int]], max_length: int, num_segments: int
    ) -> dict[str, list[int]]:
        """A row and its demonstrations as one input, cut to `max_length` at the end."""
        tokens, segments = list(query), [0] * len(query)
        for number, demonstration in enumerate(shown, 1):
            tokens += demonstration
            # LM-BFF gives BERT more segments with random embeddings; a frozen model uses only those that it has.
            segments += [min(number * self.segments, num_segments - 1)] * len(demonstration)
        tokens = tokens[:max_length]
        return {"input_ids": tokens, "attention_mask": [1] * len(tokens), "token_type_ids": segments[:max_length]}

    def _rows(
        self, columns: list[list[str]], first_limit: int | None, other_limit: int | None, answers: list[int]
    ) -> list[list[list[int]]]:
        """The tokens of each piece of each row."""
        by_piece: list[list[list[int]]] = []
        for piece in self.pieces:
            if piece.special == "mask":
                by_piece.append([[answer] for answer in answers])
            elif piece.sentence is None:
                by_piece.append([self._fixed(piece)] * len(answers))
            else:
                limit = first_limit if piece.sentence == 0 else other_limit
                said = [piece.fill_in(sentence) for sentence in columns[piece.sentence]]
                each = self.tokenizer(said, add_special_tokens=False)["input_ids"]
                by_piece.append([tokens[:limit] for tokens in each])
        return [list(row) for row in zip(*by_piece, strict=True)]

    def _fixed(self, piece: Piece) -> list[int]:
        """The tokens of a special token or a text."""
        tokenizer = self.tokenizer
        if piece.special:
            last = tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id
            token = tokenizer.cls_token_id if piece.special == "cls" else last
            return [] if token is None else [token]
        if len(piece.text) == 1 and piece.text in tokenizer.get_vocab():
            return [tokenizer.convert_tokens_to_ids(piece.text)]
        return tokenizer.encode(piece.text, add_special_tokens=False) if piece.text else []


def mask_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the token that stands for the answer.

    Raises:
        ValueError: if there is none.
    """
    if tokenizer.mask_token_id is not None:
        return tokenizer.mask_token_id
    if SPAN_TOKEN in tokenizer.get_vocab():
        return tokenizer.convert_tokens_to_ids(SPAN_TOKEN)
    raise UserError(
        f"`model.plm`={tokenizer.name_or_path!r} has neither a mask token nor {SPAN_TOKEN}: a prompt needs a masked "
        "language model or a T5."
    )


def word_ids(tokenizer: PreTrainedTokenizerBase, words: dict[str, str], first: bool) -> list[int]:
    """The token of each word with a space before it, in the words' order.

    Args:
        tokenizer: the model's tokenizer.
        words: the word for each label.
        first: whether to take the first token of a word that has several.

    Raises:
        ValueError: if a word is not one known token, or two words have the same token.
    """
    found: dict[int, str] = {}
    for label, word in words.items():
        tokens = tokenizer.encode(f" {word}", add_special_tokens=False)
        if not tokens or (len(tokens) > 1 and not first) or tokens[0] == tokenizer.unk_token_id:
            pieces = tokenizer.convert_ids_to_tokens(tokens)
            raise UserError(
                f"`model.label_words`: {word!r}, for {label}, must be one token of {tokenizer.name_or_path!r}, "
                f"which has for it {pieces}; take another word."
            )
        if tokens[0] in found:
            raise UserError(
                f"`model.label_words`: {word!r}, for {label}, is the same token as {found[tokens[0]]!r}; take another."
            )
        found[tokens[0]] = word
    return list(found)
