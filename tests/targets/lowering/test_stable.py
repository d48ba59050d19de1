from __future__ import annotations

from optc.targets.lowering.stable import OrderedSet, stable_ir


def test_addresses_become_numbers() -> None:
    text = '!1 = !{!"0x55aa", !0}\n!2 = !{!"0x55bb.w8.b0", !1}\n!3 = !{!"0x55aa.w8.b0", !1}\n; 0x55aa'
    other = text.replace("55aa", "77cc12").replace("55bb", "99dd").replace("; 0x77cc12", "; 0x55aa")
    assert stable_ir(text) == stable_ir(other)
    assert '"alias1.w8.b0"' in stable_ir(text) and "; 0x55aa" in stable_ir(text)


def test_a_set_in_order() -> None:
    items = OrderedSet()
    items.update(["b", "a"])
    items.add("c")
    items.add("b")
    taken = OrderedSet()
    taken.add("a")
    assert items - taken == ["b", "c"]
