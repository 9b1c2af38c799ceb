"""Many runs, one honest table. Nothing here imports torch: every run is a separate `kronlit fit`."""

from kronlit.studies.study import Published, Study

__all__ = ["Published", "Study"]
