"""Views painted: windows of uint8 images and masks resized onto canvases, bilinear and by the nearest pixel.

On a CPU view by view, which stays in its cache. On a GPU all views of a batch at once: resizing is a product with a
matrix for each axis, whose rows are the filter's weights, so no launch and no wait depends on how many views there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nanocv_cli.data.augment import resize_to, sent
from nanocv_cli.data.labels.masks import IGNORED
from nanocv_cli.data.random_views import Rectangle, View

GREY = 114

Views = Sequence[Sequence[View]]


def paint_images(images: Tensor, views: Views, size: int) -> Tensor:
    """Canvases uint8 [N,size,size,3], grey where no view shows an image.

    Args:
        images: uint8 [n,S,S,3].
        views: of each canvas; they do not overlap.
        size: side of the canvases, pixels.
    """
    if images.device.type != "cpu":
        return AllAtOnce(views, images.shape[1], size, images.device).images(images)
    painted = images.new_empty((len(views), size, size, 3))
    for canvas, seen in zip(painted, views, strict=True):
        if not _covers(seen, size):
            canvas[:] = GREY
        for view in seen:
            _paint(images[view.source], view, canvas)
    return painted


def paint_masks(masks: Tensor, views: Views, size: int) -> Tensor:
    """Canvases uint8 [N,size,size] of masks uint8 [n,S,S], `IGNORED` where no view shows an image.

    Each value is that of its nearest pixel: none ever appears that the masks do not hold.
    """
    if masks.device.type != "cpu":
        return AllAtOnce(views, masks.shape[1], size, masks.device).masks(masks)
    painted = masks.new_empty((len(views), size, size))
    for canvas, seen in zip(painted, views, strict=True):
        if not _covers(seen, size):
            canvas[:] = IGNORED
        for view in seen:
            _paint_labels(masks[view.source], view, canvas)
    return painted


def _covers(views: Sequence[View], size: int) -> bool:
    """Whether a single view fills the whole canvas, so that no ground shows."""
    return len(views) == 1 and views[0].target == Rectangle(0, 0, size, size)


def _paint(image: Tensor, view: View, canvas: Tensor) -> None:
    """Paints one view of an image uint8 [S,S,3] onto a canvas uint8 [size,size,3], bilinear."""
    window, target = view.window, view.target
    seen = image[window.top : window.top + window.height, window.left : window.left + window.width]
    drawn = resize_to(seen.unsqueeze(0), target.height, target.width)[0]
    place = canvas[target.top : target.top + target.height, target.left : target.left + target.width]
    place.copy_(drawn.flip(1) if view.mirrored else drawn)


def _paint_labels(mask: Tensor, view: View, canvas: Tensor) -> None:
    """Paints one view of a mask uint8 [S,S] onto a canvas uint8 [size,size], each value that of its nearest pixel."""
    window, target = view.window, view.target
    seen = mask[window.top : window.top + window.height, window.left : window.left + window.width]
    drawn = F.interpolate(seen[None, None], (target.height, target.width), mode="nearest-exact")[0, 0]
    place = canvas[target.top : target.top + target.height, target.left : target.left + target.width]
    place.copy_(drawn.flip(1) if view.mirrored else drawn)


@dataclass(frozen=True)
class _Line:
    """One axis of every view, int64 [V,1] each.

    Attributes:
        window_start: pixels of the image.
        window: length, likewise.
        target_start: pixels of the canvas.
        target: length, likewise.
        mirrored: 0 or 1.
        is_smooth: 0 or 1, whether more than the two nearest pixels are blended where the view is shrunk.
    """

    window_start: Tensor
    window: Tensor
    target_start: Tensor
    target: Tensor
    mirrored: Tensor
    is_smooth: Tensor

    def places(self, size: int) -> tuple[Tensor, Tensor]:
        """Which places of its target a canvas's pixels are, and whether they are any: [V,size] each."""
        places = torch.arange(size, device=self.window.device) - self.target_start
        is_inside = (places >= 0) & (places < self.target)
        return torch.where(self.mirrored > 0, self.target - 1 - places, places), is_inside

    def weights(self, side: int, size: int) -> Tensor:
        """What each pixel of an image gives to each of a canvas, float32 [V,size,side]; rows sum to 1, outside to 0."""
        places, is_inside = self.places(size)
        scale = self.window / self.target
        centres = ((places + 0.5) * scale).unsqueeze(2)
        reach = torch.where(self.is_smooth > 0, scale.clamp(min=1.0), 1.0).unsqueeze(2)
        pixels = torch.arange(side, device=self.window.device) - self.window_start
        is_shown = ((pixels >= 0) & (pixels < self.window)).unsqueeze(1)
        weights = (1.0 - ((pixels + 0.5).unsqueeze(1) - centres).abs() / reach).clamp(min=0.0) * is_shown
        return weights / weights.sum(2, keepdim=True).clamp(min=1e-9) * is_inside.unsqueeze(2)

    def nearest(self, size: int) -> Tensor:
        """The pixel of an image nearest to each of a canvas, int64 [V,size]; any where none is shown."""
        places, _ = self.places(size)
        within = (2 * places + 1) * self.window // (2 * self.target)
        return self.window_start + torch.minimum(within.clamp(min=0), self.window - 1)


