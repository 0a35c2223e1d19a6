"""The shape of COCO's documents (https://cocodataset.org/#format-data), as far as labels are read from them."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import ConfigDict, FailFast, Field, GetPydanticSchema, TypeAdapter, with_config
from pydantic_core import core_schema
from typing_extensions import TypedDict  # of pydantic, which takes no other before Python 3.12

from nanocv_cli.data.class_names import class_names
from nanocv_cli.errors import DataError
from nanocv_cli.foreign import read_json
from nanocv_cli.untrusted import printable

HINT = "mend it, or write the annotations again"
LARGEST_SIDE = 1_000_000  # pixels
FARTHEST = 1e9  # pixels from the image's corner; more is no measurement

Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Coordinate = Annotated[float, Field(ge=-FARTHEST, le=FARTHEST)]
Side = Annotated[int, Field(ge=1, le=LARGEST_SIDE)]


def _either(message: str, *choices: core_schema.CoreSchema) -> Any:
    """One of several types, told of as one where it is none of them."""
    union = core_schema.union_schema(list(choices), custom_error_type="either", custom_error_message=message)
    return GetPydanticSchema(lambda source, handler: union)


# Whole numbers by COCO; some programs write text.
Key = Annotated[
    int | str,
    _either(
        "should be a whole number or a text",
        core_schema.int_schema(strict=True, ge=-(2**63), le=2**63 - 1),
        core_schema.str_schema(strict=True, max_length=1000),
    ),
]
Flag = Annotated[
    int | bool | None,
    _either(
        "should be 0 or 1",
        core_schema.bool_schema(strict=True),
        core_schema.int_schema(strict=True, ge=0, le=1),
        core_schema.none_schema(),
    ),
]
STRICT = ConfigDict(strict=True, allow_inf_nan=False)


@with_config(STRICT)
class Image(TypedDict):
    """An entry of `images`."""

    id: Key
    file_name: Annotated[str, Field(max_length=4096)]
    width: Side
    height: Side


@with_config(STRICT)
class Category(TypedDict):
    """An entry of `categories`."""

    id: Whole
    name: str


@with_config(STRICT)
class Boxed(TypedDict):
    """An entry of `annotations` with a box: x, y, width, height in pixels."""

    image_id: Key
    category_id: Whole
    bbox: tuple[Coordinate, Coordinate, Coordinate, Coordinate]
    iscrowd: NotRequired[Flag]


@with_config(STRICT)
class Segmented(TypedDict):
    """An entry of `annotations` with a segmentation, which is looked at when it is drawn."""

    image_id: Key
    category_id: Whole
    segmentation: NotRequired[Any]
    iscrowd: NotRequired[Flag]


class _Document(TypedDict):
    images: Annotated[list[Image], FailFast()]
    categories: Annotated[list[Category], FailFast()]


@with_config(STRICT)
class BoxDocument(_Document):
    """A split's boxes."""

    annotations: Annotated[list[Boxed], FailFast()]


@with_config(STRICT)
class SegmentDocument(_Document):
    """A split's segments."""

    annotations: Annotated[list[Segmented], FailFast()]


_BOXES, _SEGMENTS = TypeAdapter(BoxDocument), TypeAdapter(SegmentDocument)


def read_boxed_document(path: Path) -> BoxDocument:
    """Reads one split's boxes.

    Raises:
        DataError: it is no such document; the message names file and place.
    """
    document = read_json(path, _BOXES, HINT)
    _check(document, path)
    return document


def read_segmented_document(path: Path) -> SegmentDocument:
    """Reads one split's segments; see `read_boxed_document`."""
    document = read_json(path, _SEGMENTS, HINT)
    _check(document, path)
    return document


def ordered_classes(path: Path, documents: Iterable[BoxDocument | SegmentDocument]) -> tuple[str, ...]:
    """The classes of all splits in the order of their numbers, a name that has several numbers once.

    Args:
        path: of the documents, for messages.
        documents: the splits.

    Raises:
        DataError: a name is none.
    """
    numbered = {(entry["id"], entry["name"]) for document in documents for entry in document["categories"]}
    return class_names(dict.fromkeys(name for _, name in sorted(numbered)), path)


def _check(document: _Document, path: Path) -> None:
    """What no type says: images and categories are told apart by their numbers."""
    for key in ("images", "categories"):
        twice = [number for number, count in Counter(entry["id"] for entry in document[key]).items() if count > 1]
        if twice:
            raise DataError(f"{path}: the id {printable(twice[0], 40)} stands twice in {key}", HINT)
    class_names(dict.fromkeys(entry["name"] for entry in document["categories"]), path)
