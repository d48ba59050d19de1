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
from numba.extending import intrinsic

OK, RANGE, UNWRITTEN, HAZARD, SHIFT = range(5)
"""What a kernel returns beside the index that was wrong."""
UOP, WGT, INP, ACC = range(4)

MIN, MAX, ADD, SHR = range(4)
Kernel = Callable[..., tuple[int, int, int]]


@cache
def gemm_kernel(batch: int, block: int) -> Kernel:
    """`gemm(acc, inp, wgt, uops, valid, out_valid, begin, end, loops) -> (code, memory, index)`.

    acc int32, inp and wgt float32, all flat; a weight block is (in, out). uops (n, 3) int64. valid: four
    boolean arrays by memory. loops: reset, iter_out, iter_in and the six factors.
    """
    step = intrinsic(_multiply(block))
    reach = njit(_reach)

    def gemm(
        acc: Any, inp: Any, wgt: Any, uops: Any, valid: Any, out_valid: Any, begin: int, end: int, loops: Any
    ) -> tuple[int, int, int]:
        reset, outer, inner, dst_out, dst_in, src_out, src_in, wgt_out, wgt_in = loops
        written_uop, written_wgt, written_inp, written_acc = valid
        for u in range(begin, end):
            if not written_uop[u]:
                return UNWRITTEN, UOP, u
            dst0, src0, wgt0 = uops[u, 0], uops[u, 1], uops[u, 2]
            last = reach(dst0, outer, inner, dst_out, dst_in)
            if last >= written_acc.size:
                return RANGE, ACC, last
            last = reach(src0, outer, inner, src_out, src_in)
            if last >= written_inp.size:
                return RANGE, INP, last
            last = reach(wgt0, outer, inner, wgt_out, wgt_in)
            if last >= written_wgt.size:
                return RANGE, WGT, last
            for i in range(outer):
                for j in range(inner):
                    d = dst0 + i * dst_out + j * dst_in
                    if reset:
                        for lane in range(d * batch * block, (d + 1) * batch * block):
                            acc[lane] = 0
                        written_acc[d] = True
                        out_valid[d] = False
                        continue
                    s = src0 + i * src_out + j * src_in
                    w = wgt0 + i * wgt_out + j * wgt_in
                    if not written_acc[d]:
                        return UNWRITTEN, ACC, d
                    if not written_inp[s]:
                        return UNWRITTEN, INP, s
                    if not written_wgt[w]:
                        return UNWRITTEN, WGT, w
                    out_valid[d] = True
                    for b in range(batch):
                        step(
                            acc, (d * batch + b) * block, inp, (s * batch + b) * block, wgt, w * block * block
                        )
        return OK, 0, 0

    kernel: Kernel = njit(gemm)
    return kernel


@cache
def alu_kernel(batch: int, block: int) -> Kernel:
    """`alu(acc, uops, valid, out_valid, begin, end, loops) -> (code, memory, index)`; see `gemm_kernel`.

    loops: op, use_imm, imm, iter_out, iter_in and the four factors.
    """
    step = intrinsic(_operate(block))
    reach = njit(_reach)

    def alu(
        acc: Any, uops: Any, valid: Any, out_valid: Any, begin: int, end: int, loops: Any
    ) -> tuple[int, int, int]:
        op, use_imm, imm, outer, inner, dst_out, dst_in, src_out, src_in = loops
        written_uop, _, _, written_acc = valid
        for u in range(begin, end):
            if not written_uop[u]:
                return UNWRITTEN, UOP, u
            last = max(
                reach(uops[u, 0], outer, inner, dst_out, dst_in),
                reach(uops[u, 1], outer, inner, src_out, src_in),
            )
            if last >= written_acc.size:
                return RANGE, ACC, last
        before = -1
        for i in range(outer):
            for j in range(inner):
                for u in range(begin, end):
                    d = uops[u, 0] + i * dst_out + j * dst_in
                    s = uops[u, 1] + i * src_out + j * src_in
                    if not written_acc[d]:
                        return UNWRITTEN, ACC, d
                    if not written_acc[s]:
                        return UNWRITTEN, ACC, s
                    # Immediates have src = dst, so one rule covers both: reading what the last step wrote.
                    if s == before and (use_imm or s != d):
                        return HAZARD, ACC, s
                    before = d
                    if op == SHR and not use_imm:
                        for lane in range(s * batch * block, (s + 1) * batch * block):
                            if acc[lane] < 0 or acc[lane] > 15:
                                return SHIFT, ACC, s
                    for b in range(batch):
                        step(acc, (d * batch + b) * block, (s * batch + b) * block, op, use_imm, imm)
                    out_valid[d] = True
        return OK, 0, 0

    kernel: Kernel = njit(alu)
    return kernel


def _reach(first: int, outer: int, inner: int, by_outer: int, by_inner: int) -> int:
    """The highest index of one micro-op's steps."""
    return first + (outer - 1) * by_outer + (inner - 1) * by_inner


def _multiply(block: int) -> Callable[..., Any]:
    """ACC[d:] += INP[s:] @ WGT[w:], one row of `block` lanes; the offsets count scalars."""

    def step(context: Any, acc: Any, d: Any, inp: Any, s: Any, wgt: Any, w: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            def pointer(n: int) -> Any:
                data = context.make_array(signature.args[n])(context, builder, values[n]).data
                return builder.gep(data, [values[n + 1]])

            acc_at, inp_at, wgt_at = pointer(0), pointer(2), pointer(4)
            floats, ints = ir.VectorType(ir.FloatType(), block), ir.VectorType(ir.IntType(32), block)
            sums = [ir.Constant(floats, [0.0] * block)] * 2  # two chains hide half the latency
            for k in range(block):
                one = _splat(builder, builder.load(builder.gep(inp_at, [_word(k)])), floats)
                row = builder.bitcast(builder.gep(wgt_at, [_word(k * block)]), floats.as_pointer())
                product = builder.fmul(one, builder.load(row, align=4), flags=("contract",))
                sums[k % 2] = builder.fadd(product, sums[k % 2], flags=("contract",))
            total = builder.fptosi(builder.fadd(*sums), ints)
            at = builder.bitcast(acc_at, ints.as_pointer())
            builder.store(builder.add(builder.load(at, align=4), total), at, align=4)
            return context.get_dummy_value()

        return types.void(acc, d, inp, s, wgt, w), generate

    return step


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
