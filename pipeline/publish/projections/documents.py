"""How documents are written: their types."""

from typing import Any, Final

from pipeline.model.base import pretty_json
from pipeline.publish.view import Document

JSON_TYPE: Final = "application/json"
TOML_TYPE: Final = "application/toml"
TEXT_TYPE: Final = "text/plain; charset=utf-8"
HTML_TYPE: Final = "text/html; charset=utf-8"


def json_document(value: Any) -> Document:
    """Return *value* as a document of JSON."""
    return Document(data=pretty_json(value), content_type=JSON_TYPE)


def text_document(text: str, content_type: str = TEXT_TYPE) -> Document:
    """Return *text* as a document."""
    return Document(data=text.encode(), content_type=content_type)
