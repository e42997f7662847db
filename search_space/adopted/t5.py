"""T5: an encoder and a decoder (Raffel et al. 2020). All layers share the position bias of the first, so heads stay.

The config of the whole model keeps its counts: the library sizes the decoder's cache by the encoder's.
"""

from dataclasses import replace

from .family import Family

ENCODER = Family(
    name="t5",
    model_types=("t5", "mt5"),
    scope="encoder.",
    layers="encoder.block",
    attention="",
    output="",
    ffn_in=("layer.1.DenseReluDense.wi", "layer.1.DenseReluDense.wi_0", "layer.1.DenseReluDense.wi_1"),
    ffn_out="layer.1.DenseReluDense.wo",
    counts={},
    no_attention={},
    no_ffn={"layer.1.DenseReluDense": "zeros"},
    cached=("layer.0.SelfAttention",),
    config={"hidden": "d_ff", "layers": "num_layers"},
    layer_counts=(("encoder", "num_layers"),),
)
DECODER = replace(
    ENCODER,
    scope="decoder.",
    layers="decoder.block",
    ffn_in=("layer.2.DenseReluDense.wi", "layer.2.DenseReluDense.wi_0", "layer.2.DenseReluDense.wi_1"),
    ffn_out="layer.2.DenseReluDense.wo",
    no_ffn={"layer.2.DenseReluDense": "zeros"},
    cached=("layer.0.SelfAttention", "layer.1.EncDecAttention"),
    config={"hidden": "d_ff", "layers": "num_decoder_layers"},
    layer_counts=(("decoder", "num_layers"),),
)
FAMILIES = (ENCODER, DECODER)
