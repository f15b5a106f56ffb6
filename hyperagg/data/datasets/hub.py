"""Download files of data sets from the Hugging Face hub into the cache of huggingface_hub."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from hyperagg._common.progress import activity
from hyperagg.data.datasets.download import announce, check_digest
from hyperagg.data.readers.errors import DataError


def download_from_hub(repository: str, revision: str, name: str) -> Path:
    """Return the path of one file of a data set's repository at a revision.

    Raises:
        DataError: the hub cannot be reached, or the file does not have the digest it announces.
        ImportError: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError as error:
        raise ImportError(
            f"{repository} is on the Hugging Face hub, which requires huggingface_hub: "
            "pip install 'hyperagg[hub]'"
        ) from error

    fetch = partial(hf_hub_download, repository, name, repo_type="dataset", revision=revision)
    try:
        try:
            return Path(fetch(local_files_only=True))
        except LocalEntryNotFoundError:
            pass
        with activity(f"downloading {repository}/{name} from the Hugging Face hub"):
            # Requested first because it fails at once without a network, where the download retries
            # for half a minute. The ETag of a large file is its SHA-256 digest.
            url = hf_hub_url(repository, name, repo_type="dataset", revision=revision)
            metadata = get_hf_file_metadata(url)
            announce(f"{repository}/{name} from the Hugging Face hub", metadata.size)
            path = Path(fetch())
            check_digest(path.read_bytes(), "sha256", str(metadata.etag), name)
            return path
    except DataError:
        raise
    # The hub raises its own errors, those of its HTTP library and OSErrors: no common base class.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{name} of {repository} cannot be downloaded from the Hugging Face hub ({reason})"
        ) from error
