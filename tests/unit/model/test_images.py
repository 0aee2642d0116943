"""What the configuration says of images and registries: refused where it cannot be meant."""

import pytest
from pydantic import ValidationError

from pipeline.model.images import RegistryConfig
from tests.factories import changed
from tests.images import make_published_images


@pytest.mark.parametrize(
    ("repository", "host", "namespace"),
    [
        ("ghcr.io/owner", "ghcr.io", "owner"),
        ("127.0.0.1:5000", "127.0.0.1:5000", ""),
        ("registry.test/one/two", "registry.test", "one/two"),
    ],
)
def test_a_registry_has_a_host_and_a_place_there(
    repository: str, host: str, namespace: str
) -> None:
    config = RegistryConfig(repository=repository)

    assert (config.host, config.namespace) == (host, namespace)


@pytest.mark.parametrize("repository", ["localhost:5000/x", "127.0.0.1/x", "127.1.2.3:80"])
def test_plain_http_is_for_the_loopback(repository: str) -> None:
    assert RegistryConfig(repository=repository, plain_http=True).plain_http


@pytest.mark.parametrize(
    "repository", ["ghcr.io/owner", "localhost.evil.test/x", "127.0.0.1.evil.test", "10.0.0.1/x"]
)
def test_plain_http_is_for_nothing_else(repository: str) -> None:
    with pytest.raises(ValidationError, match="not on the loopback"):
        RegistryConfig(repository=repository, plain_http=True)


@pytest.mark.parametrize("line", ["3.11", "3", "2.7.18"])
def test_lines_are_numbers(line: str) -> None:
    (image, *_) = make_published_images(line=line)

    assert image.line == line


@pytest.mark.parametrize("line", ["", "edge", "3.", ".3", "3.x", "3-11"])
def test_a_line_without_an_order_is_refused(line: str) -> None:
    with pytest.raises(ValidationError):
        changed(make_published_images()[0], line=line)
