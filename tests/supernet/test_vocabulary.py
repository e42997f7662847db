"""Trimmed vocabularies: the same tokens and logits of texts that are known, any other text still encoded, files."""

import json
from copy import deepcopy

import pytest
import torch

from nas.errors import UserError
from nas.supernet.adopt.tokens import trimmed
from nas.supernet.adopt.vocabulary import trim_vocabulary

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
CORPUS = ["the cat sat on the mat", "on the other hand the cats sit", "12 cats"]
MORE = ["a dog that barks", "über größe ☕", "notation and rotation, station", "thermometer hands other mats"]


def trained(kind):
    """A tokenizer of the kind, of 400 tokens at most, with a special token before each text."""
    library = tokenizers
    specials = ["<unk>", "<pad>", "<s>"]
    if kind == "wordpiece":
        own = library.Tokenizer(library.models.WordPiece(unk_token="<unk>"))
        own.pre_tokenizer, own.decoder = library.pre_tokenizers.Whitespace(), library.decoders.WordPiece()
        trainer = library.trainers.WordPieceTrainer(vocab_size=400, special_tokens=specials, show_progress=False)
    elif kind == "unigram":
        own = library.Tokenizer(library.models.Unigram())
        own.pre_tokenizer, own.decoder = library.pre_tokenizers.Metaspace(), library.decoders.Metaspace()
        trainer = library.trainers.UnigramTrainer(
            vocab_size=200, special_tokens=specials, unk_token="<unk>", show_progress=False
        )
    else:
        own = library.Tokenizer(library.models.BPE())
        own.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        own.decoder = library.decoders.ByteLevel()
        alphabet = library.pre_tokenizers.ByteLevel.alphabet()
        trainer = library.trainers.BpeTrainer(
            vocab_size=400, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
        )
    own.train_from_iterator((CORPUS + MORE) * 5, trainer)
    start = own.token_to_id("<s>")
    own.post_processor = library.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", start)])
    return own


@pytest.fixture(scope="module", params=["bpe", "wordpiece", "unigram"])
def tokenizer(request):
    return trained(request.param)


def used_by(tokenizer, texts):
    return {index for text in texts for index in tokenizer.encode(text, add_special_tokens=False).ids}


def test_known_texts_are_encoded_as_before(tokenizer):
    content = json.loads(tokenizer.to_str())
    before = deepcopy(content)
    smaller, kept = trimmed(content, used_by(tokenizer, CORPUS))
    assert content == before
    own = tokenizers.Tokenizer.from_str(json.dumps(smaller))
    assert own.get_vocab_size() == len(kept) < tokenizer.get_vocab_size()
    assert kept == sorted(kept)
    for text in [*CORPUS, "the hand", "cats on the mat"]:
        old = tokenizer.encode(text)
        if set(old.ids) <= set(kept):
            new = own.encode(text)
            assert new.tokens == old.tokens
            assert [kept[index] for index in new.ids] == old.ids
    assert own.encode("the cat").ids[0] == kept.index(tokenizer.token_to_id("<s>"))


def test_any_text_can_still_be_encoded(tokenizer):
    smaller, _ = trimmed(json.loads(tokenizer.to_str()), used_by(tokenizer, CORPUS))
    own = tokenizers.Tokenizer.from_str(json.dumps(smaller))
    for text in MORE:
        assert own.decode(own.encode(text).ids) == tokenizer.decode(tokenizer.encode(text).ids)


def test_no_merge_is_out_of_reach():
    tokenizer = trained("bpe")
    smaller, kept = trimmed(json.loads(tokenizer.to_str()), used_by(tokenizer, CORPUS))
    vocabulary = smaller["model"]["vocab"]
    made = {"".join(pair) for pair in smaller["model"]["merges"]}
    for pair in smaller["model"]["merges"]:
        assert {*pair, "".join(pair)} <= set(vocabulary)
    longer = {token for token in vocabulary if len(token) > 1 and token not in ("<unk>", "<pad>", "<s>")}
    assert longer == made
    assert sorted(vocabulary.values()) == list(range(len(kept)))


def net(kind, rows, **special):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = getattr(transformers, f"{kind.partition('For')[0].removesuffix('Model')}Config")
    model = getattr(transformers, kind)(config(vocab_size=rows, **sizes, **special)).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("kind", ["LlamaForCausalLM", "BertForMaskedLM", "BertModel"])
@pytest.mark.parametrize("tied", [True, False])
def test_logits_of_kept_tokens_are_those_of_before(kind, tied):
    tokenizer = trained("bpe")
    special = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": [2]} if kind.startswith("Llama") else {}
    model = net(kind, tokenizer.get_vocab_size() + 7, tie_word_embeddings=tied, **special)  # rows of no token are cut
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    result = trim_vocabulary(model, tokenizer, CORPUS)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    kept = result.kept
    assert result.model.config.vocab_size == len(kept) == result.model.get_input_embeddings().weight.shape[0]
    old, new = (torch.tensor([each.encode(CORPUS[1]).ids]) for each in (tokenizer, result.tokenizer))
    assert torch.equal(kept[new], old)
    with torch.no_grad():
        before, after = model(old)[0], result.model(new)[0]
    if kind == "BertModel":
        assert torch.equal(after, before)
        return
    assert torch.equal(after, before[..., kept])
    head = result.model.get_output_embeddings()
    assert (head.weight is result.model.get_input_embeddings().weight) == tied
    if special:
        assert kept[result.model.config.bos_token_id] == 2
        assert kept[torch.tensor(result.model.config.eos_token_id)].tolist() == [2]


def test_a_folder_of_transformers(tmp_path):
    backend = trained("bpe")
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", pad_token="<pad>", unk_token="<unk>"
    )
    model = net("LlamaForCausalLM", backend.get_vocab_size(), pad_token_id=1, bos_token_id=2)
    files = tmp_path / "text"
    files.mkdir()
    (files / "a.txt").write_text("\n".join(CORPUS))
    result = trim_vocabulary(model, wrapped, files)
    folder = result.save(tmp_path / "model")
    again = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    own = transformers.AutoTokenizer.from_pretrained(folder)
    assert len(own) == len(result.kept)
    new, old = own(CORPUS[0], return_tensors="pt").input_ids, wrapped(CORPUS[0], return_tensors="pt").input_ids
    assert torch.equal(result.kept[new], old)
    with torch.no_grad():
        assert torch.equal(again(new).logits, model(old).logits[..., result.kept])
    assert (own.bos_token, own.pad_token_id) == ("<s>", int((result.kept == 1).nonzero()))


def test_what_cannot_be_trimmed():
    with pytest.raises(UserError, match="only a fast tokenizer"):
        trim_vocabulary(torch.nn.Linear(2, 2), object(), CORPUS)
    with pytest.raises(UserError, match="only a model of transformers"):
        trim_vocabulary(torch.nn.Linear(2, 2), trained("bpe"), CORPUS)
