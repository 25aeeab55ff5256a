"""What the generated synchronous classes share: the asynchronous object, and the thread that runs it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, NoReturn, ParamSpec, Self, TypeVar

from tercet.client.grouped import Arriving, Grouped
from tercet.client.loop_thread import LoopThread, loop_thread

InnerT = TypeVar("InnerT")
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
P = ParamSpec("P")


class Facade(Generic[InnerT]):
    """Of one asynchronous object. What keeps something open in a loop thread is bound to it, and useless after a fork."""

    _inner: InnerT
    _bound_thread: LoopThread | None = None
    _items: Items[Any] | None = None

    @classmethod
    def _of(cls, inner: InnerT, thread: LoopThread | None) -> Self:
        """thread: None for the process's own at the time of each call."""
        made = object.__new__(cls)
        made._inner = inner
        made._bound_thread = thread
        return made

    def __repr__(self) -> str:
        return repr(self._inner).replace(type(self._inner).__name__, type(self).__name__, 1)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} cannot be pickled or copied: make one in each process")

    @property
    def _thread(self) -> LoopThread:
        return self._bound_thread or loop_thread()

    def _run(self, coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
        return self._thread.run(coroutine)

    def _iterate(self, items: AsyncIterator[ItemT]) -> Items[ItemT]:
        return Items(items, self._thread)

    def _next_of(self, inner: AsyncIterator[ItemT]) -> ItemT:
        """For an `inner` that is an iterator itself."""
        if self._items is None:
            self._items = self._iterate(inner)
        item: ItemT = next(self._items)
        return item

    def _call(self, function: Callable[P, ResultT], *arguments: P.args, **options: P.kwargs) -> ResultT:
        return self._thread.call(function, *arguments, **options)


class Items(Generic[ItemT]):
    """An asynchronous iterator, one item at a time. Use it with `with`, or call `close`, to end it early."""

    def __init__(self, items: AsyncIterator[ItemT], thread: LoopThread) -> None:
        self._items = items
        self._thread = thread
        self._take_now: Callable[[], ItemT] | None = items.take_now if isinstance(items, Arriving) else None

    def __iter__(self) -> Iterator[ItemT]:
        return self

    def __next__(self) -> ItemT:
        if self._take_now is not None:
            self._thread.check()
            with suppress(IndexError):
                return self._take_now()
        try:
            return self._thread.run(_next(self._items))
        except StopAsyncIteration:
            raise StopIteration from None

    def __enter__(self) -> Items[ItemT]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        if isinstance(self._items, AsyncGenerator | Grouped):
            self._thread.run(_close(self._items))


async def _next(items: AsyncIterator[ItemT]) -> ItemT:
    return await anext(items)


async def _close(items: AsyncGenerator[ItemT, None] | Grouped[ItemT]) -> None:
    await items.aclose()
