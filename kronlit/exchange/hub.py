"""Uploads a folder to the Hugging Face hub."""

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError

from kronlit import __version__
from kronlit.config.user_error import UserError


def check_hub(repo_id: str) -> None:
    """Raise `ValueError` unless the hub can be written to. Call it before the work, not after."""
    try:
        HfApi().repo_exists(repo_id)
        HfApi().whoami()
    except HFValidationError as error:
        raise UserError(
            f"`push_to_hub`={repo_id!r} is no name of a repository, such as me/rte-krona: {error}"
        ) from error
    except LocalTokenNotFoundError as error:
        raise UserError("`push_to_hub` needs a login: `hf auth login`, or a token as HF_TOKEN.") from error
    except Exception as error:  # errors of the HTTP library, which differs between versions of huggingface_hub
        raise UserError(hub_message(repo_id, error)) from error


def push(folder: Path, repo_id: str, private: bool) -> str:
    """Upload a folder to a new repository or as a commit to an existing one, and return its address.

    Args:
        folder: the folder to upload.
        repo_id: name of the repository; without an owner it is the user's.
        private: whether a new repository is hidden from others.

    Raises:
        ValueError: if the hub refuses.
    """
    api = HfApi()
    try:
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=url.repo_id, folder_path=folder, commit_message=f"Upload by kronlit {__version__}")
    except Exception as error:  # as above: refused, cut off or out of time, in the HTTP library's own classes
        raise UserError(f"{hub_message(repo_id, error)} The folder {str(folder)!r} is whole.") from error
    return str(url)


def hub_message(repo_id: str, error: Exception) -> str:
    """The hub's answer as a message."""
    return f"`push_to_hub`={repo_id!r}: the hub does not take it: {' '.join(str(error).split())[:200]}"
