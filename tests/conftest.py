"""Tiny models and data, built here: no test reaches a network."""

import gc
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process a core, and what it starts

import pytest
import torch

gc.disable()  # until what the fixtures need is imported
pytest_plugins = [f"fixtures.{name}" for name in ("models", "data", "prompts", "runs", "chat")]


def pytest_sessionstart():
    gc.enable()


def pytest_collection_finish():
    """Spare the garbage collector the libraries, which stay: it walked their million objects again and again."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """Runs write below the test's own folder, and its cache is its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
