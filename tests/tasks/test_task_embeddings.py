"""Sentence embeddings: sentences of each split apart, the teacher's vectors kept, similarities compared exactly."""

import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

import nas
from nas.errors import UserError
from nas.supernet.distill import distilled
from nas.tasks import embedding_task, load_task, sentences, teacher
from nas.tasks.similarity import SimilarityCorrelation, pooled, similarity_loss

tokenizers = pytest.importorskip("tokenizers")
WORDS = re.findall(
    r"\w+", "one of many words that mean little here and there but make up lines which are all different"
)
DRAW = np.random.default_rng(0)
TEXTS = [" ".join(DRAW.choice(WORDS, 4 + i % 6)) + "." for i in range(120)]


@dataclass
class Output:
    last_hidden_state: Tensor
    pooler_output: Tensor


class Encoder(nn.Module):
    """Attention of one head without positions: padding that is masked changes nothing."""

    def __init__(self, width=12, hidden=24):
        super().__init__()
        self.table, self.into, self.out = nn.Embedding(300, width), nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, input_ids, attention_mask):
        x = self.table(input_ids)
        x = x + nn.functional.scaled_dot_product_attention(x, x, x, attention_mask[:, None].bool())
        x = x + self.out(self.into(x).relu())
        return Output(x, x[:, 0])


@pytest.fixture(autouse=True)
def own_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def tokenizer():
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", *WORDS, "x", "."])}
    own = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]", continuing_subword_prefix=""))
    own.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    own.post_processor = tokenizers.processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 2)])
    own.enable_truncation(4)  # as the files of sentence encoders ask for, and a task must not heed
    own.enable_padding(length=4)
    return own


def encoder(**sizes):
    torch.manual_seed(0)
    return Encoder(**sizes)


@pytest.fixture
def task(tokenizer):
    return embedding_task(TEXTS, encoder(), tokenizer, window=20, batch_size=16)


def test_targets_are_the_vectors_of_the_teacher(task, tokenizer):
    assert (task.train.size, task.validation.size, task.test.size) == (96, 12, 12)
    inputs, targets = next(task.validation.batches(12))
    assert set(inputs) == {"input_ids", "attention_mask"}
    assert (inputs["input_ids"][:, 0] == 2).all()
    assert inputs["input_ids"].shape == inputs["attention_mask"].shape == (12, 20)
    features = encoder()(**inputs).last_hidden_state
    for i, mask in enumerate(inputs["attention_mask"].bool()):
        expected = nn.functional.normalize(features[i, mask].mean(0), dim=0)
        torch.testing.assert_close(targets["embedding"][i], expected)
    assert nas.evaluate(encoder(), task) == pytest.approx(1)
    other = embedding_task(TEXTS, encoder(), tokenizer, window=20, pooling="cls")
    assert nas.evaluate(encoder(), other) == pytest.approx(1)
    assert nas.evaluate(encoder(), replace(other, score=task.score)) < 0.999


def test_the_metric_is_the_rank_correlation_of_all_pairs():
    generator = torch.Generator().manual_seed(0)
    ours, theirs = torch.randn(9, 5, 4, generator=generator), torch.randn(9, 6, generator=generator)
    mask = (torch.arange(5)[None] <= torch.arange(9)[:, None] % 5).float()
    score = SimilarityCorrelation("mean")
    for part in torch.arange(9).split(4):
        score.update(ours[part], {"embedding": nn.functional.normalize(theirs[part], dim=-1), "mask": mask[part]})
    means = [x[m.bool()].mean(0) for x, m in zip(ours, mask, strict=True)]
    cosine = nn.functional.cosine_similarity
    pairs = [(i, j) for i in range(9) for j in range(i)]
    one = [float(cosine(means[i], means[j], dim=0)) for i, j in pairs]
    other = [float(cosine(theirs[i], theirs[j], dim=0)) for i, j in pairs]
    assert score.compute() == pytest.approx(spearmanr(one, other).statistic, abs=1e-4)


def test_a_score_keeps_a_bounded_number_of_vectors(monkeypatch):
    monkeypatch.setattr("nas.tasks.similarity.MOST", 10)
    score = SimilarityCorrelation("mean")
    for _ in range(5):
        score.update(torch.randn(4, 3), {"embedding": torch.randn(4, 3), "mask": torch.ones(4, 1)})
    assert sum(map(len, score.ours)) == sum(map(len, score.theirs)) == 10


