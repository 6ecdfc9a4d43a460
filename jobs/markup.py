"""HTML and SVG as trees of elements: what users wrote can only ever become text in them."""

from __future__ import annotations

import base64
import re
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element

Child = Element | str | None
# What XML and HTML have no character for; a lone surrogate cannot be encoded either.
NO_CHARACTER = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def tag(name: str, *children: Child, **attributes: object) -> Element:
    """An element; `class_` and `stroke_width` are written class and stroke-width."""
    element = Element(name)
    for key, value in attributes.items():
        if value is not None:
            element.set(key.rstrip("_").replace("_", "-"), clean(value))
    return add(element, *children)


def add(element: Element, *children: Child) -> Element:
    """The element, with more inside it."""
    for child in children:
        if isinstance(child, Element):
            element.append(child)
        elif child:
            _append_text(element, clean(child))
    return element


def write(element: Element) -> str:
    """The HTML of an element."""
    return ET.tostring(element, encoding="unicode", method="html")


def data_uri(content: bytes, kind: str) -> str:
    """A picture or sound inside the page itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _append_text(element: Element, text: str) -> None:
    if len(element):
        element[-1].tail = (element[-1].tail or "") + text
    else:
        element.text = (element.text or "") + text


def clean(value: object) -> str:
    """Text without what no page and no JSON can hold."""
    return NO_CHARACTER.sub(REPLACEMENT, str(value))
