"""Pages: what they show, and that they are sound HTML without anything from elsewhere."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.ledger import Yanked
from pipeline.publish.projections.pages import readable_fingerprint, readable_size
from tests.factories import (
    FINGERPRINT,
    digest,
    later,
    make_event,
    make_nightly,
    make_view,
)
from tests.unit.publish.projections.histories import golden_view, text_of

TOP, PRODUCT, CHECKSUMS = "index.html", "pypy/index.html", "pypy/checksums.html"
PAGES = (TOP, PRODUCT, CHECKSUMS)
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """What of a page can be checked without a browser."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.problems: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        self.problems += [f"{tag} is not closed" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Check that it closes the last element."""
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"{tag} is closed out of turn")

    def handle_data(self, data: str) -> None:
        """Collect what is read."""
        if "style" not in self.open:
            self.text += data

    def values(self, attribute: str) -> list[str]:
        """Return the values of an attribute in all elements."""
        return [value for _, attrs in self.tags if (value := attrs.get(attribute)) is not None]

    def of(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of all elements of a kind."""
        return [attrs for name, attrs in self.tags if name == tag]


def product_page(*events: object) -> Page:
    """Return a product's page after *events*."""
    return Page(text_of(make_view(*events), PRODUCT))  # type: ignore[arg-type]


@pytest.mark.parametrize("key", PAGES)
def test_a_page_is_sound(key: str) -> None:
    text = text_of(golden_view(), key)

    page = Page(text)

    assert text.startswith("<!DOCTYPE html>\n")
    assert page.problems == []
    assert page.of("html") == [{"lang": "en"}]
    assert len(page.of("title")) == len(page.of("h1")) == len(page.of("main")) == 1
    assert all(attrs.get("scope") in {"col", "row"} for attrs in page.of("th"))
    ids = page.values("id")
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("key", PAGES)
def test_a_page_needs_nothing_from_elsewhere(key: str) -> None:
    page = Page(text_of(golden_view(), key))

    assert {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe"} == set()
    assert page.values("src") == []
    assert [link for link in page.values("href") if "://" in link] == []


def test_links_within_the_pages_lead_somewhere() -> None:
    view = golden_view()
    top, product = Page(text_of(view, TOP)), Page(text_of(view, PRODUCT))
    anchors = set(product.values("id"))

    within = [link[1:] for link in product.values("href") if link.startswith("#")]
    into = [link.split("#")[1] for link in top.values("href") if "#" in link]

    assert within
    assert into
    assert {*within, *into} <= anchors
    assert {
        label for attrs in product.of("section") if (label := attrs.get("aria-labelledby"))
    } <= anchors


def test_links_to_files_lead_to_the_files_of_the_store() -> None:
    page = product_page(make_event())

    name = "pypy3.11-v7.3.23"
    assert f"{name}/{name}-linux64.tar.gz" in page.values("href")
    assert f"{name}/SHA256SUMS.asc" in page.values("href")
    assert digest(f"{name}-linux64.tar.gz") in page.text
    assert "1.0 kB" in page.text


def test_releases_are_shown_newest_first() -> None:
    page = product_page(make_event(version="7.3.9"), make_event(version="7.3.10"))

    titles = [name for name in page.values("id") if name.startswith("pypy3.11-v")]
    assert titles == ["pypy3.11-v7.3.10", "pypy3.11-v7.3.9"]


def test_a_yanked_release_is_shown_with_day_and_reason() -> None:
    bad = make_event()

    page = product_page(bad, later(Yanked, bad, reason="segfaults"))

    assert "Yanked on 2026-11-21: segfaults" in page.text
    assert "Nothing is offered." in page.text


def test_a_staged_release_is_shown_as_such() -> None:
    page = product_page(make_event(staged=True))

    assert "pypy3.11-v7.3.23" in page.values("id")
    assert "Staged: complete, but not offered" in page.text
    assert "Nothing is offered." in page.text


def test_a_nightly_that_is_yanked_says_so() -> None:
    bad = make_nightly()

    assert "Yanked on" in product_page(bad, later(Yanked, bad)).text


def test_the_last_thirty_nightlies_are_shown_newest_first() -> None:
    page = product_page(*(make_nightly(188_000 + number) for number in range(35)))

    shown = [int(name.split("-")[-2]) for name in page.values("id") if "-nightly-" in name]
    assert shown == list(range(188_034, 188_004, -1))


def test_how_to_check_names_files_that_exist_and_the_key() -> None:
    page = product_page(make_event())

    assert readable_fingerprint(FINGERPRINT) in page.text
    assert "gpg --verify SHA256SUMS.asc SHA256SUMS" in page.text
    assert "/pypy/pypy3.11-v7.3.23/{pypy3.11-v7.3.23-linux64.tar.gz,SHA256SUMS," in page.text


def test_two_keys_are_both_named() -> None:
    page = product_page(make_event(version="7.3.22", fingerprint="F" * 40), make_event())

    assert page.text.count(" or ") >= 1
    assert readable_fingerprint("F" * 40) in page.text


@given(st.text(min_size=1, max_size=60).filter(str.strip))
def test_a_reason_is_shown_and_never_becomes_markup(reason: str) -> None:
    bad = make_event()
    harmless = product_page(bad, later(Yanked, bad, reason="x"))

    page = product_page(bad, later(Yanked, bad, reason=f"<b>{reason}</b>&amp;\"'"))

    assert page.tags == harmless.tags
    assert page.problems == []


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (1, "1 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_940, "999.9 kB"),
        (31_947_853, "31.9 MB"),
    ],
)
def test_sizes_are_for_people(size: int, text: str) -> None:
    assert readable_size(size) == text
