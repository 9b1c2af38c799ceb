"""Many runs, one honest table. Nothing here imports torch: every run is a `kronlit fit` of its own."""

from kronlit.studies.study import Published, Study

__all__ = ["Published", "Study"]
