"""Single modules of the RTL in Amaranth's own simulator: tokens, queues, bursts, memories, arbiter."""

from __future__ import annotations

import random
from typing import Any

import pytest

pytest.importorskip("amaranth", reason="needs pip install 'optc[fpga]'")

from streams import PAUSES, pauses, receiver, sender, simulate

from optc.targets.fpga.rtl.arbiter import Arbiter
from optc.targets.fpga.rtl.banks import Banks
from optc.targets.fpga.rtl.bursts import Bursts
from optc.targets.fpga.rtl.counter import LIMIT, TokenCounter
from optc.targets.fpga.rtl.fifo import SMALL, Fifo


def test_the_counter_counts_and_overflows_at_its_limit() -> None:
    counter = TokenCounter()

    async def bench(ctx: Any) -> None:
        level, noise = 0, random.Random(3)
        for step in range(3000):
            more = 0.9 if step < 1500 else 0.1  # up to the limit, then down to nothing
            give, take = noise.random() < more, noise.random() > more and level > 0
            ctx.set(counter.give, give)
            ctx.set(counter.take, take)
            assert ctx.get(counter.available) == (level > 0)
            assert ctx.get(counter.overflow) == (give and not take and level == LIMIT)
            await ctx.tick()
            level = min(level + give - take, LIMIT)
        assert level < 10

    simulate(counter, bench)


@pytest.mark.parametrize("depth", [1, 2, 5, 16, 17, 40])
@pytest.mark.parametrize("seed", PAUSES)
def test_a_queue_keeps_the_order(depth: int, seed: int | None) -> None:
    queue, found = Fifo(8, depth), list[int]()
    values = [random.Random(depth).randrange(256) for _ in range(150)]
    simulate(
        queue,
        sender(queue.write, values, pauses(seed)),
        receiver(queue.read, len(values), found, pauses(seed, 1)),
    )
    assert found == values


@pytest.mark.parametrize("depth", [1, 16, 17])
def test_a_queue_holds_its_depth(depth: int) -> None:
    queue = Fifo(8, depth)

    async def bench(ctx: Any) -> None:
        ctx.set(queue.write.valid, 1)
        taken = 0
        for _ in range(2 * depth + 4):
            (ready,) = (await ctx.tick().sample(queue.write.ready))[2:]
            taken += ready
        assert taken == depth + 2 * (depth > SMALL)  # two more behind a large one

    simulate(queue, bench)


Row = tuple[int, int, int, int, int]


def wanted_bursts(rows: Row, log: int, most: int) -> list[tuple[int, int]]:
    """(first word, how many follow) of the bursts of (dram, y, x, stride, kind), with plain loops."""
    dram, y_size, x_size, stride, _ = rows
    found = []
    for y in range(y_size if x_size else 0):
        first = ((dram + y * stride) << log) // 8
        end = -(-((dram + y * stride + x_size) << log) // 8)
        while first < end:
            stop = min(end, (first // most + 1) * most)
            found.append((first, stop - first - 1))
            first = stop
    return found


@pytest.mark.parametrize("logs", [(2, 4), (3, 6), (4, 8), (2, 9)])
@pytest.mark.parametrize(("most", "seed"), [(256, None), (32, 1), (256, 2)])
def test_rows_are_cut_where_bursts_must_end(logs: tuple[int, int], most: int, seed: int | None) -> None:
    noise = random.Random(most)
    rows = [(7, 1, 1, 1, 0), (254, 2, 2, 1, 1), (0, 0, 5, 1, 0), (9, 3, 0, 0, 1), (2**20 + 1, 1, 600, 1, 0)]
    for _ in range(40):
        kind = noise.randrange(2)
        words = noise.randrange(1, 600)
        x = max(1, (8 * words) >> logs[kind])
        rows.append((noise.randrange(2**20), noise.randrange(1, 4), x, noise.randrange(2**12), kind))
    bursts, found = Bursts(logs, most), list[Any]()
    names = ("dram", "y_size", "x_size", "x_stride", "kind")
    given = [dict(zip(names, row, strict=True), empty=0 in row[1:3]) for row in rows]
    wanted = [burst for row in rows for burst in wanted_bursts(row, logs[row[4]], most)]
    simulate(
        bursts,
        sender(bursts.rows, given, pauses(seed)),
        receiver(bursts.requests, len(wanted), found, pauses(seed, 1)),
    )
    assert [(burst.word, burst.more) for burst in found] == wanted


def test_banks_are_written_apart_and_read_two_cycles_later() -> None:
    banks = Banks(8, 4, 16)

    async def bench(ctx: Any) -> None:
        noise, model = random.Random(5), [0] * 8
        read: list[int] = []  # what the indices of the last cycles asked for
        for _ in range(400):
            index, where = noise.randrange(8), noise.randrange(8)
            enable, data = noise.randrange(16), noise.randrange(2**64)
            for port, value in (
                ("read_index", index),
                ("write_index", where),
                ("enable", enable),
                ("data", data),
            ):
                ctx.set(getattr(banks, port), value)
            read.append(model[index])  # a write in the same cycle is not seen yet
            await ctx.tick()
            mask = sum(0xFFFF << 16 * part for part in range(4) if enable >> part & 1)
            model[where] = model[where] & ~mask | data & mask
            if len(read) > 1:
                assert ctx.get(banks.value) == read[-2]

    simulate(banks, bench)


@pytest.mark.parametrize("seed", PAUSES)
def test_words_go_back_to_whoever_asked(seed: int | None) -> None:
    arbiter, noise = Arbiter(3), random.Random(10)
    asked = [[(noise.randrange(2**20), noise.randrange(4)) for _ in range(30)] for _ in range(3)]
    found: list[list[Any]] = [[], [], []]
    taken: list[tuple[int, int]] = []

    async def memory(ctx: Any) -> None:
        """Answers each burst with its words' addresses, in order."""
        bursts: list[Any] = []
        await receiver(arbiter.requests, 1, bursts, pauses(seed))(ctx)
        while bursts:
            burst = bursts.pop()
            taken.append((burst.word, burst.more))
            words = [{"data": burst.word + n, "last": n == burst.more} for n in range(burst.more + 1)]
            await sender(arbiter.beats, words, pauses(seed, 1))(ctx)
            if len(taken) < 90:
                await receiver(arbiter.requests, 1, bursts, pauses(seed))(ctx)

    benches = [memory]
    for n in range(3):
        requests = [{"word": word, "more": more} for word, more in asked[n]]
        count = sum(more + 1 for _, more in asked[n])
        benches.append(sender(getattr(arbiter, f"requests{n}"), requests, pauses(seed, n)))
        benches.append(receiver(getattr(arbiter, f"beats{n}"), count, found[n], pauses(seed, n)))
    simulate(arbiter, *benches)
    assert sorted(taken) == sorted(burst for client in asked for burst in client)
    for client, words in zip(asked, found, strict=True):
        assert [w.data for w in words] == [word + n for word, more in client for n in range(more + 1)]
