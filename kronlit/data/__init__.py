"""LightningDataModules."""

from kronlit.data.base import TaskData
from kronlit.data.choice_files import ChoiceFiles
from kronlit.data.e2e import E2E
from kronlit.data.few_shot import FewShot
from kronlit.data.glue import GLUE
from kronlit.data.images import Images
from kronlit.data.instruction_files import InstructionFiles
from kronlit.data.movie_reviews import MovieReviews
from kronlit.data.question_files import QuestionFiles
from kronlit.data.super_glue import SuperGLUE
from kronlit.data.text_files import TextFiles
from kronlit.data.text_pairs import TextPairs
from kronlit.data.token_files import TokenFiles

__all__ = [
    "E2E",
    "GLUE",
    "ChoiceFiles",
    "FewShot",
    "Images",
    "InstructionFiles",
    "MovieReviews",
    "QuestionFiles",
    "SuperGLUE",
    "TaskData",
    "TextFiles",
    "TextPairs",
    "TokenFiles",
]
