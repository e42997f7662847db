"""BERT, RoBERTa and MiniLM: post-norm encoders (Devlin et al. 2019)."""

from .family import Family

FAMILY = Family(
    name="bert",
    model_types=("bert", "roberta", "xlm-roberta"),
    layers="encoder.layer",
    attention="attention.self",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    output="attention.output.dense",
    ffn_in=("intermediate.dense",),
    ffn_out="output.dense",
    counts={"num_attention_heads": "kv_heads", "all_head_size": "channels"},
    no_attention={"attention.self": "attention", "attention.output.dense": "zeros"},
    no_ffn={"intermediate": "identity", "output.dense": "zeros"},
    config={"hidden": "intermediate_size"},
)
FAMILIES = (FAMILY,)
