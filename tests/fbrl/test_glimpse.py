"""Windows on an image, against hand-computed pixels and a naive reference."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from flowconf.fbrl.glimpse import Glimpse, View


def pixel(image: Tensor, x: float, y: float) -> float:
    """One bilinear sample of `image` [H, W] at pixel coordinates, black outside."""
    left, top = math.floor(x), math.floor(y)
    total = 0.0
    for column, across in ((left, 1 - (x - left)), (left + 1, x - left)):
        for row, down in ((top, 1 - (y - top)), (top + 1, y - top)):
            if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                total += across * down * float(image[row, column])
    return total


def naive(image: Tensor, at: Tensor, height: int, width: int, step: float) -> Tensor:
    """`Glimpse`, one sample at a time."""
    patches = torch.zeros(len(image), image.shape[1], height, width)
    for row in range(len(image)):
        x = (float(at[row, 0]) + 1) / 2 * (image.shape[3] - 1)
        y = (float(at[row, 1]) + 1) / 2 * (image.shape[2] - 1)
        for channel in range(image.shape[1]):
            for i in range(height):
                for j in range(width):
                    across, down = (j - (width - 1) / 2) * step, (i - (height - 1) / 2) * step
                    patches[row, channel, i, j] = pixel(image[row, channel], x + across, y + down)
    return patches


def test_a_glimpse_at_the_centre_of_an_odd_image_is_its_middle() -> None:
    image = torch.arange(35.0).view(1, 1, 5, 7)
    patch = Glimpse(3)(image, torch.zeros(1, 2))
    torch.testing.assert_close(patch[0, 0], image[0, 0, 1:4, 2:5])


def test_corners_are_at_minus_one_and_one_and_outside_is_black() -> None:
    image = torch.arange(1.0, 13.0).view(1, 1, 3, 4)
    upper_left = Glimpse(3)(image, torch.tensor([[-1.0, -1.0]]))[0, 0]
    lower_right = Glimpse(3)(image, torch.tensor([[1.0, 1.0]]))[0, 0]
    torch.testing.assert_close(upper_left, torch.tensor([[0.0, 0, 0], [0, 1, 2], [0, 5, 6]]))
    torch.testing.assert_close(lower_right, torch.tensor([[7.0, 8, 0], [11, 12, 0], [0, 0, 0]]), atol=1e-5, rtol=0)


def test_an_even_patch_lies_between_the_pixels() -> None:
    image = torch.arange(25.0).view(1, 1, 5, 5)
    patch = Glimpse(2)(image, torch.zeros(1, 2))[0, 0]
    torch.testing.assert_close(patch, torch.tensor([[9.0, 10], [14, 15]]))


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(("size", "step"), [([2, 5], 1), ([4, 3], 2.5), (1, 1), ([3, 3], 0.5)])
def test_a_glimpse_equals_the_naive_reference(rows: int, size: list[int] | int, step: float) -> None:
    generator = torch.Generator().manual_seed(rows)
    image = torch.rand(rows, 2, 6, 9, generator=generator)
    at = torch.rand(rows, 2, generator=generator) * 2.4 - 1.2
    height, width = (size, size) if isinstance(size, int) else size
    patch = Glimpse(size, step)(image, at)
    assert patch.shape == (rows, 2, height, width)
    torch.testing.assert_close(patch, naive(image, at, height, width, step), atol=1e-5, rtol=1e-4)


def test_a_view_is_a_glimpse_that_takes_the_location_first() -> None:
    image, at = torch.rand(2, 1, 8, 20), torch.rand(2, 2)
    assert torch.equal(View([4, 6])(at, image), Glimpse([4, 6])(image, at))


def test_one_block_serves_images_of_any_size() -> None:
    glimpse = Glimpse(3)
    for height, width in ((5, 5), (7, 31), (2, 2)):
        image = torch.rand(1, 1, height, width)
        patch = glimpse(image, torch.zeros(1, 2))
        torch.testing.assert_close(patch, naive(image, torch.zeros(1, 2), 3, 3, 1), atol=1e-5, rtol=0)


def test_gradients_reach_the_location_and_the_image() -> None:
    image = (torch.arange(7.0) * 2).expand(1, 1, 5, 7).clone().requires_grad_()
    at = torch.zeros(1, 2, requires_grad=True)
    Glimpse(3)(image, at).sum().backward()
    # A ramp of 2 a pixel, 9 samples, and 3 pixels from the centre to the edge.
    assert at.grad is not None
    torch.testing.assert_close(at.grad, torch.tensor([[2.0 * 9 * 3, 0.0]]))
    assert image.grad is not None
    assert image.grad.sum() == pytest.approx(9)


def test_there_is_nothing_to_save_and_nothing_to_train() -> None:
    assert Glimpse(3).state_dict() == {}
    assert list(View(3).parameters()) == []


def test_shapes_are_known_without_data() -> None:
    with FakeTensorMode():
        patch = Glimpse([3, 5], 2)(torch.empty(4, 1, 8, 8), torch.empty(4, 2))
    assert patch.shape == (4, 1, 3, 5)


def test_it_can_be_exported_for_any_batch() -> None:
    batch = torch.export.Dim("batch", min=1, max=64)
    example = (torch.rand(2, 1, 8, 8), torch.zeros(2, 2))
    exported = torch.export.export(Glimpse(3), example, dynamic_shapes=({0: batch}, {0: batch})).module()
    image, at = torch.rand(5, 1, 8, 8), torch.rand(5, 2)
    torch.testing.assert_close(exported(image, at), Glimpse(3)(image, at))


@pytest.mark.parametrize(("size", "step"), [(0, 1), ([3, 0], 1), (3, 0), (3, -1)])
def test_a_window_needs_a_size_and_a_step(size: list[int] | int, step: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        Glimpse(size, step)


def test_an_image_of_one_pixel_has_no_locations() -> None:
    with pytest.raises(ValueError, match="at least 2 x 2 pixels, got 1 x 5"):
        Glimpse(3)(torch.rand(1, 1, 1, 5), torch.zeros(1, 2))


def test_it_says_its_arguments() -> None:
    assert repr(Glimpse(8)) == "Glimpse([8, 8], step=1)"
