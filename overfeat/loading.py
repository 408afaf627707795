"""From a checkpoint's folder to a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from overfeat.checkpoint import CheckpointError, load_checkpoint
from overfeat.member import Dtype, Member
from overfeat.predictor import Predictor


def load(
    names_or_folders: str | Path | Sequence[str | Path],
    *,
    device: str | None = None,
    dtype: Dtype = "float32",
) -> Predictor:
    """Load a model, or a committee of several.

    Args:
        names_or_folders: `demo` for the small model shipped in the package, or a checkpoint's
            local folder; a list of them for a committee.
        device: Such as `cpu` or `cuda:1`; None for a GPU where there is one.
        dtype: Number format of the weights and activations.

    Returns:
        The model, ready to `classify`, `localize`, `detect` and `extract`.

    Raises:
        CheckpointError: If there is no checkpoint of our layout.
    """
    if not isinstance(names_or_folders, str | Path | list | tuple):
        received = type(names_or_folders).__name__
        raise CheckpointError(f"load: received {received}, expected a folder or a list of folders")
    several = [names_or_folders] if isinstance(names_or_folders, str | Path) else names_or_folders
    return Predictor([_open_member(find_checkpoint(name), device, dtype) for name in several])


def find_checkpoint(name_or_folder: str | Path) -> Path:
    """Turn the name of the shipped checkpoint into its folder; a folder stays as it is.

    Args:
        name_or_folder: `demo`, or a folder.

    Returns:
        The folder.
    """
    if str(name_or_folder) == "demo":
        return Path(__file__).parent / "weights" / "demo"
    return Path(name_or_folder)


def _open_member(folder: Path, device: str | None, dtype: Dtype) -> Member:
    config, network = load_checkpoint(folder)
    return Member(config, network, device=device, dtype=dtype)
