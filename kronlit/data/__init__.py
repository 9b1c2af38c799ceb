"""LightningDataModules."""

from kronlit.data.glue import GLUE
from kronlit.data.movie_reviews import MovieReviews
from kronlit.data.super_glue import SuperGLUE
from kronlit.data.text import TextData

__all__ = ["GLUE", "MovieReviews", "SuperGLUE", "TextData"]
