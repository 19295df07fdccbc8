"""How ``lpa-export --target coreai`` writes the model."""

from dataclasses import dataclass

from lpa_export.targets.settings import buckets_field, require_ascending

__all__ = ["CoreaiSettings"]


@dataclass(frozen=True)
class CoreaiSettings:
    """``buckets``: seconds of audio, ascending, a function each."""

    buckets: tuple[float, ...] = buckets_field()

    def __post_init__(self) -> None:
        require_ascending(self.buckets)

    @property
    def scheme(self) -> str:
        """The scheme asked for."""
        return "fp32"
