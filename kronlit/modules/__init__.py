"""LightningModules: the frozen pre-trained model plus a method."""

from kronlit.modules.base import FrozenPLM
from kronlit.modules.causal_lm import CausalLM
from kronlit.modules.classification import SequenceClassification
from kronlit.modules.images import ImageClassification
from kronlit.modules.multiple_choice import MultipleChoice
from kronlit.modules.prompting import PromptClassification
from kronlit.modules.question_answering import QuestionAnswering
from kronlit.modules.text_to_text import TextToText
from kronlit.modules.token_classification import TokenClassification

__all__ = [
    "CausalLM",
    "FrozenPLM",
    "ImageClassification",
    "MultipleChoice",
    "PromptClassification",
    "QuestionAnswering",
    "SequenceClassification",
    "TextToText",
    "TokenClassification",
]
