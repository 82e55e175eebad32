"""Batch normalization in two processes against torch's own layer on the rows of both, and against sums by hand."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional

from crysmm.engines.normalization import BatchNorm, Multiplicity, count_rows, normalized, normalized_silu
from tests.forked import start


def work(rank, folder):
    """Normalize the rows of one of two processes; write the results to a file."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = {}
    for name, case in torch.load(folder / "cases.pt").items():
        rows, to_result = (case[key][rank].requires_grad_() for key in ("rows", "to_result"))
        norm = BatchNorm(rows.shape[1], eps=case["eps"]).double()
        norm.load_state_dict(case["state"], strict=False)
        count_rows(norm, case["is_counted"][rank])
        counts = case["counts"]
        multiplicity = None if counts is None else Multiplicity.of(counts[rank].numpy())
        apply = normalized_silu if case["activated"] else normalized
        result = apply(norm, rows, multiplicity=multiplicity)
        gradients = torch.autograd.grad((result * to_result).sum(), [rows, norm.weight, norm.bias])
        found[name] = [result.detach(), *gradients, norm.running_mean, norm.running_var]
    labels = BatchNorm(2, affine=False)
    found["labels"] = [labels(torch.tensor([[0.0, 1.0], [3.0, 5.0]]) if rank else torch.tensor([[6.0, 3.0]]))]
    torch.save(found, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@dataclass
class Case:
    """Rows of two processes, the gradients of their results, and the numbers of rows that each row represents."""

    sizes: tuple[int, int]
    merged: bool = False
    activated: bool = False
    is_counted: tuple[bool, bool] = (True, True)

    def inputs(self):
        generator = torch.Generator().manual_seed(7)
        random = [torch.randn(2, size, 3, dtype=torch.float64, generator=generator) for size in self.sizes]
        rows, to_result = ([pair[which] for pair in random] for which in (0, 1))
        counts = [1 + torch.arange(size) % 4 for size in self.sizes] if self.merged else None
        rows[1] = 3 * rows[1] + 2  # the processes differ in mean and spread
        if not self.is_counted[1]:
            rows[1], to_result[1] = rows[0][: self.sizes[1]].clone(), torch.zeros(self.sizes[1], 3, dtype=torch.float64)
        weight, bias = torch.tensor([[1.5, -0.5, 2.0], [0.1, 0.2, -0.3]], dtype=torch.float64)
        state = {"weight": weight, "bias": bias}
        return {"rows": rows, "to_result": to_result, "counts": counts, "state": state, "eps": 1e-5, **vars(self)}


CASES = {
    "rows": Case((5, 8)),
    "rows with silu": Case((5, 8), activated=True),
    "more rows than fit in the cache": Case((3, 40_000), activated=True),
    "merged rows": Case((6, 4), merged=True),
    "merged rows with silu": Case((6, 4), merged=True, activated=True),
    "one row each": Case((1, 1)),
    "no rows in one": Case((6, 0)),
    "no merged rows in one": Case((6, 0), merged=True, activated=True),
    "rows that repeat": Case((4, 2), is_counted=(True, False)),
    "rows that repeat, with silu": Case((4, 2), activated=True, is_counted=(True, False)),
    "one row in all": Case((1, 1), is_counted=(True, False)),
}
BY_HAND = {  # mean 3, variance 6, s = 3, x' = -1, 0, 1
    "rows": [torch.tensor([[0.0], [3.0]]).double(), torch.tensor([[6.0]]).double()],
    "to_result": [torch.tensor([[1.0], [0.0]]).double(), torch.tensor([[0.0]]).double()],
    "counts": None,
    "state": {"weight": torch.tensor([2.0]).double(), "bias": torch.tensor([5.0]).double()},
    "eps": 3.0,
    "is_counted": (True, True),
    "activated": False,
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Return the results of each of two processes for each case."""
    folder = tmp_path_factory.mktemp("two")
    torch.save({name: case.inputs() for name, case in CASES.items()} | {"by hand": BY_HAND}, folder / "cases.pt")
    printed = folder / "printed.txt"
    processes = [start(work, rank, folder, output=printed) for rank in range(2)]
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0], printed.read_text()
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_are_one_with_the_rows_of_both(found, name):
    case = CASES[name].inputs()
    counted = [rank for rank in range(2) if case["is_counted"][rank]]
    leaves = [rows.requires_grad_() for rows in case["rows"]]
    counts = case["counts"] or [torch.ones(len(rows), dtype=torch.int64) for rows in leaves]
    norm = nn.BatchNorm1d(3).double()
    norm.load_state_dict(case["state"], strict=False)
    copies = torch.cat([leaves[rank].repeat_interleave(counts[rank], 0) for rank in counted])
    norm.train(len(copies) > 1)
    results = norm(copies)
    results = functional.silu(results) if case["activated"] else results
    # the gradient of a row is the sum over its copies
    shares = torch.cat([(case["to_result"][r] / counts[r][:, None]).repeat_interleave(counts[r], 0) for r in counted])
    own = torch.autograd.grad((results * shares).sum(), [*(leaves[rank] for rank in counted), *norm.parameters()])
    for rank in counted:
        result, to_rows, _, _, running_mean, running_var = found[rank][name]
        before = sum(int(counts[other].sum()) for other in counted if other < rank)
        firsts = before + counts[rank].cumsum(0) - counts[rank]
        torch.testing.assert_close(result, results[firsts].detach(), rtol=0, atol=1e-10)
        torch.testing.assert_close(to_rows, own[counted.index(rank)], rtol=0, atol=1e-10)
        torch.testing.assert_close(running_mean, norm.running_mean, rtol=0, atol=1e-12)
        torch.testing.assert_close(running_var, norm.running_var, rtol=0, atol=1e-12)
    for place in (2, 3):  # to weight and bias: each process has the sum over its own rows, which are averaged later
        total = sum(found[rank][name][place] for rank in range(2))
        torch.testing.assert_close(total, own[place - 4], rtol=0, atol=1e-9)
    for place in (4, 5):
        assert torch.equal(found[0][name][place], found[1][name][place])


def test_rows_that_repeat_are_normalized_as_the_rows_they_repeat(found):
    for name in ("rows that repeat", "rows that repeat, with silu"):
        torch.testing.assert_close(found[1][name][0], found[0][name][0][:2], rtol=0, atol=1e-12)
        assert not found[1][name][1].any()


def test_by_hand(found):
    """With g = 1, 0, 0: to b = 1, to w = -1, to x = 2/3 (g - (1 - x') / 3)."""
    (first, second) = (ranks["by hand"] for ranks in found)
    for values, expected in zip(
        [*first[:4], *second[:4]],
        [[[3.0], [5.0]], [[2 / 9], [-2 / 9]], [-1.0], [1.0], [[7.0]], [[0.0]], [0.0], [0.0]],
        strict=True,
    ):
        torch.testing.assert_close(values, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)
    for running in (first[4:], second[4:]):
        torch.testing.assert_close(
            torch.cat(running), torch.tensor([0.3, 1.8], dtype=torch.float64), rtol=0, atol=1e-12
        )


def test_labels_without_weights(found):
    labels = torch.cat([found[1]["labels"][0], found[0]["labels"][0]])
    torch.testing.assert_close(labels.mean(0), torch.zeros(2), rtol=0, atol=1e-6)
    torch.testing.assert_close(labels.var(0, correction=0), torch.ones(2), rtol=0, atol=1e-4)
