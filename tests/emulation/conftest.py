"""The emulated device of these tests: prepared once, with the limits and the cache of all tests."""

from __future__ import annotations

import pytest

from harness.devices import no_emulation
from harness.emulation.preparation import Prepared, prepare
from harness.settings import Settings
from tests.judging.conftest import environment  # noqa: F401

NEEDS_EMULATION = pytest.mark.skipif(no_emulation() is not None, reason=str(no_emulation()))


@pytest.fixture(scope="session")
def prepared() -> Prepared:
    """The device of this installation."""
    return prepare(Settings().prepared_dir)