class AllAtOnce:
    """The views of a batch, painted together.

    Args:
        views: of each canvas.
        side: of the images, pixels.
        size: of the canvases, pixels.
        device: of the images.
    """

    def __init__(self, views: Views, side: int, size: int, device: torch.device) -> None:
        self._side, self._size, self._count = side, size, len(views)
        rows = [_row(canvas, view) for canvas, seen in enumerate(views) for view in seen]
        canvas, source, *columns = sent(torch.tensor(rows), device).unsqueeze(-1).unbind(1)
        self._canvas, self._source = canvas.view(-1), source.view(-1)
        left, width, target_left, target_width, top, height, target_top, target_height, mirrored, is_smooth = columns
        self._across = _Line(left, width, target_left, target_width, mirrored, is_smooth)
        self._down = _Line(top, height, target_top, target_height, torch.zeros_like(mirrored), is_smooth)

    def images(self, images: Tensor) -> Tensor:
        """See `paint_images`."""
        size, side = self._size, self._side
        seen = images.index_select(0, self._source).permute(0, 3, 1, 2).float()
        narrowed = seen.reshape(-1, 3 * side, side) @ self._across.weights(side, size).transpose(1, 2)
        drawn = self._down.weights(side, size).unsqueeze(1) @ narrowed.view(-1, 3, side, size)
        shown = torch.where(self._is_inside().unsqueeze(1), drawn.round_() - GREY, 0.0)
        canvases = shown.new_full((self._count, 3, size, size), GREY).index_add_(0, self._canvas, shown)
        return canvases.permute(0, 2, 3, 1).to(torch.uint8, memory_format=torch.contiguous_format)

    def masks(self, masks: Tensor) -> Tensor:
        """See `paint_masks`."""
        rows, columns = self._down.nearest(self._size), self._across.nearest(self._size)
        seen = masks[self._source.view(-1, 1, 1), rows.unsqueeze(2), columns.unsqueeze(1)]
        shown = torch.where(self._is_inside(), seen.int() - IGNORED, 0)
        canvases = shown.new_full((self._count, self._size, self._size), IGNORED)
        return canvases.index_add_(0, self._canvas, shown).to(torch.uint8)

    def _is_inside(self) -> Tensor:
        """Bool [V,size,size]."""
        (_, down), (_, across) = self._down.places(self._size), self._across.places(self._size)
        return down.unsqueeze(2) & across.unsqueeze(1)


def _row(canvas: int, view: View) -> tuple[int, ...]:
    window, target = view.window, view.target
    # As `resize_to` decides it.
    is_smooth = window.height >= 1.5 * target.height or window.width >= 1.5 * target.width
    return (
        canvas, view.source,
        window.left, window.width, target.left, target.width,
        window.top, window.height, target.top, target.height,
        int(view.mirrored), int(is_smooth),
    )  # fmt: skip
