"""The examples in the docstrings of protocols/ give what they say."""

import doctest
import importlib
import pkgutil

import pytest

import poseboard.protocols

MODULES = [module.name for module in pkgutil.walk_packages(poseboard.protocols.__path__, "poseboard.protocols.")]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_hold(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
