"""What is off unless asked for is tested with the slow tests, but for what each run gets side by side."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what is marked slow
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent == HERE and item.originalname != "test_every_run_gets_what_it_gets_alone":
            item.add_marker(pytest.mark.slow)
