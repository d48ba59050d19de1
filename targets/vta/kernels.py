"""The loops of GEMM and ALU, compiled by numba for the lanes of a configuration.

One step works on whole vectors of `block` lanes (LLVM splits them into what the processor has). Products
of a GEMM step are summed in float32, which holds every such sum exactly: at most 32 * 2**14 < 2**24.
Additions into ACC wrap, so the order of a GEMM's steps changes nothing: micro-ops are the outer loop here,
and the weights of one stay in the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, register_jitable

OK, RANGE, UNWRITTEN, HAZARD, SHIFT = range(5)
UOP, WGT, INP, ACC = range(4)

ROWS = 7
"""Steps of a GEMM taken together where they share their weights: it divides the widths of most networks."""

MIN, MAX, ADD, SHR = range(4)
Status = tuple[int, int, int]
"""OK or what was wrong, the memory, the index in it."""
Kernel = Callable[..., Status]


@cache
def reset_kernel(batch: int, block: int) -> Kernel:
    """`reset(acc, uops, valid, out_valid, begin, end, outer, inner, factors) -> Status`: zeros into ACC."""

    def reset(
        acc: Any, uops: Any, valid: Any, out_valid: Any, begin: int, end: int, outer: int, inner: int, by: Any
    ) -> Status:
        status = _check(uops, valid, begin, end, outer, inner, by, (ACC, INP, WGT))
        if status[0] != OK:
            return status
        for u in range(begin, end):
            for i in range(outer):
                for j in range(inner):
                    d = uops[u, 0] + i * by[0] + j * by[1]
                    acc[d * batch * block : (d + 1) * batch * block] = 0
                    valid[ACC][d] = True
                    out_valid[d] = False
        return status

    kernel: Kernel = njit(reset)
    return kernel


@cache
def gemm_kernel(batch: int, block: int) -> Kernel:
    """`gemm(acc, inp, wgt, uops, valid, out_valid, begin, end, outer, inner, factors) -> Status`.

    acc int32, inp and wgt float32, all flat; a weight block is (in, out). uops (n, 3) int64: dst, src, wgt.
    valid: four boolean arrays, by memory. factors: dst_out, dst_in, src_out, src_in, wgt_out, wgt_in.
    """
    one, many = intrinsic(_multiply(block, 1)), intrinsic(_multiply(block, ROWS))

    def gemm(
        acc: Any,
        inp: Any,
        wgt: Any,
        uops: Any,
        valid: Any,
        out_valid: Any,
        begin: int,
        end: int,
        outer: int,
        inner: int,
        by: Any,
    ) -> Status:
        status = _check(uops, valid, begin, end, outer, inner, by, (ACC, INP, WGT))
        if status[0] != OK:
            return status
        size = batch * block
        for u in range(begin, end):
            for i in range(outer):
                j = 0
                while j < inner:
                    d = uops[u, 0] + i * by[0] + j * by[1]
                    s = uops[u, 1] + i * by[2] + j * by[3]
                    w = uops[u, 2] + i * by[4] + j * by[5]
                    # Steps that share their weights go several at a time.
                    rows = ROWS if by[5] == 0 and j + ROWS <= inner else 1
                    for r in range(rows):
                        if not (valid[ACC][d + r * by[1]] and valid[INP][s + r * by[3]] and valid[WGT][w]):
                            return _unwritten(valid, d + r * by[1], s + r * by[3], w)
                        out_valid[d + r * by[1]] = True
                    for b in range(batch):
                        at, of = d * size + b * block, s * size + b * block
                        if rows == 1:
                            one(acc, at, 0, inp, of, 0, wgt, w * block * block)
                        else:
                            many(acc, at, by[1] * size, inp, of, by[3] * size, wgt, w * block * block)
                    j += rows
        return status

    kernel: Kernel = njit(gemm)
    return kernel


@cache
def alu_kernel(batch: int, block: int) -> Kernel:
    """`alu(acc, uops, valid, out_valid, begin, end, outer, inner, factors, op, use_imm, imm) -> Status`."""
    step = intrinsic(_operate(block))

    def alu(
        acc: Any,
        uops: Any,
        valid: Any,
        out_valid: Any,
        begin: int,
        end: int,
        outer: int,
        inner: int,
        by: Any,
        op: int,
        use_imm: int,
        imm: int,
    ) -> Status:
        status = _check(uops, valid, begin, end, outer, inner, by, (ACC, ACC))
        before, held, lanes, shifts = -1, valid[ACC], batch * block, op == SHR and not use_imm
        for i in range(outer if status[0] == OK else 0):
            for j in range(inner):
                for u in range(begin, end):
                    d = uops[u, 0] + i * by[0] + j * by[1]
                    s = uops[u, 1] + i * by[2] + j * by[3]
                    if s == before or not (held[d] and held[s]):
                        return _wrong_operands(held, d, s)
                    if shifts and not _are_shifts(acc, s * lanes, lanes):
                        return SHIFT, ACC, s
                    before = d
                    for b in range(batch):
                        step(acc, (d * batch + b) * block, (s * batch + b) * block, op, use_imm, imm)
                    out_valid[d] = True
        return status

    kernel: Kernel = njit(alu)
    return kernel


def _check(
    uops: Any, valid: Any, begin: int, end: int, outer: int, inner: int, by: Any, memories: Any
) -> Status:
    """Every micro-op was loaded, and no step's index passes its memory."""
    for u in range(begin, end):
        if not valid[UOP][u]:
            return UNWRITTEN, UOP, u
        for column in range(len(memories)):
            last = uops[u, column] + (outer - 1) * by[2 * column] + (inner - 1) * by[2 * column + 1]
            if last >= valid[memories[column]].size:
                return RANGE, memories[column], last
    return OK, 0, 0


