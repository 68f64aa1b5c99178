"""Many texts can be parsed at once."""

from __future__ import annotations

import ast
from concurrent.futures import ThreadPoolExecutor

from harness.syntax import parse_module

TEXT = "x = " + "+".join(f"f({i}, [{i}])" for i in range(400)) + "\n"


def test_threads_that_parse_at_the_same_time_do_not_disturb_each_other() -> None:
    expected = ast.dump(ast.parse(TEXT))
    with ThreadPoolExecutor(8) as pool:
        for tree in pool.map(parse_module, [TEXT] * 200):
            assert ast.dump(tree) == expected
