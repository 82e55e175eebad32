"""RowValues put down batch by batch, in whatever order and by whichever process, stand in the order of the rows."""

from types import SimpleNamespace

import numpy as np
import pytest

from crysmm.training.predict import RowValues

ROWS = [7, 2, 9, 4]
ALONE = SimpleNamespace(gather=lambda part: [part])


def of_row(rows):
    return np.stack([np.array([row, 10.0 * row]) for row in rows])


def test_values_stand_in_the_order_of_the_rows():
    numbers = RowValues(ROWS, 2, 10)
    for batch in ([4, 9], [2], [7]):
        numbers.put(np.array(batch), of_row(batch))
    assert np.array_equal(numbers.gathered(ALONE), of_row(ROWS))


def test_rows_not_asked_for_are_left_out():
    numbers = RowValues(ROWS, 2, 10)
    numbers.put(np.arange(10), of_row(range(10)))
    assert np.array_equal(numbers.gathered(ALONE), of_row(ROWS))


def test_a_row_of_which_nothing_is_known_is_not_a_number():
    numbers = RowValues(ROWS, 2, 10)
    numbers.put(np.array([7, 9, 4]), of_row([7, 9, 4]))
    assert np.isnan(numbers.gathered(ALONE)).tolist() == [[False] * 2, [True] * 2, [False] * 2, [False] * 2]


@pytest.mark.parametrize("rank", [0, 1])
def test_all_processes_have_what_each_has_put_down(rank):
    processes = [RowValues(ROWS, 2, 10) for _ in range(2)]
    processes[0].put(np.array([7, 9]), of_row([7, 9]))
    processes[1].put(np.array([2, 4]), of_row([2, 4]))
    sent = []
    for process in processes:
        process.gathered(SimpleNamespace(gather=lambda part: sent.append(part) or [part]))
    assert [len(values) for _, values in sent] == [2, 2]
    assert np.array_equal(processes[rank].gathered(SimpleNamespace(gather=lambda part: sent)), of_row(ROWS))
