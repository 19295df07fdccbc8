"""How to run ``model.npz``, for the model card."""

from lpa_export.formats.manifest import Manifest
from lpa_export.targets.usage import decoding_in_words

__all__ = ["usage"]


def usage(manifest: Manifest) -> str:
    """One sentence: the runner is a hundred lines of numpy."""
    return f"Open `{manifest.artifacts[0]}` with numpy. {decoding_in_words(manifest)}"
