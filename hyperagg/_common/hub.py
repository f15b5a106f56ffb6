"""Downloads and uploads model folders from and to the Hugging Face Hub."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hyperagg._common.validation import check_path

__all__ = ["locate_model", "push_folder"]

_TIMEOUT = 10  # seconds that the Hub may take to answer
_FILES = ["*.json", "*.safetensors", "README.md"]


def locate_model(
    folder: str | Path, *, revision: str | None = None, token: str | bool | None = None
) -> Path:
    """Return the folder of a saved model; a repository id of the Hub is downloaded first.

    Args:
        folder: a folder, or a repository id "owner/name".
        revision: the branch, tag or commit of the repository (default: the main branch).
        token: the access token (default: the one that `hf auth login` saved).

    Raises:
        TypeError: `folder` is not a str or a path.
        ValueError: neither a folder nor a repository that can be downloaded.
        ImportError: huggingface_hub is not installed.
    """
    path = check_path("folder", folder)
    if path.is_dir():
        if revision is not None:
            raise ValueError(f"revision={revision!r}: {path} is a folder, not a repository id")
        return path
    if path.exists():
        raise ValueError(f"{path}: is a file; expected the folder of a model")
    name = str(folder)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ValueError(
            f"{path}: not found; expected a folder that save_pretrained or hyperagg train wrote, "
            "or a repository id owner/name"
        )
    hub = _import_hub(f"{path}: not found")
    logging.getLogger("hyperagg").info(
        f"{name}: no such folder; looking for it on the Hugging Face Hub"
    )
    try:
        found = hub.snapshot_download(
            name,
            revision=revision,
            token=token,
            allow_patterns=_FILES,
            etag_timeout=_TIMEOUT,
        )
    except (hub.errors.HfHubHTTPError, hub.errors.HFValidationError, OSError) as error:
        raise ValueError(
            f"{name}: neither a folder nor a model that can be downloaded from the Hugging Face Hub"
        ) from error
    return Path(found)


def push_folder(
    save: Callable[[Path], None],
    repo_id: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    private: bool | None = None,
    commit_message: str = "Upload model",
) -> str:
    """Save a model to a temporary folder and upload it to the Hugging Face Hub.

    Args:
        save: writes the model to a folder.
        repo_id: the repository "owner/name"; it is created if it does not exist.
        revision: the branch to commit to (default: the main branch).
        token: the access token (default: the one that `hf auth login` saved).
        private: whether a new repository is private (default: the owner's setting).
        commit_message: the message of the commit.

    Returns:
        The URL of the commit.

    Raises:
        ImportError: huggingface_hub is not installed.
    """
    api = _import_hub("push_to_hub").HfApi(token=token)
    with tempfile.TemporaryDirectory() as parent:
        # The model card takes its title from the name of the folder.
        folder = Path(parent) / repo_id.rpartition("/")[2]
        save(folder)
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            revision=revision,
            commit_message=commit_message,
        )
    return str(commit.commit_url)


def _import_hub(purpose: str) -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise ImportError(
            f"{purpose}: the Hugging Face Hub needs huggingface_hub; "
            "run pip install 'hyperagg[hub]'",
            name="huggingface_hub",
        ) from error
    return huggingface_hub
