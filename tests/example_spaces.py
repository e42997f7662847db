"""Spaces that several tests use: plain PyTorch models written as a user would write them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import nas


class Block(nn.Module):
    """Pre-norm attention and FFN, as in any tutorial."""

    def __init__(self, width: int, heads: int, ffn: int, mixer: str) -> None:
        super().__init__()
        self.heads, self.mixer = heads, mixer
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v = (nn.Linear(width, heads * 16) for _ in range(3))
        self.o = nn.Linear(heads * 16, width)
        self.up, self.down = nn.Linear(width, ffn), nn.Linear(ffn, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        q, k, v = (f(h).unflatten(-1, (self.heads, 16)).transpose(1, 2) for f in (self.q, self.k, self.v))
        if self.mixer == "softmax":
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            q, k = F.elu(q) + 1, F.elu(k) + 1
            y = q @ (k.transpose(-1, -2) @ v) / (q @ k.sum(-2).unsqueeze(-1))
        x = x + self.o(y.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class ViT(nn.Module):
    def __init__(self, width: int, blocks: list[Block]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 2, 2)
        self.position = nn.Parameter(torch.randn(1, 16, width) * 0.02)
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.blocks(x)).mean(1))


def vit(trial):  # the function of the design, unchanged
    width = trial.suggest_int("width", 64, 96, step=16)
    depth = trial.suggest_int("depth", 3, 6)
    return ViT(width, [
        Block(width,
              heads=trial.suggest_int(f"layers.{i}.heads", 1, 3),
              ffn=trial.suggest_categorical(f"layers.{i}.ffn", [48, 96, 192, 384]),
              mixer=trial.suggest_categorical(f"layers.{i}.mixer", ["softmax", "linear"]))
        for i in range(depth)])  # fmt: skip


class CausalSelfAttention(nn.Module):
    """A fused qkv and a mask buffer, in the style of nanoGPT."""

    def __init__(self, n_embd: int, n_head: int, block_size: int) -> None:
        super().__init__()
        self.c_attn = nn.Linear(n_embd, 3 * n_head * 16)
        self.c_proj = nn.Linear(n_head * 16, n_embd)
        self.n_head = n_head
        mask = torch.tril(torch.ones(block_size, block_size)).view(1, 1, block_size, block_size)
        self.register_buffer("bias", mask)

    def forward(self, x: Tensor) -> Tensor:
        B, T, _ = x.size()
        q, k, v = self.c_attn(x).chunk(3, dim=2)
        q, k, v = (t.view(B, T, self.n_head, 16).transpose(1, 2) for t in (q, k, v))
        att = (q @ k.transpose(-2, -1)) / 4.0
        att = att.masked_fill(self.bias[:, :, :T, :T] == 0, float("-inf")).softmax(dim=-1)
        return self.c_proj((att @ v).transpose(1, 2).reshape(B, T, -1))


class GPTBlock(nn.Module):
    def __init__(self, n_embd: int, n_head: int, hidden: int, block_size: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.attn = CausalSelfAttention(n_embd, n_head, block_size)
        self.mlp = nn.Sequential(nn.Linear(n_embd, hidden), nn.GELU(), nn.Linear(hidden, n_embd))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """Tied embeddings, ModuleDict, own init: what a third-party decoder looks like."""

    def __init__(self, n_embd: int, n_head: int, n_layer: int, hidden: int, block_size: int = 16) -> None:
        super().__init__()
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(50, n_embd),
                "wpe": nn.Embedding(block_size, n_embd),
                "h": nn.ModuleList([GPTBlock(n_embd, n_head, hidden, block_size) for _ in range(n_layer)]),
                "ln_f": nn.LayerNorm(n_embd),
            }
        )
        self.lm_head = nn.Linear(n_embd, 50, bias=False)
        self.transformer.wte.weight = self.lm_head.weight
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.1)

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x = self.transformer.wte(idx) + self.transformer.wpe(torch.arange(idx.size(1), device=idx.device))
        for block in self.transformer.h:
            x = block(x)
        logits = self.lm_head(self.transformer.ln_f(x))
        loss = None if targets is None else F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return logits, loss


GPT_LAYOUTS = {"*.c_attn.*": (3, -1)}


def gpt(trial):
    return GPT(
        n_embd=trial.suggest_categorical("n_embd", [32, 48]),
        n_head=trial.suggest_int("n_head", 1, 3),
        n_layer=trial.suggest_int("n_layer", 1, 3),
        hidden=trial.suggest_categorical("hidden", [32, 64, 128]),
    )


def rnn(trial):
    """torch's fused GRU and MultiheadAttention, which bring their own layout."""
    width = trial.suggest_categorical("width", [16, 32])
    hidden = trial.suggest_categorical("hidden", [8, 16, 24])
    return RNN(width, hidden)


class RNN(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.inp = nn.Linear(4, width)
        self.attention = nn.MultiheadAttention(width, 1, batch_first=True)
        self.gru = nn.GRU(width, hidden, batch_first=True)
        self.out = nn.Linear(hidden, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inp(x)
        h = h + self.attention(h, h, h, need_weights=False)[0]
        return self.out(self.gru(h)[0][:, -1])


SHAPES = {
    "vit-digits": (1, 8, 8),
    "vit-image": (3, 64, 64),
    "vit-mobile": (3, 224, 224),
    "vit-shapes": (1, 24, 24),
    "byte-lm": (16,),
    "byte-tagger": (16,),
    "matlm": (16,),
    "tabular": (6,),
}  # the others: 28 x 28 grey


def preset_function(name):
    """The function of a preset, for inputs that it takes and 10 classes (256 where outputs are tokens)."""
    preset = nas.load_preset(name)
    classes, vocabulary = 256 if "tied" in preset.readout else 10, 256 * ("tokens" in preset.stem)
    return preset.bind(SHAPES.get(name, (1, 28, 28)), classes, vocabulary)
