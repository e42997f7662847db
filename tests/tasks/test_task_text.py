"""Text as bytes and as tokens: whole files in each split, windows that lose nothing, exact metrics, a cache on disk."""

import json
import shutil
from dataclasses import dataclass
from math import log, log2

import pytest
import torch
from torch import Tensor, nn

import nas
from nas.errors import UserError
from nas.supernet.distill import distilled
from nas.tasks import load_task, rows, text_task, token_files
from nas.tasks.outputs import IGNORED, cross_entropy
from nas.tasks.tokenizer import read_backend, tokenizer_of

tokenizers = pytest.importorskip("tokenizers")
LINES = ["def größe(x):", "    return x + 1", "", "# naïve café ☕", "for i in range(10):", "    print(i, 'odd')"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Thirty files, each with its number in every line, and a cache of its own."""
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    for number in range(30):
        text = "\n".join(f"{LINES[i % len(LINES)]}  # file {number} line {i}" for i in range(20 + number))
        file = tmp_path / "text" / f"part{number % 3}" / f"{number}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "text"


def byte_bpe(size=300, special=()):
    """A byte-level BPE, trained on the lines."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, show_progress=False, special_tokens=list(special)
    )
    tokenizer.train_from_iterator(LINES * 20, trainer)
    return tokenizer


def files_in(data, decode):
    """The numbers of the files whose text is in a split."""
    texts = [decode(inputs) for inputs, _ in (data.dataset[i] for i in range(len(data)))]
    return {word for text in texts for word in text.split() if word.isdecimal() and f"file {word} line" in text}


def decode_bytes(tokens):
    return bytes(tokens.tolist()).decode(errors="replace")


def every(task, split):
    """All windows of a split: inputs and targets, before some are drawn for evaluation."""
    dataset = getattr(task, split).dataset
    dataset = getattr(dataset, "dataset", dataset)  # of a `Subset`
    return [dataset[i] for i in range(len(dataset))]


@pytest.mark.parametrize("tokenizer", [None, "bpe:300"])
def test_every_file_is_whole_in_one_split(folder, tokenizer):
    task = text_task(folder, tokenizer, window=64, validation=10_000)
    own = byte_bpe() if tokenizer is None else read_backend(next((folder.parent / "cache/tokenizers").iterdir()))
    decode = decode_bytes if tokenizer is None else lambda tokens: own.decode(tokens.tolist())
    seen = {split: files_in(getattr(task, split), decode) for split in ("train", "validation", "test")}
    assert sorted(n for numbers in seen.values() for n in numbers) == sorted(map(str, range(30)))
    assert all(seen.values())


def test_the_split_follows_the_names_and_nothing_else(folder, tmp_path):
    again = text_task(shutil.copytree(folder, tmp_path / "elsewhere"), window=64)
    task = text_task(folder, window=64)
    for split in ("train", "validation", "test"):
        pairs = zip(every(task, split), every(again, split), strict=True)
        assert all(torch.equal(one[0], other[0]) for one, other in pairs)


def test_one_file_is_cut(tmp_path):
    (tmp_path / "one.txt").write_bytes(bytes(range(100)) * 10)
    task = text_task(tmp_path / "one.txt", window=50, validation=100)
    assert [len(every(task, split)) for split in ("train", "validation", "test")] == [16, 2, 2]


@pytest.mark.parametrize("named", [True, False])
def test_windows_of_tokens_hold_the_whole_text(folder, named):
    """Inputs one after the other are the tokens of the files; each target is the input that comes next."""
    own = byte_bpe()
    file = folder.parent / "tokenizer.json"
    own.save(str(file))
    task = text_task(folder, str(file) if named else own, window=16)
    expected = []
    for file in folder.rglob("*.py"):
        ids = own.encode(file.read_text()).ids
        expected += [(ids[i : i + 16], ids[i + 1 : i + 17]) for i in range(0, len(ids) - 1, 16)]
    windows = [window for split in ("train", "validation", "test") for window in every(task, split)]
    kept = [(x.tolist(), y[y != IGNORED].tolist()) for x, y in windows]
    assert sorted(y for _, y in kept) == sorted(y for _, y in expected)
    assert all(x.tolist()[1:n] == y.tolist()[: n - 1] for x, y in windows for n in [int((y != IGNORED).sum())])
    assert sorted(x[0] for x, _ in kept) == sorted(x[0] for x, _ in expected)
    assert task.vocabulary == own.get_vocab_size()
    assert text_task(folder, own, window=16).digest == task.digest


