"""A name on the Hugging Face hub goes in, the folder in the hub's cache that holds its model comes out.

The only file that sends requests, and only for a name that asks for it. What could be a program is not fetched.
"""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any

from polyhead.errors import ArgumentError, CheckpointError, WriteError

HUB = "hf:"
NAME = re.compile(r"(?P<repository>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>[^\s@]+))?", re.ASCII)
FETCHED = ("*.safetensors", "*.json", "*.jinja", "*.spm", "*.txt", "README.md", "*.model")
LEFT = (  # the same weights for other programs, and folders but those of pooling (1_Pooling) and templates
    "*/*.safetensors", "*/*.spm", "*/*.model", "*/*.txt", "[!1]*/*.json", "consolidated*.safetensors",
    "model.*.safetensors",
)  # fmt: skip


def fetch(name: str) -> Path:
    """The folder of "hf:owner/name" or "hf:owner/name@revision", fetched where the cache lacks it.

    Only safetensors, JSON, templates, vocabularies and the card; never a pickle or Python. A bar shows on a terminal.
    The cache, HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE and the token are those of huggingface_hub. Raises ArgumentError for
    what is no such name, CheckpointError where it cannot be had, WriteError for a full disk.
    """
    told = NAME.fullmatch(name.removeprefix(HUB))
    if not told:
        raise ArgumentError(f"{name} is no name on the hub; write {HUB}owner/name or {HUB}owner/name@revision.")
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    download: Any = huggingface_hub.snapshot_download  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    how = {"revision": told["revision"], "allow_patterns": list(FETCHED), "ignore_patterns": list(LEFT)}
    try:
        folder = Path(download(told["repository"], tqdm_class=quiet_bar(), **how))
    except HFValidationError as wrong:
        raise ArgumentError(f"{name} is no name on the hub ({first_line(wrong)}); check how it is spelled.") from wrong
    except Exception as wrong:  # whatever the library, the network or the disk raises
        raise refused(name, told["repository"], wrong) from wrong
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{name} holds no config.json at its top, so it is no model that can be loaded here")
    if not any(folder.glob("*.safetensors")):
        raise CheckpointError(
            f"{name} holds no safetensors, and weights of other kinds are not fetched; look for a revision or a copy of"
            " it that does"
        )
    return folder


def quiet_bar() -> Any:
    """The hub's bar, on a terminal only."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):  # pyright: ignore[reportMissingTypeArgument, reportUntypedBaseClass]
        def __init__(self, *given: Any, **named: Any) -> None:
            named["disable"] = named.get("disable") or None  # None: unless somebody looks
            super().__init__(*given, **named)  # pyright: ignore[reportUnknownMemberType]

    return Bar


def refused(name: str, repository: str, wrong: Exception) -> CheckpointError | WriteError:
    """The sentence for what went wrong on the way."""
    from huggingface_hub import constants, errors

    hub, cause = constants.ENDPOINT, wrong if isinstance(wrong, errors.HfHubHTTPError) else wrong.__cause__ or wrong
    why = first_line(cause)
    match wrong:
        case errors.GatedRepoError():
            return CheckpointError(
                f"{name} is given only to those who accepted its terms; do so at {hub}/{repository}, then log in"
                " (hf auth login) and run the same again"
            )
        case errors.RevisionNotFoundError():
            return CheckpointError(f"{name} is not there: {repository} has no such revision; see {hub}/{repository}")
        case errors.RepositoryNotFoundError():
            return CheckpointError(
                f"{name} is not on {hub}, or is private; check how it is spelled, or log in (hf auth login)"
            )
        case errors.LocalEntryNotFoundError() if constants.HF_HUB_OFFLINE:
            return CheckpointError(
                f"{name} is not in the cache ({constants.HF_HUB_CACHE}), not all of it at least, and HF_HUB_OFFLINE"
                " keeps it from being fetched; unset that, or give a folder"
            )
        case _ if isinstance(cause, errors.HfHubHTTPError) and cause.response.status_code < 500:
            return CheckpointError(f"{hub} refuses {name} ({why}); log in (hf auth login), or try again later")
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EACCES | errno.EROFS):
            return WriteError(wrong.filename or constants.HF_HUB_CACHE, wrong.strerror or str(wrong))
        case _:
            return CheckpointError(
                f"{name} could not be fetched from {hub} ({why}); check the connection and run the same again, or give"
                " a folder"
            )


def first_line(wrong: BaseException) -> str:
    """What an error says, in one line."""
    said = next((line.strip() for line in str(wrong).splitlines() if line.strip()), "")
    return f"{type(wrong).__name__}: {said}".rstrip(".: ")
