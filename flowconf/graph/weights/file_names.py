"""The names of files of weights."""

INDEX = ".index.json"
"""The ending of an index of weights in several files."""
ENDINGS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", INDEX)
FOLDER_NAMES = (
    "model.safetensors",
    f"model.safetensors{INDEX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{INDEX}",
    "diffusion_pytorch_model.safetensors",
    "open_clip_model.safetensors",
)
"""The files of weights in the folders that other tools write, the preferred one first."""
