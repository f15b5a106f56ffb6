"""Model folders on this machine and on the Hugging Face hub."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["model_folder", "push_folder"]

# What a model folder may hold. Nothing else is downloaded.
PATTERNS = ["*.json", "*.safetensors", "README.md"]


def model_folder(
    folder_or_hub_id: str | Path, *, revision: str | None = None, token: str | bool | None = None
) -> Path:
    """Return a local folder, downloaded from the hub if there is none of that name.

    Args:
        folder_or_hub_id: the path of a folder, or an id such as "owner/name".
        revision: a branch, tag or commit on the hub; None: the default branch.
        token: an access token; None: the one that is stored on this machine, if any.

    Raises:
        ValueError: there is neither such a folder nor such a model.
        ImportError: a hub id was given and the extra "hub" is not installed.
    """
    path, name = Path(folder_or_hub_id), str(folder_or_hub_id)
    if path.is_dir():
        if revision is not None:
            raise ValueError(f"revision={revision!r}: {path} is a folder, which has no revisions")
        return path
    if path.exists():
        raise ValueError(f"{path}: is a file; expected the folder of a model")
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ValueError(f"{path}: no such folder; expected one that save_pretrained wrote")
    hub = _import_hub(f"{name}: no such folder, and the Hugging Face hub")
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            hub.snapshot_download(name, revision=revision, token=token, allow_patterns=PATTERNS)
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        at = "" if revision is None else f" at revision {revision!r}"
        raise ValueError(
            f"{name}: no such folder, and the Hugging Face hub returned no such model{at}"
        ) from error


def push_folder(
    save: Callable[[Path], Any],
    repo_id: str,
    *,
    private: bool = False,
    commit_message: str = "Upload a model",
    token: str | bool | None = None,
) -> str:
    """Upload what `save` writes into an empty folder to a model repository on the hub.

    Args:
        save: writes the model, usually `save_pretrained`.
        repo_id: such as "owner/name"; it is created if it does not exist.
        private: whether a new repository is private.
        commit_message: the first line of the commit.
        token: an access token; None: the one that is stored on this machine.

    Returns:
        the address of the commit.

    Raises:
        ImportError: the extra "hub" is not installed.
    """
    hub = _import_hub("push_to_hub")
    api = hub.HfApi(token=token)
    with tempfile.TemporaryDirectory() as parent:
        # The model card is named after the folder.
        folder = Path(parent) / repo_id.rsplit("/", 1)[-1]
        save(folder)
        created = api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=created.repo_id, folder_path=folder, commit_message=commit_message
        )
    return str(commit.commit_url)


def _import_hub(what: str) -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            f"{what} needs huggingface_hub: pip install 'hyperagg[hub]'", name="huggingface_hub"
        ) from error
    return huggingface_hub
