"""The plain FFN."""

from torch import Tensor, nn

from ..activations import activation_function
from ..base import Capabilities, Context, register


@register("ffn", "mlp", Capabilities(causal=True))
class Mlp(nn.Module):
    """Two linear maps with an activation between them (Vaswani et al. 2017).

    Its hidden units are nested: the first m are a smaller FFN (MatFormer, Devvrit et al. 2023, arXiv:2310.07707).
    """

    def __init__(self, width: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.activation = activation_function(activation)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        del context
        y: Tensor = self.down(self.activation(self.up(x)))
        return y
