"""The bars of `benchmarks/compression.py`, and its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compression_measure import Row
from compression_pruning import HALVED, HALVES, ON_VTA
from compression_quantization import COMPARED, INT8, PEERS
from compression_tasks import NETWORKS

Bars = dict[str, bool]


def bars(part: str, rows: Sequence[Row]) -> Bars:
    """Each bar of `part`, and whether it holds; one whose rows are missing or failed does not."""
    mine = [r for r in rows if "error" not in r]
    failed = [r for r in rows if "error" in r and r["setting"].startswith("optc")]
    if part != "quantization":
        found = _OF_PART[part](mine) if part in _OF_PART else {}
        return found | ({"ours: no row failed": not failed} if part == "pruned" else {})
    found = _accuracy([r for r in mine if r["part"] == "paired"])
    for name in NETWORKS:
        found |= _quantized(name, [r for r in mine if r["part"] == part and r["network"] == name])
    return found


def _accuracy(paired: Sequence[Row]) -> Bars:
    """No worse than each peer's best in a paired test at 5%, wherever that peer has an int8 network."""
    found = {}
    for name in NETWORKS:
        for peer in PEERS:
            mine = [r for r in paired if (r["network"], r["peer"]) == (name, peer)]
            ok = bool(mine) and not (mine[0]["right"][0] < mine[0]["right"][1] and mine[0]["p"] < 0.05)
            found[f"{name}: no worse than {peer}'s best (paired, 5%)"] = ok
    return found


def _quantized(name: str, rows: Sequence[Row]) -> Bars:
    ours = [r for r in rows if r["setting"] in COMPARED]
    found: Bars = {}
    if name == "efficientnet-lite0":
        peers = [r["snr"] for r in rows if r["setting"].startswith(PEERS) and r["int8"] >= INT8]
        above = bool(ours and peers) and max(r["snr"] for r in ours) >= max(peers) + 1
        found[f"{name}: SNR 1 dB above the peers' best"] = above
        stretch = any(r["snr"] >= 20 and r["agreement"] >= 0.99 for r in ours)
        found[f"{name}, stretch: 20 dB and 99% agreement"] = stretch
    if name == "fashion-resnet":
        top = {r["setting"]: r["top1"] for r in rows}
        near = top.get("optc learnt, pow2", 0) >= top.get("optc learnt", 1) - 0.01
        found[f"{name}: pow2 within 1 point of free scales"] = near
        near = top.get("optc learnt, pow2", 0) >= top.get("optc learnt", 1) - 0.003
        found[f"{name}, stretch: pow2 within 0.3 point of free scales"] = near
    return found


def _speed(rows: Sequence[Row]) -> Bars:
    found = {}
    for name in NETWORKS:
        mine = [r for r in rows if r["network"] == name]
        ours = [r["milliseconds"] for r in mine if r["setting"] in COMPARED]
        static = [r["milliseconds"] for r in mine if r["setting"].startswith("onnxruntime")]
        ok = bool(ours and static) and min(ours) <= 1.03 * min(static)
        found[f"{name}: at most 1.03 of the time of quantize_static's fastest"] = ok
    return found


def _channels(rows: Sequence[Row]) -> Bars:
    gains = {r["network"]: r["of_mac_ratio"] for r in rows}
    return {f"{n}: gain at least {b} of the MAC ratio": gains.get(n, 0) >= b for n, b in HALVED.items()}


def _zeros(rows: Sequence[Row]) -> Bars:
    mine = [r for r in rows if r["setting"] == "prune{pattern=single,repair=weights}"]
    ok = bool(mine) and mine[0]["top1"] >= mine[0]["float_top1"] - 0.01
    return {"fashion-resnet: half the weights zero within 1 point": ok}


def _vta(rows: Sequence[Row]) -> Bars:
    ratios = {(r["network"], r["setting"]): r["ratio"] for r in rows if r["equal"]}
    return {
        f"{name}, {text}: at most 0.6 of the cycles, equal": ratios.get((name, text), 1) <= 0.6
        for name in ON_VTA
        for text in HALVES
    }


def _pruned(rows: Sequence[Row]) -> Bars:
    ours = {r["network"] for r in rows if r["pruned"] and r["setting"].startswith("optc")}
    theirs = {r["network"] for r in rows if r["pruned"] and r["setting"].startswith("onnxsim")}
    mine = [r for r in rows if r["setting"].startswith("optc")]
    sound = all(r["same_outputs"] and (r["macs"] < 1 or r["declined"]) for r in mine)
    return {
        "structured pruning: more networks pruned than by onnxsim": len(ours) > len(theirs),
        "structured pruning: each network pruned and running, or declined with a reason": bool(mine)
        and sound,
    }


def _equal_macs(rows: Sequence[Row]) -> Bars:
    ours = [r["top1"] for r in rows if r["setting"].startswith("optc")]
    theirs = [r["top1"] for r in rows if r["setting"].startswith("onnxsim")]
    ok = bool(ours) and max(ours) >= max(theirs, default=0)
    return {"fashion-resnet: accuracy at equal MACs no less than onnxsim's": ok}


_OF_PART = {
    "speed": _speed,
    "channels": _channels,
    "zeros": _zeros,
    "vta": _vta,
    "pruned": _pruned,
    "equal-macs": _equal_macs,
}


def table(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """What the parts' JSON files hold, in Markdown: all bars, then a table of rows a part."""
    lines = [
        "# Compression",
        "",
        "Made by `python benchmarks/compression.py`; the JSON of each part holds its conditions.",
        "",
    ]
    for found in parts.values():
        lines += [f"- {'holds' if ok else '**fails**'}: {bar}" for bar, ok in found["bars"].items()]
    for found in parts.values():
        for part in dict.fromkeys(r["part"] for r in found["rows"]):
            mine = [r for r in found["rows"] if r["part"] == part]
            keys = list(dict.fromkeys(k for r in mine for k in r if k != "part"))
            lines += ["", f"## {part}", "", "| " + " | ".join(keys) + " |", "|" + " --- |" * len(keys)]
            lines += ["| " + " | ".join(_cell(r.get(k, "")) for k in keys) + " |" for r in mine]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|")