def uniform(task):
    inputs, targets = next(task.validation.batches(1000))
    return torch.zeros(*inputs.shape, task.classes), targets


def test_bits_per_byte_count_the_bytes_of_the_targets(folder):
    own = byte_bpe(special=["<|end|>"])
    logits, targets = uniform(text_task(folder, own, window=16))
    by_token, by_byte = (
        text_task(folder, own, window=16, metric=m).score() for m in ("nats_per_token", "bits_per_byte")
    )
    for start in range(0, len(logits), 3):
        by_token.update(logits[start : start + 3], targets[start : start + 3])
        by_byte.update(logits[start : start + 3], targets[start : start + 3])
    vocabulary = own.get_vocab()
    inverse = {index: name for name, index in vocabulary.items()}
    alphabet = tokenizers.decoders.ByteLevel()
    kept = targets[targets != IGNORED].tolist()
    exact = sum(len(inverse[t]) for t in kept)
    assert len(alphabet.decode([inverse[t] for t in kept]).encode()) == pytest.approx(exact, rel=0.01)
    assert by_token.compute() == pytest.approx(log(len(vocabulary)), rel=1e-5)
    assert by_byte.compute() == pytest.approx(len(kept) * log2(len(vocabulary)) / exact, rel=1e-5)


@pytest.mark.parametrize("text", ["größe ☕ naïve", "a b  c\n\n", "<|end|> x"])
def test_byte_counts_add_up_to_the_text(text):
    own = tokenizer_of(byte_bpe(special=["<|end|>"]), lambda: iter(()), str)
    (ids,) = own.encode([text])
    assert own.byte_counts[ids].sum() == len(text.encode())


def test_tokens_that_lose_text_have_no_bits_per_byte(folder):
    pieces = {"[UNK]": 0, "print": 1, "##s": 2}
    own = tokenizers.Tokenizer(tokenizers.models.WordPiece(pieces, unk_token="[UNK]"))
    own.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    with pytest.raises(UserError, match="bytes of the text, so bits per byte would be of another text"):
        text_task(folder, own, metric="bits_per_byte")


def test_a_text_is_neither_cut_nor_given_special_tokens():
    own = byte_bpe(special=["[CLS]"])
    own.enable_truncation(5)
    own.enable_padding(length=9)
    own.post_processor = tokenizers.processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 0)])
    (ids,) = tokenizer_of(own, lambda: iter(()), str).encode(["for i in range(10): pass"])
    assert own.decode(ids) == "for i in range(10): pass"


def test_a_trained_tokenizer_has_seen_the_training_split_alone(folder):
    text_task(folder, "bpe:280", window=16)
    held_out = files_in(text_task(folder, window=64).validation, decode_bytes)
    for file in folder.rglob("*.py"):
        if file.stem in held_out:
            file.write_text("z" * file.stat().st_size)
    text_task(folder, "bpe:280", window=16)
    assert len(list((folder.parent / "cache/tokenizers").iterdir())) == 1
    assert text_task(folder, "bpe:290", window=16).vocabulary == 290


def test_encoding_goes_on_where_it_was_interrupted(folder, monkeypatch):
    monkeypatch.setattr(token_files, "MOST_BYTES", 4000)
    own = tokenizer_of(byte_bpe(), lambda: iter(()), str)
    parts = [token_files.Part(f, 0, f.stat().st_size) for f in sorted(folder.rglob("*.py"))]
    calls = []

    class Killed(Exception):
        pass

    def encode(texts):
        if len(calls) == 3:
            raise Killed
        calls.append(len(texts))
        return own.encode(texts)

    broken = token_files.Tokenizer(own.name, own.vocabulary, own.digest, encode, own.byte_counts)
    with pytest.raises(Killed):
        token_files.encoded(parts, broken)
    written = set((folder.parent / "cache/tokens").glob("*.uint16"))
    assert len(written) == 3
    before = {file: file.stat().st_mtime_ns for file in written}
    result = token_files.encoded(parts, own)
    assert {file: file.stat().st_mtime_ns for file in written} == before
    assert len(result.parts) == 30
    assert result.bytes == result.covered == sum(f.stat().st_size for f in folder.rglob("*.py"))
    calls[:] = [0, 0, 0]
    assert token_files.encoded(parts, broken) == result  # nothing is left to encode


