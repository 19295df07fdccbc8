"""wav2vec2, the family that all others descend from: also XLSR and MMS.

Norms before or after (`do_stable_layer_norm`), group or layer norm in the front end, language
adapters (`adapter_attn_dim`) and convolutions behind the encoder (`add_adapter`) all say so in the
modules themselves: the defaults of `Host` are its ways.
"""

from lpa_export.hosts.host import Host

__all__ = ["HOST"]

HOST = Host("wav2vec2", "Wav2Vec2ForCTC", "Wav2Vec2Config", backbone="wav2vec2")
