"""The order of heads in PyTorch: against the authors' program, and against what must hold."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_checkpoint

from ggufrope.errors import ParameterError
from ggufrope.reference import ReferenceSpec

torch = pytest.importorskip("torch", reason="pip install 'ggufrope[torch]'")
pytest.importorskip("transformers", reason="pip install 'ggufrope[torch]'")

from ggufrope.reference import forward  # noqa: E402  (torch may be absent)
from ggufrope.reference.head_scores import OrderSpec, PromptOrder, outlier_counts, ratios_of_heads  # noqa: E402

CASES = {"mha_l23": "code", "mha_normal": "reverse", "mha_past_max": "code"}


def run(directory, ids, prompt, **spec):
    model = forward.load_reference(directory)
    order = PromptOrder(model, prompt, OrderSpec(**spec))
    return np.concatenate(list(forward.logits(model, [int(i) for i in ids]))), order


@pytest.mark.parametrize("case", CASES)
def test_authors_program_is_reproduced(shared, case):
    stored = np.load(shared / "oracles/mspoe_mha.npz")
    ids, answers = stored[f"{case}/input_ids"], stored[f"{case}/decode_tokens"]
    logits, found = run(shared / "oracles/mspoe_model_mha", [*ids, *answers], len(ids), order=CASES[case])
    for layer in (2, 3):
        shares = found.counts[layer].numpy() / len(ids)
        assert np.abs(shares - stored[f"{case}/L{layer}/outlier_fraction"]).max() < 1e-4
        assert np.abs(found.ratios[layer].numpy() - stored[f"{case}/L{layer}/ratio_of_head"]).max() < 1e-6
        if CASES[case] == "code":
            order = torch.argsort(-found.counts[layer], stable=True)
            assert order.tolist() == stored[f"{case}/L{layer}/head_order"].tolist()
    assert np.abs(logits[: len(ids)] - stored[f"{case}/logits"]).max() < 1e-4
    assert np.abs(logits[len(ids) :] - stored[f"{case}/decode_logits"]).max() < 1e-4


@pytest.mark.parametrize("kind", tiny_checkpoint.KINDS)
def test_given_ratios_do_what_the_order_did(kind, tmp_path):
    """The ratios that a prompt led to, given to ``HeadRotation``, rotate the same."""
    tiny_checkpoint.make(kind, tmp_path)
    ids = np.random.default_rng(3).integers(0, 96, 90)
    ordered, found = run(tmp_path, ids, 80, first_layer=1)
    ratios = ((1.0, 1.0), *(tuple(found.ratios[layer].tolist()) for layer in (1, 2)))
    model = forward.load_reference(tmp_path, ReferenceSpec(head_ratios=ratios))
    given = np.concatenate(list(forward.logits(model, ids.tolist())))
    assert np.abs(ordered - given).max() < 1e-4
    assert set(found.ratios) == {1, 2} and set(found.counts) == {0, 1, 2}


def test_counts_by_hand():
    """Attention of a token that sees one key at weight 20 and 19 at weight 1: the one is above 3 × mean."""
    keys = torch.zeros(20, 2, 4, dtype=torch.float64)
    keys[7, 0, 0] = 1
    query = torch.zeros(4, 4, dtype=torch.float64)
    query[0, 0], query[1, 0], query[2, 0] = np.log(20), np.log(3), np.log(20)
    assert outlier_counts(query, keys, 1.0).tolist() == [1, 0, 0, 0]  # heads 2 and 3 look at KV head 1
    assert outlier_counts(query, keys, 0.2).tolist() == [0, 0, 0, 0]


def test_orders_by_hand():
    scores = torch.tensor([3, 9, 9, 1])  # best first: 1, 2, 0, 3
    assert ratios_of_heads(scores, 1.2, 1.8, "code", "paper").tolist() == pytest.approx([1.4, 1.6, 1.2, 1.8])
    assert ratios_of_heads(scores, 1.2, 1.8, "rank", "paper").tolist() == pytest.approx([1.6, 1.2, 1.4, 1.8])
    assert ratios_of_heads(scores, 1.2, 1.8, "reverse", "code").tolist() == pytest.approx([1.65, 1.5, 1.35, 1.2])
    assert ratios_of_heads(scores[:1], 1.2, 1.8, "rank", "paper").tolist() == [1.2]


def test_hooks_can_be_taken_away(tmp_path):
    tiny_checkpoint.make("llama", tmp_path)
    model = forward.load_reference(tmp_path)
    ids = list(range(50))
    before = np.concatenate(list(forward.logits(model, ids)))
    order = PromptOrder(model, 50)
    assert not np.array_equal(np.concatenate(list(forward.logits(model, ids))), before)
    order.remove()
    assert np.array_equal(np.concatenate(list(forward.logits(model, ids))), before)


@pytest.mark.parametrize("wrong", [{"order": "best"}, {"spacing": "wide"}, {"group": "median"}])
def test_unknown_words_are_refused(wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong.values()))):
        OrderSpec(**wrong)
