"""Many texts can be parsed at once."""

from __future__ import annotations

import ast
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

from harness.syntax import parse_module

TEXT = "x = " + "+".join(f"f({i}, [{i}])" for i in range(400)) + "\n"


def test_threads_that_parse_at_the_same_time_do_not_disturb_each_other() -> None:
    expected = ast.dump(ast.parse(TEXT))
    with ThreadPoolExecutor(8) as pool:
        for tree in pool.map(parse_module, [TEXT] * 40):
            assert ast.dump(tree) == expected


def test_nor_do_those_that_parse_without_asking() -> None:
    expected = ast.dump(ast.parse(TEXT))
    stop = threading.Event()

    def rudely() -> None:
        while not stop.is_set():
            with contextlib.suppress(SystemError):
                ast.parse(TEXT)

    others = [threading.Thread(target=rudely) for _ in range(3)]
    for thread in others:
        thread.start()
    try:
        for _ in range(12):
            assert ast.dump(parse_module(TEXT)) == expected
    finally:
        stop.set()
        for thread in others:
            thread.join()
