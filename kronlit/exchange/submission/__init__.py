"""Writes predictions for the sites of GLUE and SuperGLUE."""
