"""Values of threads, tasks, generators and context managers that hold blocks at the same time."""

import asyncio
import contextlib
import gc
import itertools
import threading

import pytest

from mmsn.models.context_local import ContextLocal


@pytest.fixture
def local():
    return ContextLocal()


def turns(local, value, count=3):
    """A generator that holds a value and says at each turn what it sees."""
    with local.use(value):
        for _ in range(count):
            yield local.get()


def test_blocks_nest(local):
    with local.use(1), local.use(2):
        assert local.get() == 2
        with local.use(3):
            assert local.get() == 3
        assert local.get() == 2
    assert local.get() is None


@pytest.mark.parametrize("order", sorted(set(itertools.permutations("aaabbb"))))
def test_generators_that_take_turns_see_their_own(local, order):
    generators = {"a": turns(local, "a"), "b": turns(local, "b")}
    assert [next(generators[name]) for name in order] == list(order)
    # They end in either order, and nothing is left over.
    for name in (order[0], "a", "b"):
        with contextlib.suppress(StopIteration):
            next(generators[name])
    assert local.get() is None


def test_generators_take_turns_inside_a_block(local):
    with local.use("outside"):
        first, second = turns(local, "a"), turns(local, "b")
        assert [next(first), next(second), next(first)] == ["a", "b", "a"]
        first.close()
        second.close()
        assert local.get() == "outside"


def test_a_block_inside_a_generators_turn_is_on_top(local):
    def holds():
        with local.use("a"):
            yield
            with local.use("inner"):
                seen.append(local.get())
            seen.append(call())
            yield

    def call():  # an ordinary function with a block of its own
        with local.use("called"):
            return local.get()

    seen = []
    first, second = holds(), turns(local, "b")
    next(first)
    next(second)
    next(first)
    assert seen == ["inner", "called"]
    assert next(second) == "b"


def test_a_generator_within_a_generator_inherits(local):
    def outer():
        with local.use("outer"):
            yield from (local.get() for _ in range(2))

    first, second = outer(), turns(local, "b")
    assert [next(first), next(second), next(first), next(second)] == ["outer", "b", "outer", "b"]


def test_a_context_manager_made_of_a_generator_holds_for_its_body(local):
    @contextlib.contextmanager
    def chosen(value):
        with local.use(value):
            yield

    with chosen(1), local.use(2), chosen(3):
        assert local.get() == 3
    with local.use(1), contextlib.ExitStack() as stack:
        stack.enter_context(local.use(2))
        stack.enter_context(chosen(3))
        assert local.get() == 3
    assert local.get() is None


def test_a_generator_that_is_given_up_lets_go(local):
    generator = turns(local, "a")
    next(generator)
    del generator
    gc.collect()
    assert local.get() is None


def test_a_generator_closed_by_another_thread_lets_go(local):
    generator = turns(local, "a")
    next(generator)
    thread = threading.Thread(target=generator.close)
    thread.start()
    thread.join()
    assert local.get() is None


def test_tasks_see_their_own_and_keep_what_they_started_with(local):
    async def task(value, count=3):
        with local.use(value):
            for _ in range(count):
                await asyncio.sleep(0)
                assert local.get() == value

    async def inherits():
        for _ in range(3):
            await asyncio.sleep(0)
            assert local.get() == "creator"

    async def main():
        with local.use("creator"):
            child = asyncio.create_task(inherits())
            await asyncio.sleep(0)
        await asyncio.gather(child, task("a"), task("b"))  # the creator's block is over

    asyncio.run(main())


def test_async_generators_of_one_task_see_their_own(local):
    async def turns(value):
        with local.use(value):
            for _ in range(3):
                await asyncio.sleep(0)
                yield local.get()

    async def main():
        first, second = turns("a"), turns("b")
        seen = [await anext(g) for g in (first, second, first, second, second, first)]
        assert seen == ["a", "b", "a", "b", "b", "a"]
        await first.aclose()
        await second.aclose()
        assert local.get() is None

    asyncio.run(main())
