"""Runs and studies as jobs of Slurm."""