def test_a_long_file_is_cut_after_a_line(folder, monkeypatch):
    monkeypatch.setattr(token_files, "MOST_BYTES", 300)
    file = max(folder.rglob("*.py"), key=lambda f: f.stat().st_size)
    texts = list(token_files.texts_of([token_files.Part(file, 0, file.stat().st_size)]))
    assert "".join(texts) == file.read_text()
    assert all(text.endswith("\n") and len(text.encode()) <= 300 for text in texts[:-1])


@dataclass
class Output:
    logits: Tensor
    cache: Tensor


class Llama(nn.Module):
    def __init__(self, bare):
        super().__init__()
        self.table, self.head, self.bare = nn.Embedding(300, 8), nn.Linear(8, 300), bare

    def forward(self, input_ids):
        logits = self.head(self.table(input_ids))
        return logits if self.bare else Output(logits, logits[:0])


def test_nets_of_transformers_and_of_our_own(folder):
    task = text_task(folder, "bpe:300", window=16)
    torch.manual_seed(0)
    own, other = Llama(True), Llama(False)
    other.load_state_dict(own.state_dict())
    assert nas.evaluate(own, task) == nas.evaluate(other, task) > 1


@pytest.mark.parametrize("metric", ["nats_per_token", "bits_per_byte"])
def test_the_contract_of_a_task_of_tokens(folder, metric):
    task = text_task(folder, "bpe:300", window=16, metric=metric)
    checks = nas.testing.task_checks(task)
    assert task.metric.better == "min"
    assert "tokenizers" in task.preprocessing  # it says which file holds the tokenizer
    for name in checks:
        if name not in ("the_default_space_learns", "an_epoch_shows_every_sample_once", "splits_are_disjoint"):
            checks[name]()


def test_several_paths_and_options_of_the_command(folder):
    name = f"text:{folder}/part0,{folder}/part1?window=32&tokenizer=bpe:300&metric=bits_per_byte&validation=3"
    task = load_task(name)
    assert task.name == name
    assert (task.input_shape, task.vocabulary, task.validation.size) == ((32,), 300, 3)
    assert task.metric.text(1.5) == "1.5"
    comma = folder / "a,b"
    comma.mkdir()
    (comma / "x.txt").write_text("some text " * 300)
    assert len(every(load_task(f"text:{comma}"), "train")) == 2400 // 64 + 1


WRONG = {
    "text:{}?windows=3": "unknown option of task 'text' 'windows'; valid: window",
    "text:{}?window=x": "window must be a whole number",
    "text:{}?window=0": "window must be at least 1, got 0",
    "text:{}?metric=ppl": "unknown metric of text 'ppl'; valid: ",
    "text:{}?tokenizer=bpe:9": "bpe:SIZE with 257 to",
    "text:{}?tokenizer=/nowhere": "is no tokenizer.json",
    "text:{}/part0,/nowhere": "/nowhere is no file or folder",
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_words(folder, name):
    with pytest.raises(UserError, match=WRONG[name]):
        load_task(name.format(folder))


def test_a_file_that_is_no_tokenizer(folder):
    (folder.parent / "tokenizer.json").write_text(json.dumps({"model": 3}))
    with pytest.raises(UserError, match="is not a tokenizer of the package"):
        text_task(folder, folder.parent)


# Large vocabularies


def test_as_many_tokens_as_places_are_not_mixed_up(folder):
    task = text_task(folder, window=256)
    _, targets = next(task.train.batches(4))
    logits = 100 * torch.nn.functional.one_hot(targets.clamp(min=0), 256).float()
    assert task.loss_of(logits, targets) < 1e-6


@pytest.mark.parametrize("name", ["kl", "alpha"])
def test_losses_in_chunks_are_those_of_the_whole(folder, monkeypatch, name):
    task = text_task(folder, window=16)
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(3, 16, 256, generator=generator) for _ in range(2))
    targets = torch.randint(256, (3, 16), generator=generator)
    targets[1, 5:] = IGNORED

    def value_and_gradient():
        own = student.clone().requires_grad_()
        loss = task.loss_of(own, targets, 0.1) + distilled(name, own, teacher, targets, task)
        return [loss.detach(), *torch.autograd.grad(loss, own)]

    whole = value_and_gradient()
    for module in (rows, __import__("nas.tasks.outputs", fromlist=["x"])):
        monkeypatch.setattr(module, "MOST_LOGITS", 5 * 256)
    for one, other in zip(value_and_gradient(), whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
    assert whole[1][1, 5:].abs().max() == 0  # what is ignored teaches nothing
    assert torch.isfinite(cross_entropy(student, targets))
