"""How deep inside a region a pixel lies: the Euclidean distance transform, with the image border counting as an edge.

The deepest pixel is where a number sits (the mark allocation of Set-of-Mark, arXiv 2310.11441). It always lies on the
region itself, which a centroid or a box centre does not: think of a ring. Finding it exactly needs the exact distance
only of the few pixels that can be the deepest; which these are, a distance transform of blocks of pixels bounds.
"""

from __future__ import annotations

import cv2
import numpy as np

from .region import Region

_SMALL = 10_000  # crops up to so many pixels: the plain transform is as fast
_BLOCK = 4  # side of a block in pixels
_OFFSETS = np.indices((_BLOCK, _BLOCK), np.float32).reshape(2, -1) - _BLOCK // 2  # from the middle pixel to each
_RADII = np.hypot(*_OFFSETS)
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
_PAIRS_PER_PIXEL = 4  # distances measured at most, for each pixel that the plain transform would look at
_CHAMFER = 0.98  # least share of the true distance that a 5x5 chamfer mask (1, 1.4, 2.1969) gives: 0.9825
_ROUNDING = 1e-3  # far more than the error of a distance in float32


def deepest_point(region: Region) -> tuple[int, int]:
    """The pixel (x, y) farthest from the region's edge; of several, the middle one in reading order."""
    mask = region.mask
    if region.area == mask.size:
        row, column = _deepest_of_rectangle(*mask.shape)
    else:
        padded = cv2.copyMakeBorder(mask.view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        row, column = _deepest_in_few(padded) if mask.size > _SMALL else _deepest_of_all(padded)
        row, column = row - 1, column - 1
    return region.x + column, region.y + row


def _deepest_of_rectangle(height: int, width: int) -> tuple[int, int]:
    """Row and column in closed form: the deepest pixels of a rectangle are a rectangle in its middle."""
    depth = (min(height, width) + 1) // 2
    rows, columns = height - 2 * depth + 2, width - 2 * depth + 2
    row, column = divmod(rows * columns // 2, columns)
    return depth - 1 + row, depth - 1 + column


def _deepest_of_all(padded: np.ndarray) -> tuple[int, int]:
    """Row and column by the distance of every pixel.

    Squared distances are whole numbers. They are rounded to them, because OpenCV's roots differ in the last bit
    from call to call, and so would the choice among equals.
    """
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).ravel()
    near = np.flatnonzero(depth > depth.max() - 1)
    squared = np.rint(np.square(depth[near]))
    return _middle(near[squared == squared.max()], padded.shape[1])


def _deepest_in_few(padded: np.ndarray) -> tuple[int, int]:
    """Row and column by the distance of the pixels that can be deepest; of all pixels where that saves nothing.

    Two pixels of two blocks are as far apart as the blocks are, give or take `slack`. So the distance from a block to
    the nearest block that is not full bounds the depth of its pixels; an approximate distance will do, as its error is
    known. Blocks that cannot come up to the depth reached in the best one are out. In the others one pixel c is
    measured against the region's outline, which always holds the nearest pixel outside. A pixel r away from c is at
    most r deeper, and what is nearest to it is at most 2 r farther from c than what is nearest to c. So few pixels and
    a part of the outline are left to compare.
    """
    slack = np.sqrt(2) * (_BLOCK - 1) / _BLOCK + _ROUNDING
    blocks = cv2.distanceTransform(full_blocks(padded, _BLOCK), cv2.DIST_L2, cv2.DIST_MASK_5)
    budget = _PAIRS_PER_PIXEL * padded.size
    outline = _coordinates(np.flatnonzero(cv2.dilate(padded, _CROSS) != padded), padded.shape)
    best = _middles([int(blocks.argmax())], blocks.shape, outline.dtype)
    least = (np.sqrt(_squared_distances(best, outline).min()) / _BLOCK - slack) * _CHAMFER
    if not blocks.any() or least <= 0:  # a block that is not full must not pass
        return _deepest_of_all(padded)
    middles = _middles(np.flatnonzero(blocks >= least), blocks.shape, outline.dtype)
    if middles.shape[1] * outline.shape[1] > budget:
        return _deepest_of_all(padded)
    squared = _squared_distances(middles, outline)
    depth = np.sqrt(squared.min(axis=1))
    candidates = depth[:, None] + _RADII >= depth.max() - _ROUNDING
    reach = np.where(candidates.any(axis=1), np.square(depth + 2 * _RADII.max() + _ROUNDING), -1)
    outline = outline[:, (squared <= reach[:, None]).any(axis=0)]
    block, inner = np.nonzero(candidates)
    if block.size * outline.shape[1] > budget:
        return _deepest_of_all(padded)
    pixels = middles[:, block] + _OFFSETS[:, inner]
    depths = _squared_distances(pixels, outline).min(axis=1)
    row, column = pixels[:, depths == depths.max()].astype(int)
    return _middle(np.sort(row * padded.shape[1] + column), padded.shape[1])


def full_blocks(mask: np.ndarray, side: int) -> np.ndarray:
    """Which blocks of side x side pixels lie wholly inside a mask (0 or 1) [h, w]: uint8 [ceil(h/side), ceil(w/side)].

    A block that sticks out of the array is not inside.
    """
    kernel = np.ones((side, side), np.uint8)
    least = cv2.erode(mask, kernel, anchor=(0, 0), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.ascontiguousarray(least[::side, ::side])


def _coordinates(flat: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Rows and columns [2, n] of pixels given in reading order, in the smallest type that keeps their squares exact."""
    return np.array(np.divmod(flat, shape[1]), np.float32 if max(shape) <= 2048 else np.float64)


def _middles(flat: np.ndarray | list[int], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Rows and columns [2, n] of the middle pixel of blocks given in reading order."""
    return np.array(np.divmod(flat, shape[1]), dtype) * _BLOCK + _BLOCK // 2


def _squared_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[k, n] of pixels [2, k] and [2, n], as |a|^2 - 2ab + |b|^2."""
    left = np.array([*(-2 * first), np.ones_like(first[0]), np.square(first).sum(axis=0)])
    right = np.array([*second, np.square(second).sum(axis=0), np.ones_like(second[0])])
    return left.T @ right


def _middle(flat: np.ndarray, width: int) -> tuple[int, int]:
    row, column = divmod(int(flat[flat.size // 2]), width)
    return row, column


def deep_points(region: Region, spacing: int) -> np.ndarray:
    """Pixels (x, y) spread over the deep half of a region, deepest first: int [n, 2].

    The deepest of each square of `spacing` pixels, where it is at least half as deep as the region's deepest. Depth is
    that of blocks a quarter of the spacing wide.
    """
    padded = cv2.copyMakeBorder(region.mask.view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    side = max(1, spacing // 4)
    blocks = full_blocks(padded, side)
    if not blocks.any():
        side, blocks = 1, padded
    depth = cv2.distanceTransform(blocks, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    count = max(1, spacing // side)
    rows, columns = (-(-length // count) for length in depth.shape)
    depth = np.pad(depth, [(0, rows * count - depth.shape[0]), (0, columns * count - depth.shape[1])])
    squares = depth.reshape(rows, count, columns, count).swapaxes(1, 2).reshape(rows, columns, -1)
    deepest = squares.max(axis=2)
    row, column = np.nonzero(2 * deepest >= deepest.max())
    inner_row, inner_column = np.divmod(squares[row, column].argmax(axis=1), count)
    order = np.argsort(-deepest[row, column], kind="stable")
    points = np.stack([column * count + inner_column, row * count + inner_row], axis=1)[order]
    return points * side + side // 2 - 1 + (region.x, region.y)
