"""The scattering transform of images, many at a time.

The wavelets are kymatio's; its own front ends go through one path after another and take twenty
times as long. Here all angles are one array, the Fourier transforms are in single precision, and
the last low-pass filter, of which few points are kept, is two small matrix products.
"""

import functools
import os
from collections.abc import Callable

import numpy as np
from scipy import fft

_SCALES = 2
_ANGLES = 8
_SUBSAMPLING = 2**_SCALES
CHANNELS = 1 + _SCALES * _ANGLES + _ANGLES**2
SMALLEST_SIDE = 8
# Images of one channel in a chunk, which should stay in the cache.
_CHUNK = 8


def scattering(images: np.ndarray, progress: Callable[[int], object] | None = None) -> np.ndarray:
    """Returns the scattering coefficients of second order, over 2 scales and 8 angles.

    Bruna and Mallat 2013 (arXiv 1203.1513), as `kymatio.Scattering2D(J=2, L=8)` computes it, to
    1e-4.

    Args:
        images: [n, height, width, channels] float32; the sides are multiples of 4, at least 8.
        progress: Called with the number of images done, from time to time.

    Returns:
        float32 [n, channels * 81, height / 4, width / 4]; the first channel's 81 maps come first.
    """
    n, height, width, channels = images.shape
    transform = _transform(height, width)
    planes = np.moveaxis(images, 3, 1).reshape(n * channels, height, width)
    shape = (len(planes), CHANNELS, height // _SUBSAMPLING, width // _SUBSAMPLING)
    coefficients = np.empty(shape, np.float32)
    for start in range(0, len(planes), _CHUNK):
        part = slice(start, start + _CHUNK)
        coefficients[part] = transform(planes[part])
        if progress is not None:
            progress(min(start + _CHUNK, len(planes)) // channels)
    return coefficients.reshape(n, channels * CHANNELS, *shape[2:])


@functools.lru_cache(maxsize=2)
def _transform(height, width):
    return _Transform(height, width)


class _Transform:
    """The transform of planes of one size."""

    def __init__(self, height, width) -> None:
        from kymatio.scattering2d.filter_bank import filter_bank
        from kymatio.scattering2d.utils import compute_padding

        padded = compute_padding(height, width, _SCALES)
        bank = filter_bank(*padded, _SCALES, _ANGLES)
        # Each wavelet is real in Fourier space.
        fine, coarse = (
            np.array([psi["levels"][0] for psi in bank["psi"] if psi["j"] == j], np.float32)
            for j in range(_SCALES)
        )
        self._fine, self._coarse = fine, coarse
        # The Gaussian is the product of one over the rows and one over the columns.
        self._smooth = [
            _smoothing(response, level) for level, response in enumerate(bank["phi"]["levels"])
        ]
        self._pad = [
            ((total - size) // 2, (total - size + 1) // 2)
            for total, size in zip(padded, (height, width), strict=True)
        ]
        self._workers = len(os.sched_getaffinity(0))

    def __call__(self, planes):
        """Returns [n, 81, height / 4, width / 4] of planes [n, height, width]."""
        padded = np.pad(planes, [(0, 0), *self._pad], mode="reflect").astype(np.float32)
        spectrum = self._fft(padded)[:, np.newaxis]
        fine = np.abs(self._ifft(spectrum * self._fine))
        coarse = np.abs(self._ifft(_fold(spectrum * self._coarse)))
        inner = self._fft(fine)[:, :, np.newaxis]
        second = np.abs(self._ifft(_fold(inner * self._coarse)))
        n, *_, rows, columns = second.shape
        return np.concatenate(
            [
                self._average(padded[:, np.newaxis], 0),
                self._average(fine, 0),
                self._average(np.concatenate([coarse, second.reshape(n, -1, rows, columns)], 1), 1),
            ],
            axis=1,
        )

    def _fft(self, values):
        return fft.fft2(values, workers=self._workers)

    def _ifft(self, values):
        return fft.ifft2(values, workers=self._workers, overwrite_x=True)

    def _average(self, maps, level):
        down, across = self._smooth[level]
        return np.matmul(down, maps @ across.T)


def _fold(spectra):
    """Returns the spectra of signals of which every other row and column is kept."""
    *batch, rows, columns = spectra.shape
    half = spectra.reshape(*batch, 2, rows // 2, columns)
    half = (half[..., 0, :, :] + half[..., 1, :, :]).reshape(*batch, rows // 2, 2, columns // 2)
    return (half[..., 0, :] + half[..., 1, :]) * np.float32(0.25)


def _smoothing(response, level):
    """Returns the matrices over rows and over columns that smooth a map, thin it out and crop it.

    Args:
        response: [rows, columns] the Gaussian in Fourier space, of rank 1.
        level: How often the map has been halved.
    """
    left, scale, right = np.linalg.svd(response)
    if scale[1] > 1e-6 * scale[0]:
        raise ValueError("the low-pass filter is not a product over rows and columns.")
    root = np.sqrt(scale[0])
    # The two signs of a singular pair go together.
    return [_smoothing_along(root * left[:, 0], level), _smoothing_along(root * right[0], level)]


def _smoothing_along(response, level):
    """Returns the circulant matrix of a response, of which the kept points' rows are taken."""
    kernel = np.fft.ifft(response).real
    size = len(kernel)
    step = _SUBSAMPLING >> level
    # The first and the last point belong to the padding.
    kept = np.arange(step, size - step, step)
    return kernel[(kept[:, np.newaxis] - np.arange(size)) % size].astype(np.float32)
