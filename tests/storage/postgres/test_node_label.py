"""The label of a machine, in the URL of a PostgreSQL store."""

from __future__ import annotations

import pytest

from waypost.errors import ConfigurationError
from waypost.storage.database_address import parse_address


@pytest.mark.parametrize("label", ["a", "rack-2", "a" * 32])
def test_a_label_is_taken_and_not_passed_to_the_driver(label: str) -> None:
    address = parse_address(f"postgresql://u@h/d?waypost_node_label={label}")
    assert address.node_label == label
    assert "label" not in address.dsn


@pytest.mark.parametrize("label", ["A", "1", "-a", "a.b", "a" * 33, "ä"])
def test_a_label_that_session_ids_can_not_carry_is_refused(label: str) -> None:
    with pytest.raises(ConfigurationError, match="waypost_node_label"):
        parse_address(f"postgresql://u@h/d?waypost_node_label={label}")
