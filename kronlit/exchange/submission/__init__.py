"""Predictions as the sites of GLUE and SuperGLUE take them."""
