"""Which observations are images and which are vectors, and the sizes that images may have. Torch-free."""

from world_models.dreamer.config import DecoderConfig, DreamerConfig
from world_models.space import Spaces


def split_keys(spaces: Spaces) -> tuple[Spaces, Spaces]:
    """Vector keys and image keys, each in alphabetical order; all but images are vectors, whatever their shape."""
    ordered = {key: spaces[key] for key in sorted(spaces)}
    images = {key: space for key, space in ordered.items() if space.is_image}
    return {key: space for key, space in ordered.items() if key not in images}, images


def image_size(images: Spaces, stages: int) -> tuple[int, int]:
    """Common height and width of the image keys, checked to leave 3..16 pixels after `stages` halvings."""
    keys, sizes = ", ".join(map(repr, images)), {space.shape[:2] for space in images.values()}
    if len(sizes) > 1:
        raise ValueError(
            f"Observations {keys}: images must share a size, got {sorted(sizes)}; set environment.image_size."
        )
    ((height, width),) = sizes
    factor = 2**stages
    if any(n % factor or not 3 <= n // factor <= 16 for n in (height, width)):
        good = ", ".join(str(n * factor) for n in (3, 4, 6, 8, 16))
        raise ValueError(
            f"Observation {keys}: height and width of an image must be multiples of {factor} from {3 * factor} to "
            f"{16 * factor} (such as {good}), got {(height, width)}; set environment.image_size."
        )
    return height, width


def require_blocks(config: DecoderConfig) -> None:
    """Raises ValueError unless the image decoder can be built."""
    if (channels := config.depth * config.mults[-1]) % config.blocks:
        raise ValueError(
            f"decoder.blocks={config.blocks} must divide the channels of the first feature map, "
            f"decoder.depth * decoder.mults[-1] = {channels}; choose another number of blocks or depth."
        )


def require_learnable(spaces: Spaces, config: DreamerConfig) -> None:
    """Raises ValueError if no agent of this configuration can be built for these observations."""
    if images := split_keys(spaces)[1]:
        for stages in (len(config.encoder.mults), len(config.decoder.mults)):
            image_size(images, stages)
        require_blocks(config.decoder)
