"""What the user gave is told in one line, whoever raised it; a fault of the code keeps its traceback."""

import pytest

from kronlit.config.user_error import UserError, user_errors
from kronlit.modules import SequenceClassification

ODD = '''
from dataclasses import dataclass
from kronlit.methods import HeadOnly

@dataclass(frozen=True)
class Odd(HeadOnly):
    """A method.

    Args:
        width: an odd number below 9.
    """

    width: int = 1

    def __post_init__(self):
        if self.width % 2 == 0:
            raise ValueError(f"`width`={self.width} must be odd.")

    def insertions(self):
        if self.width > 8:
            raise ValueError(f"`width`={self.width} must be below 9.")
        return {7: None}.get(self.width, [])
'''


@pytest.fixture
def fit(kronlit, config, tmp_path, monkeypatch):
    """Fits with a method of the user's own file, of some width."""
    (tmp_path / "odd_method.py").write_text(ODD)
    monkeypatch.syspath_prepend(tmp_path)
    words = ["fit", "--config", config, "--trainer.fast_dev_run", "true", "--model.method", "odd_method.Odd"]
    return lambda width: kronlit(*words, "--model.method.width", str(width))


@pytest.mark.parametrize(("width", "line"), [(2, "`width`=2 must be odd."), (9, "`width`=9 must be below 9.")])
def test_a_method_of_ones_own_refuses_in_one_line(fit, width, line):
    code, _, err = fit(width)
    assert (code, err.splitlines()[-1]) == (2, f"kronlit: {line}")
    assert "Traceback" not in err


def test_a_fault_of_ones_own_method_keeps_its_traceback(fit):
    assert fit(1)[0] == 0
    with pytest.raises(TypeError, match="NoneType"):
        fit(7)


def test_a_hook_that_lightning_cannot_call_is_no_mistake_of_the_users(kronlit, config, monkeypatch):
    monkeypatch.setattr(SequenceClassification, "on_fit_start", lambda: None)  # raised in Lightning's own line
    with pytest.raises(TypeError, match="positional argument"):
        kronlit("fit", "--config", config)


def test_a_fault_in_saving_says_nothing_of_what_is_restored(kronlit, config, monkeypatch):
    def fault(self, checkpoint):
        raise LookupError("a fault")

    monkeypatch.setattr(SequenceClassification, "on_save_checkpoint", fault)
    with pytest.raises(LookupError, match="a fault"):
        kronlit("fit", "--config", config)


def test_what_a_call_raises_becomes_the_users_with_its_cause():
    with pytest.raises(UserError, match=r"^`trainer`: 'x'$") as caught, user_errors((KeyError,), about="`trainer`: "):
        {}["x"]
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(UserError, match=r"^said already$") as caught, user_errors(about="`trainer`: "):
        raise UserError("said already")
    with pytest.raises(ZeroDivisionError), user_errors():
        raise ZeroDivisionError


@pytest.mark.parametrize("content", [b"model: \xff", b"model: [unclosed"])
def test_a_config_to_check_that_is_no_yaml_is_one_line(kronlit, tmp_path, content):
    (tmp_path / "bad.yaml").write_bytes(content)
    code, _, err = kronlit("configs", "check", tmp_path / "bad.yaml")
    assert (code, err.count("\n")) == (2, 1)
    assert f"`files`: '{tmp_path}/bad.yaml' is no YAML: " in err


FAULTY = """
from lightning.pytorch import Callback

class Faulty(Callback):
    @property
    def state_key(self):  # which Lightning asks for while it makes the trainer, of a callback that has a state
        return 1 + "1"

    def state_dict(self):
        return {}
"""


def test_a_fault_of_ones_own_callback_at_the_trainer_keeps_its_traceback(kronlit, config, tmp_path, monkeypatch):
    (tmp_path / "faulty_callback.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TypeError, match="unsupported operand") as caught:
        kronlit("fit", "--config", config, "--trainer.callbacks+=faulty_callback.Faulty")
    assert "instantiate_trainer" in [entry.name for entry in caught.traceback]