def _unwritten(valid: Any, d: int, s: int, w: int) -> Status:
    """Which operand of a GEMM step was never written."""
    if not valid[ACC][d]:
        return UNWRITTEN, ACC, d
    if not valid[INP][s]:
        return UNWRITTEN, INP, s
    return UNWRITTEN, WGT, w


def _wrong_operands(held: Any, d: int, s: int) -> Status:
    """Which operand of an ALU step was never written; if both were, the step before wrote its `src`.

    The RTL's pipeline has not written it yet (an immediate operation has src = dst).
    """
    if not held[d]:
        return UNWRITTEN, ACC, d
    return (UNWRITTEN if not held[s] else HAZARD), ACC, s


def _are_shifts(acc: Any, first: int, lanes: int) -> bool:
    """Whether the lanes hold amounts on which the implementations agree."""
    wrong = 0
    for lane in range(first, first + lanes):
        wrong += acc[lane] < 0 or acc[lane] > 15
    return wrong == 0


for _function in (_check, _unwritten, _wrong_operands, _are_shifts):
    register_jitable(_function)


def _multiply(block: int, rows: int) -> Callable[..., Any]:
    """ACC[d:] += INP[s:] @ WGT[w:] for `rows` rows of `block` lanes that share their weights.

    Offsets count scalars; a row lies `by_d` and `by_s` behind the one before, and is added after it.
    """

    def step(context: Any, acc: Any, d: Any, by_d: Any, inp: Any, s: Any, by_s: Any, wgt: Any, w: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            def pointer(n: int, offset: Any) -> Any:
                data = context.make_array(signature.args[n])(context, builder, values[n]).data
                return builder.gep(data, [offset])

            def row(start: Any, stride: Any, r: int) -> Any:
                return builder.add(start, builder.mul(stride, _word(r)))

            floats, ints = ir.VectorType(ir.FloatType(), block), ir.VectorType(ir.IntType(32), block)
            inputs = [pointer(3, row(values[4], values[5], r)) for r in range(rows)]
            sums = _products(builder, inputs, pointer(6, values[7]), floats)
            for r, total in enumerate(sums):
                at = builder.bitcast(pointer(0, row(values[1], values[2], r)), ints.as_pointer())
                old = builder.load(at, align=4)
                builder.store(builder.add(old, builder.fptosi(total, ints)), at, align=4)
            return context.get_dummy_value()

        return types.void(acc, d, by_d, inp, s, by_s, wgt, w), generate

    return step


def _products(builder: Any, inputs: list[Any], weights: Any, floats: Any) -> list[Any]:
    """Each row of INP times the weight block, as vectors of float lanes."""
    sums = [ir.Constant(floats, [0.0] * floats.count)] * len(inputs)
    for k in range(floats.count):
        at = builder.bitcast(builder.gep(weights, [_word(k * floats.count)]), floats.as_pointer())
        row = builder.load(at, align=4)
        for r, start in enumerate(inputs):
            one = _splat(builder, builder.load(builder.gep(start, [_word(k)])), floats)
            product = builder.fmul(one, row, flags=("contract",))
            sums[r] = builder.fadd(product, sums[r], flags=("contract",))
    return sums


def _operate(block: int) -> Callable[..., Any]:
    """ACC[d:] = op(ACC[d:], imm or ACC[s:]), one row of `block` lanes; the offsets count scalars."""

    def step(context: Any, acc: Any, d: Any, s: Any, op: Any, use_imm: Any, imm: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, values[0]).data
            ints = ir.VectorType(ir.IntType(32), block)
            at, other = (builder.bitcast(builder.gep(data, [values[n]]), ints.as_pointer()) for n in (1, 2))
            x = builder.load(at, align=4)
            constant = _splat(builder, builder.trunc(values[5], ir.IntType(32)), ints)
            is_constant = builder.icmp_signed("!=", values[4], _word(0))
            y = builder.select(is_constant, constant, builder.load(other, align=4))
            builder.store(_result(builder, values[3], x, y, ints), at, align=4)
            return context.get_dummy_value()

        return types.void(acc, d, s, op, use_imm, imm), generate

    return step


def _result(builder: Any, op: Any, x: Any, y: Any, ints: Any) -> Any:
    """op(x, y) for vectors; a negative SHR amount shifts left."""
    zero, mask = ir.Constant(ints, [0] * ints.count), ir.Constant(ints, [31] * ints.count)
    right = builder.ashr(x, builder.and_(y, mask))
    left = builder.shl(x, builder.and_(builder.sub(zero, y), mask))
    result = builder.select(builder.icmp_signed("<", y, zero), left, right)
    others = {
        ADD: builder.add(x, y),
        MAX: builder.select(builder.icmp_signed(">", x, y), x, y),
        MIN: builder.select(builder.icmp_signed("<", x, y), x, y),
    }
    for code, value in others.items():
        result = builder.select(builder.icmp_signed("==", op, _word(code)), value, result)
    return result


def _splat(builder: Any, scalar: Any, kind: Any) -> Any:
    """A vector that holds `scalar` in every lane."""
    empty = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(empty, scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
    return builder.shuffle_vector(first, empty, zeros)


def _word(value: int) -> Any:
    return ir.Constant(ir.IntType(64), value)
