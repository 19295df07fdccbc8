"""UniSpeech-SAT: pretrained otherwise than wav2vec2, built alike."""

from lpa_export.hosts.host import Host

__all__ = ["HOST"]

HOST = Host("unispeech-sat", "UniSpeechSatForCTC", "UniSpeechSatConfig", backbone="unispeech_sat")
