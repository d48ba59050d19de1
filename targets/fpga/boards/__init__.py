"""Boards that optc makes bitstreams for, one file each."""

from __future__ import annotations

from optc.models.errors import InputError
from optc.targets.fpga.boards.board import Board as Board
from optc.targets.fpga.boards.ulx3s_85f import ULX3S_85F

BOARDS = {board.name: board for board in (ULX3S_85F,)}


def board(name: str) -> Board:
    """The board of that name; `InputError` where there is none."""
    if name not in BOARDS:
        raise InputError(f"--board {name}: there is no such board; there are: {', '.join(BOARDS)}")
    return BOARDS[name]
