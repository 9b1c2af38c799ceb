"""Runs and studies as Slurm jobs."""
