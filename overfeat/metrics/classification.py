"""Is an image's class among the first guesses? The ILSVRC classification error counts a no as 1."""

from __future__ import annotations

from overfeat.predictions import Classification


def misses_class(found: Classification, label: int, *, guesses: int) -> bool:
    """Tell whether an image counts as wrongly classified.

    Args:
        found: The best classes, best first.
        label: The true one.
        guesses: How many of them may be looked at: 1 for the top-1 error, 5 for the top-5 error.

    Returns:
        True if the true class is not among them.

    Source:
        Russakovsky et al. 2015, section 4.1.
    """
    return label not in found.label_ids[:guesses]
