"""Templates: what they lack is an error, and pages are escaped."""

import pytest
from jinja2 import UndefinedError

from pipeline.templates import rendered


def test_a_name_that_a_template_is_not_given_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="product"):
        rendered("pages/checksums.html.jinja", {"blocks": ()})


def test_pages_are_escaped_and_scripts_are_not() -> None:
    page = rendered("pages/checksums.html.jinja", {"product": "<&>", "blocks": ()})

    assert "<h1>Checksums of &lt;&amp;&gt;</h1>" in page
