"""How deep inside a region a pixel lies: the Euclidean distance transform, with the image border counting as an edge.

The deepest pixel is where a number sits (the mark allocation of Set-of-Mark, arXiv 2310.11441). It always lies on the
region itself, which a centroid or a box centre does not: think of a ring. Finding it exactly needs the exact distance
only of the few pixels that can be the deepest; which these are, a distance transform of blocks of pixels bounds.
"""

from __future__ import annotations

import cv2
import numpy as np

from .region import Region

_SMALL = 5_000  # crops up to so many pixels: the plain transform is as fast
_BLOCK = 4  # side of a block in pixels
_OFFSETS = np.indices((_BLOCK, _BLOCK)).reshape(2, 1, -1) - _BLOCK // 2  # from the middle pixel to each
_RADIUS = float(np.hypot(*_OFFSETS).max())
_DIAGONAL = float(np.hypot(_BLOCK - 1, _BLOCK - 1))
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
_PAIRS_PER_PIXEL = 4  # distances measured at most, for each pixel that the plain transform would look at
_CHAMFER = 0.98, 1.02  # a 5x5 chamfer mask (1, 1.4, 2.1969) gives 0.9825 to 1.0192 of the true distance
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
    """Row and column by the distance of every pixel."""
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).ravel()
    near = np.flatnonzero(depth > depth.max() - 1)
    squared = _whole(np.square(depth[near]))
    return _middle(near[squared == squared.max()], padded.shape[1])


def _whole(squared: np.ndarray) -> np.ndarray:
    """Squared distances as the whole numbers they are.

    OpenCV's roots differ in the last bit from call to call, and so would the choice among equals.
    """
    return np.rint(squared)


def _deepest_in_few(padded: np.ndarray) -> tuple[int, int]:
    """Row and column by the distance of the pixels that can be deepest; of all pixels where that saves nothing.

    Two pixels of two blocks are as far apart as the blocks are, give or take a diagonal. So the distance from a block
    to the nearest block that is not full bounds the depth of its pixels; an approximate distance will do, as its error
    is known. Blocks that cannot come up to the middle pixel of the best one are out. What is nearest to the others lies
    in a window around them, on the region's outline. In each of them one pixel c is measured against that outline. A
    pixel r away from c is at most r deeper, and what is nearest to it is at most 2 r farther from c than what is
    nearest to c. So few pixels and a part of the outline are left to compare.
    """
    blocks = cv2.distanceTransform(full_blocks(padded, _BLOCK), cv2.DIST_L2, cv2.DIST_MASK_5)
    most = float(blocks.max())
    least = _CHAMFER[0] * (most / _CHAMFER[1] - (_RADIUS + _DIAGONAL) / _BLOCK) - _ROUNDING
    if least <= 0:  # a block that is not full must not pass
        return _deepest_of_all(padded)
    row, column = (_BLOCK * index + _BLOCK // 2 for index in divmod(np.flatnonzero(blocks >= least), blocks.shape[1]))
    reach = int(_BLOCK * most / _CHAMFER[0] + _DIAGONAL) + _BLOCK
    top, left = max(int(row[0]) - reach, 0), max(int(column.min()) - reach, 0)
    window = padded[top : int(row[-1]) + reach, left : int(column.max()) + reach]
    exact = np.float32 if max(window.shape) <= 2048 else np.float64  # keeps the squares of coordinates
    edge_row, edge_column = divmod(np.flatnonzero(cv2.dilate(window, _CROSS) != window), window.shape[1])
    outline = _lifted(edge_row, edge_column, exact)
    middles = _lifted(row - top, column - left, exact)
    budget = _PAIRS_PER_PIXEL * padded.size
    if middles.shape[1] * outline.shape[1] > budget:
        return _deepest_of_all(padded)
    squared = _squared_distances(middles, outline)
    depth = np.sqrt(squared.min(axis=1))
    able = np.flatnonzero(depth >= depth.max() - (_RADIUS + _ROUNDING))
    near = squared[able] <= np.square(depth[able, None] + (2 * _RADIUS + _ROUNDING))
    outline = outline[:, near.any(axis=0)]
    if able.size * _BLOCK**2 * outline.shape[1] > budget:
        return _deepest_of_all(padded)
    row, column = (
        np.ravel(middle[able, None] + offset) for middle, offset in zip((row, column), _OFFSETS, strict=True)
    )
    depths = _squared_distances(_lifted(row - top, column - left, exact), outline).min(axis=1)
    deepest = depths == depths.max()
    return _middle(np.sort(row[deepest] * padded.shape[1] + column[deepest]), padded.shape[1])


def _lifted(row: np.ndarray, column: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
    """Row, column and the sum of their squares [3, n] of pixels."""
    lifted = np.empty((3, row.size), dtype)
    lifted[0], lifted[1], lifted[2] = row, column, row * row + column * column
    return lifted


def _squared_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[k, n] of lifted pixels [3, k] and [3, n]: |a|^2 - 2ab + |b|^2, with a product of matrices."""
    factors = np.ones_like(first)
    np.multiply(first[:2], -2, out=factors[:2])
    squared = factors.T @ second
    squared += first[2, :, None]
    return squared


def full_blocks(mask: np.ndarray, side: int) -> np.ndarray:
    """Which blocks of side x side pixels lie wholly inside a mask (0 or 1) [h, w]: uint8 [ceil(h/side), ceil(w/side)].

    A block that sticks out of the array is not inside.
    """
    kernel = np.ones((side, side), np.uint8)
    least = cv2.erode(mask, kernel, anchor=(0, 0), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.ascontiguousarray(least[::side, ::side])


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
    squared = _whole(np.square(cv2.distanceTransform(blocks, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)))
    count = max(1, spacing // side)
    rows, columns = (-(-length // count) for length in squared.shape)
    missing = rows * count - squared.shape[0], columns * count - squared.shape[1]
    squared = cv2.copyMakeBorder(squared, 0, missing[0], 0, missing[1], cv2.BORDER_CONSTANT, value=0)
    squares = squared.reshape(rows, count, columns, count).swapaxes(1, 2).reshape(rows, columns, -1)
    deepest = squares.max(axis=2)
    row, column = np.nonzero(4 * deepest >= deepest.max())
    inner_row, inner_column = np.divmod(squares[row, column].argmax(axis=1), count)
    order = np.argsort(-deepest[row, column], kind="stable")
    points = np.stack([column * count + inner_column, row * count + inner_row], axis=1)[order]
    return points * side + side // 2 - 1 + (region.x, region.y)
