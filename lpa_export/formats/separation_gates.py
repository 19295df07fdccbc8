"""Gates of models that separate or enhance speech: what an artifact must reach against torch.

Scale and sign count: an artifact that gives twice the level, or the waveform upside down, has the
SI-SNR of the reference, and is wrong.
"""

from collections.abc import Mapping

import msgspec

__all__ = ["SEPARATION_GATES", "SeparationGates"]


class SeparationGates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The gates of one scheme.

    snr_db: dB between the waveforms of the worst clip; below fails.
    level_difference_db: dB in any clip; above fails.
    si_snri_difference_db: dB of the means over the data; above fails.
    silenced: outputs 30 dB below their input, where the reference's are not; more fail.
    """

    snr_db: float
    si_snri_difference_db: float
    level_difference_db: float = 0.1
    silenced: int = 0


SEPARATION_GATES: Mapping[str, SeparationGates] = {
    "fp32": SeparationGates(60.0, 0.1),
    "fp16": SeparationGates(35.0, 0.1),
    # No error of rounding: a sign that is flipped gives -6 dB, a gain of two 0 dB.
    "int8": SeparationGates(10.0, 0.3),
}
"""By the name of the scheme."""