def test_the_loss_is_that_of_similarities():
    vectors = pooled(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.ones(6, 1))
    assert float(similarity_loss(vectors, vectors)) == pytest.approx(0, abs=1e-6)
    turned = vectors.flip(-1)  # keeps every similarity
    assert float(similarity_loss(turned, vectors)) == pytest.approx(float((1 - (turned * vectors).sum(-1)).mean()))
    wide = torch.cat([vectors, torch.zeros(6, 3)], -1)  # nets that are narrower than their teacher
    assert float(similarity_loss(vectors, wide)) == pytest.approx(0, abs=1e-6)
    assert float(similarity_loss(vectors.roll(1, 0), wide)) > 0.01


def test_a_narrow_net_learns_and_distils(task):
    space = nas.SearchSpace(lambda trial: Encoder(trial.suggest_int("width", 4, 8, step=4), 8))
    supernet = nas.Supernet(space)
    before = nas.evaluate_subnet(supernet, task, space.largest)
    nas.train(supernet, task, steps=60, lr=1e-2, batch_size=32)
    assert nas.evaluate_subnet(supernet, task, space.largest) > before + 0.05
    inputs, targets = task.batch(0, 8, 0)
    features = encoder()(**inputs).last_hidden_state
    assert float(distilled("kl", features, features, targets, task).detach()) == pytest.approx(0, abs=1e-6)


def test_vectors_are_computed_once(tokenizer, monkeypatch, tmp_path):
    monkeypatch.setattr(teacher, "SHARD", 40)
    monkeypatch.setattr("nas.tasks.embeddings.SHARD", 40)
    first = embedding_task(TEXTS, encoder(), tokenizer, window=20)
    files = list((tmp_path / "cache/vectors").iterdir())
    assert len(files) == 3 + 1 + 1
    monkeypatch.setattr(teacher, "_computed", None)
    again = embedding_task(TEXTS, encoder(), tokenizer, window=20)
    assert again.digest == first.digest
    assert torch.equal(again.train.dataset[95]["embedding"], first.train.dataset[95]["embedding"])
    with pytest.raises(TypeError):  # another teacher has other vectors
        embedding_task(TEXTS, encoder(hidden=8), tokenizer, window=20)


def test_sentences_of_files(tmp_path):
    (tmp_path / "a.py").write_text('"""A first line of words. And a second one, too!\n\n>>> of no use here at all"""\n')
    (tmp_path / "b.txt").write_text("Too short. This one goes\nover two lines? This is the last of them")
    parts = [sentences.Part(f, 0, f.stat().st_size) for f in sorted(tmp_path.iterdir())]
    assert list(sentences.sentences_in(parts)) == [
        "A first line of words.",
        "And a second one, too!",
        "This one goes over two lines?",
        "This is the last of them",
    ]


def test_no_sentence_is_in_two_splits():
    splits = {
        "train": [(1,), (2,), (3,), (2,)],
        "validation": [(1,), (4,), (5,), (6,)],
        "test": [(7,), (8,), (9,), (4,)],
    }
    result = sentences.drawn(splits, {"train": 9, "validation": 2, "test": 9})
    assert (sorted(result["train"]), sorted(result["test"])) == ([(1,), (2,), (3,)], [(7,), (8,), (9,)])
    assert len(set(result["validation"]) & {(4,), (5,), (6,)}) == len(result["validation"]) == 2


def test_wrong_words(tokenizer):
    with pytest.raises(UserError, match="needs a teacher; write embeddings:PATH"):
        load_task("embeddings")
    with pytest.raises(UserError, match="no folder of a sentence encoder"):
        load_task("embeddings:?teacher=/nowhere")
    with pytest.raises(UserError, match="needs its tokenizer"):
        embedding_task(TEXTS, encoder())
    with pytest.raises(UserError, match="unknown pooling 'max'"):
        embedding_task(TEXTS, encoder(), tokenizer, pooling="max")
    with pytest.raises(UserError, match="sentences for validation, and 3 are needed"):
        embedding_task(TEXTS[:5], encoder(), tokenizer)
