"""Work ahead of a loop: order, how far ahead, errors, and an end before all is done."""

import threading

import pytest

from ohem_tf.data.ahead import ahead


def test_results_come_in_order_and_are_computed_while_the_loop_is_busy():
    computed = [threading.Event() for _ in range(9)]

    def square(i):
        computed[i].set()
        return i * i

    found = []
    for i, result in enumerate(ahead(square, range(9), most=2)):
        if i + 2 < 9:
            assert computed[i + 2].wait(10)  # although the loop asks for no more yet
        assert not any(event.is_set() for event in computed[i + 3 :])
        found.append(result)
    assert found == [i * i for i in range(9)]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_items_than_may_wait(count):
    assert list(ahead(str, range(count), most=4)) == [str(i) for i in range(count)]


def test_an_error_comes_at_its_place_and_what_follows_is_not_computed():
    called = []

    def fail_at_three(i):
        called.append(i)
        if i == 3:
            raise ValueError("item 3")
        return i

    results = ahead(fail_at_three, range(100), most=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="item 3"):
        next(results)
    assert max(called) <= 5


def test_a_loop_that_ends_early_leaves_no_thread():
    before = threading.active_count()
    for _ in ahead(str, range(100)):
        break
    results = ahead(str, range(100))
    next(results)
    results.close()  # as Ctrl-C does
    assert threading.active_count() == before
